// The widget, put together: reads its address, opens a session, draws the state, reports events.
//
// The modules of the first paint (this one and what it imports) are served as one file, so that a usable widget costs
// four requests: document, style sheet, this file, session. build.rs makes that file by a rule short enough to check by
// eye: the modules one after the other, imports between them and lines of pure comment left out. It refuses a
// top-level name that two of them share. Modules outside that file are imported when needed, and import none of it.

import { Refusal } from "./api.js";
import { readAddress } from "./context.js";
import { sendEvent } from "./events.js";
import { Session } from "./session.js";
import { step } from "./state.js";
import { isErrorCode, reportText } from "./texts.js";
import { render } from "./view.js";

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
/** @type {import("./state.js").State} */
let state = { name: "loading" };
/** @type {import("./api.js").SessionAnswer | undefined} */
let opened;
/** @type {import("./call.js").Call | undefined} */
let live;

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
  keypad() {
    if (state.name === "calling") take({ type: "shows", what: { keypad: !state.shown.keypad } });
  },
  /** @param {string} digit */
  press(digit) {
    if (state.name !== "calling") return;
    live?.press(digit);
    take({ type: "shows", what: { pressed: (state.shown.pressed + digit).slice(-MOST_DIGITS_SHOWN) } });
  },
  hear: () => live?.listen(),
  retry,
};

/**
 * @param {import("./state.js").Input} input
 * @returns {Promise<boolean> | undefined} whether the server has what there was to report
 */
function take(input) {
  const { state: next, report } = step(state, input);
  const changed = next !== state;
  state = next;
  if (changed) draw();
  return report && sendEvent(session, report);
}

/** @type {ReturnType<typeof setInterval> | undefined} */
let clock;

/** Draws the state, and again every second while a clock is to be seen. */
function draw() {
  render(state, actions);
  const running = state.name === "calling" && state.since !== undefined;
  if (running) clock ??= setInterval(() => render(state, actions), 1_000);
  else clock = void clearInterval(clock);
}

/** @param {boolean} again whether this document has had a session before */
async function start(again) {
  try {
    opened = await session.open();
    take({ type: "opened", open: opened.open, closed: opened.closed, isPreview: embed.preview, again });
  } catch (error) {
    const refusal = error instanceof Refusal ? error : new Refusal(500, "unknown");
    take({ type: "refused", code: startCode(refusal), requestId: refusal.requestId });
  }
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
  if (status === 429) return "rate_limited";
  return status >= 400 && status < 500 ? "wrong_settings" : "internal";
}

async function call() {
  const before = live?.over;
  take({ type: "call" });
  const attempt = state;
  if (attempt.name !== "starting") return;
  const loaded = await import("./call.js").catch(() => undefined);
  // Given up meanwhile, perhaps in favour of another.
  if (state !== attempt) return;
  session.need(true);
  if (!loaded) return void fail("network_unreachable");
  const placed = new loaded.Call({
    mediaUrl: opened?.media?.url,
    iceServers: opened?.media?.iceServers,
    bearer: () => session.bearer,
    // Only now, while the microphone opens and the offer is made, may the line of the call before be in the way.
    token: () => Promise.resolve(before).then(() => session.token()).catch((error) => {
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
  if (input.type === "ended") session.need(false);
  if (input.type !== "started") return take(input);
  const { profile, routingKey } = embed;
  return take({ ...input, destinationId: opened?.destinationId ?? profile, routingKey, hasFormValues: false });
}

/** @param {string} code */
function fail(code) {
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

// A page put aside for the back/forward cache keeps no call, no microphone and no token; when it comes back, it asks
// for a session again.
// The page leaves only once what it says last is on its way: both requests outlive it.
addEventListener("pagehide", () => {
  take({ type: "cancel" });
  live?.abandon();
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
const warm = () => void import("./call.js").catch(() => undefined);
addEventListener("pointerover", warm, { once: true });
addEventListener("focusin", warm, { once: true });

if (embed.theme === "light" || embed.theme === "dark") document.documentElement.dataset.theme = embed.theme;
if (embed.debug) console.debug("Click to Call: context", embed.context, { dropped: embed.dropped, cut: embed.cut });
render(state, actions);
void start(false);
