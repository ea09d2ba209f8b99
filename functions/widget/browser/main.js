// The widget, put together: reads its address, opens a session, draws the state, reports events.
//
// The modules of the first paint (this one and what it imports) are served as one file, so that a usable widget costs
// four requests: document, style sheet, this file, session. build.rs makes that file by a rule short enough to check by
// eye: the modules one after the other, imports between them and lines of pure comment left out. It refuses a
// top-level name that two of them share. Modules outside that file are imported when needed, and import none of it.

import { postSurvey, putForm, Refusal } from "./api.js";
import { readAddress } from "./context.js";
import { dress, readDesign } from "./design.js";
import { envelope, Reports } from "./events.js";
import { loadLanguage, pickLanguage, speak } from "./language.js";
import { Outlets } from "./outlets.js";
import { Session } from "./session.js";
import { step } from "./state.js";
import { isErrorCode, reportText, TEXTS } from "./texts.js";
import { kit, render } from "./view.js";

const MOST_DIGITS_SHOWN = 16;

const embed = readAddress(location);
const session = new Session({
  appId: embed.appId,
  widgetKey: embed.key,
  profileId: embed.profile,
  routingKey: embed.routingKey,
  context: embed.context,
  preview: embed.preview,
});
const reports = new Reports(session);
/** @type {import("./state.js").State} */
let state = { name: "loading" };
/** @type {import("./api.js").SessionAnswer | undefined} */
let opened;
/** @type {import("./call.js").Call | undefined} */
let live;

const outlets = new Outlets((name, data) => outlets.toPage(envelope({ name: `custom.${name}`, data }, embed.context)));
/**
 * What the visitor has told before a call, and in which session.
 * @type {{values: Record<string, string | boolean>, session?: string} | undefined}
 */
let told;

/** What visitors can do. */
const actions = {
  call,
  hangUp() {
    take({ type: "cancel" });
    live?.hangUp();
  },
  mute() {
    if (state.name !== "calling") return;
    const muted = !state.shown.muted;
    live?.mute(muted);
    take({ type: "shows", what: { muted } });
  },
  /** @param {"keypad" | "devices"} what */
  toggle(what) {
    if (state.name !== "calling") return;
    take({ type: "shows", what: { open: state.shown.open === what ? "" : what } });
  },
  /**
   * @param {"audioinput" | "audiooutput"} kind
   * @param {string} id
   */
  use: (kind, id) => live?.use(kind, id),
  /** @param {string} digit */
  press(digit) {
    if (state.name !== "calling") return;
    live?.press(digit);
    take({ type: "shows", what: { pressed: (state.shown.pressed + digit).slice(-MOST_DIGITS_SHOWN) } });
  },
  hear: () => live?.listen(),
  retry,
  skip: () => void take({ type: "skip" }),
  /** @param {import("./design.js").CustomButton} button */
  clicked({ label, action, value }) {
    take({ type: "button", label, action });
    if (action === "copy") void copy(value).then(say);
  },
};
/** @type {import("./view.js").Scene} */
const scene = { actions, design: readDesign() };

/**
 * @param {import("./state.js").Input} input
 * @returns {Promise<boolean> | undefined} whether the server has what there was to report
 */
function take(input) {
  const { state: next, report } = step(state, input);
  const changed = next !== state;
  state = next;
  if (changed) draw();
  if (!report) return undefined;
  const event = envelope(report, embed.context);
  outlets.tell(event);
  return report.known ? undefined : reports.send(event, report.id !== undefined);
}

/** @type {ReturnType<typeof setInterval> | undefined} */
let clock;

/** Draws the state, and again every second while a clock is to be seen. */
function draw() {
  render(state, scene);
  const running = state.name === "calling" && state.since !== undefined;
  if (running) clock ??= setInterval(() => render(state, scene), 1_000);
  else clock = void clearInterval(clock);
}

/**
 * @param {boolean} again whether this document has had a session before
 * @param {number} [pause] before a closed widget that could not ask asks again
 */
async function start(again, pause = 30_000) {
  const { languages } = navigator;
  // The document says which language the app is in, where that is known before there is a session.
  const guess = pickLanguage(embed.lang, document.documentElement.dataset.lang, languages);
  const guessed = loadLanguage(guess);
  try {
    opened = await session.open();
    const design = readDesign(opened.widget);
    scene.design = design;
    told = undefined;
    const language = pickLanguage(embed.lang, design.lang, languages);
    const file = await (language === guess ? guessed : loadLanguage(language));
    // An app's own words are in the app's language; visitors of another do not want them.
    speak(language, file, language === pickLanguage(undefined, design.lang, [language]) ? design.texts : {});
    dress(design.theme, embed.theme);
    outlets.open(design, embed.appId, embed.context);
    take({ type: "opened", open: opened.open, closed: opened.closed, isPreview: embed.preview !== false, again });
    if (opened.opensInMs) reopen(opened.opensInMs);
  } catch (error) {
    const refusal = error instanceof Refusal ? error : new Refusal(500, "unknown");
    if (state.name === "closed") return reopen(Math.max(refusal.retryAfterMs ?? 0, pause), pause * 2);
    speak(guess, await guessed, {});
    take({ type: "refused", code: startCode(refusal), requestId: refusal.requestId });
  }
}

/**
 * Asks for a session again when a closed widget opens; its screen stays until there is an answer.
 * @param {number} ms
 * @param {number} [pause]
 */
function reopen(ms, pause) {
  const before = state;
  const due = () => void (state === before && start(true, pause));
  void later("opening").then((loaded) => loaded?.whenDue(ms, due));
}

/**
 * Which start-up screen a refused session gets.
 * @param {Refusal} refusal
 */
function startCode({ status, type }) {
  if (status === 0) return "network_unreachable";
  if (type === "app_not_found" || type === "provider_inactive") return type;
  if (status === 401) return "wrong_key";
  if (status === 403) return "forbidden";
  if (status === 410) return "preview_expired";
  if (status === 429) return "rate_limited";
  return status >= 400 && status < 500 ? "wrong_settings" : "internal";
}

/** What is put behind the address of a module that did not come. @type {Record<string, string>} */
const anew = {};

/**
 * A module of later; nothing, when it does not come. Many browsers keep that for an answer about its address for as long as the
 * document lives (whatwg/html#6768): the next try has another address.
 * @param {"call" | "sheet" | "opening"} name
 * @returns {Promise<any>}
 */
const later = (name) => import(`./${name}.js${anew[name] ?? ""}`).catch(() => void (anew[name] = `?${Date.now()}`));

/**
 * Asks for what a sheet holds; it comes only to those who are asked anything.
 * @param {import("./design.js").Question[]} questions
 * @param {(sheet: import("./sheet.js").Sheet, loaded: typeof import("./sheet.js")) => Promise<unknown>} send
 */
async function ask(questions, send) {
  /** @type {typeof import("./sheet.js") | undefined} */
  const loaded = await later("sheet");
  scene.sheet = loaded && new loaded.Sheet(kit, questions, (sheet) => send(sheet, loaded)).element;
  return loaded !== undefined;
}

/** A token for a call, in a session that knows what the visitor told. */
async function ready() {
  const token = await session.token();
  if (told && told.session !== session.id) {
    await putForm(told.values, token);
    told.session = session.id;
  }
  return token;
}

/** From the tap: first the questions, if there are any and they were not answered, then the call. */
async function call() {
  const { form } = scene.design;
  if (!form || told?.session) return place();
  const before = state;
  const asked = await ask(form.fields, async ({ values }) => {
    told = { values };
    await ready();
    void place();
  });
  if (state !== before) return;
  if (asked) return void take({ type: "form" });
  take({ type: "call" });
  fail("network_unreachable");
}

/** After a call: what was it like? Nobody waits for it, and a survey that does not come is none. */
async function survey() {
  const { survey: wanted } = scene.design;
  const before = state;
  if (!wanted || before.name !== "ended") return;
  const { callId } = before;
  // One rating there must be: its mean is what the event tells.
  const first = wanted.questions.find(({ kind }) => kind === "rating");
  const questions = wanted.questions.map((question) => ({ ...question, required: question === first }));
  /** @type {import("./design.js").Question[]} */
  const comment = wanted.comment ? [{ id: "comment", kind: "comment", label: TEXTS.comment }] : [];
  const all = [...questions, ...comment];
  const asked = await ask(all, async ({ values }, { surveyOf }) => {
    const { body, told: said } = surveyOf(all, values);
    await postSurvey({ callId, ...body }, await session.token());
    take({ type: "submitted", ...said });
  });
  if (asked && state === before) take({ type: "survey" });
}

async function place() {
  const before = live?.over;
  take({ type: "call" });
  const attempt = state;
  if (attempt.name !== "starting") return;
  // The relays that a session lends end soon after its token: they are fresh before they are needed.
  const fresh = session.token().catch(() => undefined);
  /** @type {[typeof import("./call.js") | undefined, unknown]} */
  const [loaded] = await Promise.all([later("call"), fresh]);
  // Given up meanwhile, perhaps in favour of another.
  if (state !== attempt) return;
  session.need(true);
  if (!loaded) return void fail("network_unreachable");
  scene.panel = loaded.Call.screen;
  const placed = new loaded.Call({
    mediaUrl: session.media?.url,
    iceServers: session.media?.iceServers,
    bearer: () => session.bearer,
    // Only now, while the microphone opens and the offer is made, may the line of the call before be in the way.
    token: () => Promise.resolve(before).then(ready).catch((error) => {
      throw Object.assign(new Error("no session"), { code: callCode(error) });
    }),
    tell: (input) => (placed === live ? hear(input) : undefined),
  });
  live = placed;
  await placed.start();
}

/**
 * What happens to the call, with what the outside is to know of it.
 * @param {import("./state.js").Input} input
 */
function hear(input) {
  if (input.type === "failed") return fail(input.code);
  if (input.type === "ended") {
    session.need(false);
    const reported = take(input);
    void survey();
    return reported;
  }
  if (input.type !== "started") return take(input);
  const { profile, routingKey } = embed;
  const hasFormValues = Object.keys(told?.values ?? {}).length > 0;
  return take({ ...input, destinationId: opened?.destinationId ?? profile, routingKey, hasFormValues });
}

/**
 * It closed after the session began: another session says until when, or that it is open after all.
 * @returns {Promise<boolean> | undefined}
 */
function closed() {
  const reported = fail("session_refused");
  session.forget();
  take({ type: "reload" });
  void start(true);
  return reported;
}

/**
 * @param {string} code
 * @returns {Promise<boolean> | undefined}
 */
function fail(code) {
  if (code === "closed") return closed();
  session.need(false);
  // Reports hold no code that the server does not know.
  const known = isErrorCode(code) ? code : "internal";
  return take({ type: "failed", code: known, message: reportText(known) });
}

/** @param {unknown} error */
function callCode(error) {
  if (error instanceof Refusal) {
    if (error.status === 0) return "network_unreachable";
    if (error.type === "provider_inactive") return error.type;
    return error.status === 429 ? "call_limit" : "session_refused";
  }
  return "internal";
}

function retry() {
  if (state.name === "error" && state.at === "call") return void call();
  take({ type: "reload" });
  void start(false);
}

/**
 * Frames may be denied the clipboard's own way; the old one needs no more than the tap.
 * @param {string} text
 */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return TEXTS.copied;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    const { activeElement: before } = document;
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    if (before instanceof HTMLElement) before.focus();
    // Whoever cannot copy can read.
    return copied ? TEXTS.copied : text;
  }
}

/** Says something beside the state, until that changes. @param {string} text */
const say = (text) => {
  const line = document.getElementById("status");
  if (line) line.textContent = text;
};

// A page put aside for the back/forward cache keeps no call, no microphone and no token; when it comes back, it asks
// for a session again.
// The page leaves only once what it says last is on its way: these requests outlive it.
addEventListener("pagehide", () => {
  take({ type: "cancel" });
  live?.abandon();
  reports.sendKept();
  session.forget();
});
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  take({ type: "reload" });
  void start(true);
});

// The loader hands over a port, so that Escape inside the frame can close the panel outside it. The port says "close"
// and nothing else; a page that is not the loader gains no more than that.
/** @type {MessagePort | undefined} */
let loader;
addEventListener("message", (event) => {
  if (event.source === parent && event.data === "click-to-call:loader") loader = event.ports[0];
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.defaultPrevented) loader?.postMessage("close");
});

// Once somebody aims at the widget, the module that places calls is fetched, so that the tap does not wait for it.
const warm = () => {
  const { form, survey: asked } = scene.design;
  void later("call");
  if (form || asked) void later("sheet");
};
addEventListener("pointerover", warm, { once: true });
addEventListener("focusin", warm, { once: true });

dress({}, embed.theme);
if (embed.debug) console.debug("Click to Call: context", embed.context, { dropped: embed.dropped, cut: embed.cut });
// The document is drawn as it is while it gets ready, in the language that the server knows.
void start(false);
