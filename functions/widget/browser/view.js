// Draws a state. Everything is made by DOM calls: the document's policy knows no HTML from strings.
//
// Three parts of the shell stay for the whole life of the document: the one `role="status"` line that speaks the state,
// the one `role="alert"` region for errors (live regions are only heard when they exist before their words do), and
// the actions. Of what is in them only what changed is made anew, so that the focus stays where it is; when it is on
// something that goes, what has the same name gets it, or else the first button.

import { BROKEN_OFF, ERRORS, TEXTS } from "./texts.js";

const ICONS = {
  phone: "M7 3.6h2.2l1.7 4.3-2 1.6a12.5 12.5 0 0 0 5.6 5.6l1.6-2 4.3 1.7V17a3 3 0 0 1-3.2 3A16.6 16.6 0 0 1 4 6.8a3 3 0 0 1 3-3.2Z",
  microphone: "M12 3.5a3 3 0 0 0-3 3v4.5a3 3 0 0 0 6 0V6.5a3 3 0 0 0-3-3ZM5.6 11a6.4 6.4 0 0 0 12.8 0M12 17.4v3.1",
  notice: "M12 3.6a8.4 8.4 0 1 0 0 16.8 8.4 8.4 0 0 0 0-16.8ZM12 8v4.6M12 15.9v.1",
  muted: "M12 3.5a3 3 0 0 0-3 3v4.5a3 3 0 0 0 6 0V6.5a3 3 0 0 0-3-3ZM5.6 11a6.4 6.4 0 0 0 12.8 0M12 17.4v3.1M4 4l16 16",
  keypad: "M5.6 6h.8M11.6 6h.8M17.6 6h.8M5.6 12h.8M11.6 12h.8M17.6 12h.8M5.6 18h.8M11.6 18h.8M17.6 18h.8",
  clock: "M12 3.6a8.4 8.4 0 1 0 0 16.8 8.4 8.4 0 0 0 0-16.8ZM12 7.6V12l2.8 2",
  bars1: "M5 19v-3",
  bars2: "M5 19v-3M10 19v-6.5",
  bars3: "M5 19v-3M10 19v-6.5M15 19V9",
  bars4: "M5 19v-3M10 19v-6.5M15 19V9M20 19V5.5",
};
const DIGIT_KEYS = [..."123456789*0#"];

/**
 * @typedef {{call(): void, hangUp(): void, mute(): void, keypad(): void, press(digit: string): void, hear(): void,
 *   retry(): void}} Actions
 * @typedef {{status: string, tone?: "busy" | "live" | "trouble", icon: keyof typeof ICONS, title: string, body: string,
 *   alert?: boolean, words?: HTMLElement[], actions?: HTMLElement[], notes?: HTMLElement[]}} Screen `words` stand in place
 *   of title and body
 */

/** @param {string} id */
const part = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * @param {import("./state.js").State} state
 * @param {Actions} actions
 */
export function render(state, actions) {
  const screen = screenOf(state, actions);
  const view = part("view");
  const focused = document.activeElement;
  const padShown = document.querySelector(".pad") !== null;
  document.documentElement.dataset.state = state.name;
  document.documentElement.dataset.tone = screen.tone ?? "";
  const loading = state.name === "loading";
  view.setAttribute("aria-busy", String(loading));
  fill(part("badge"), [icon(screen.icon)]);
  // While loading, bars stand where the words will be: which words, only the session tells.
  const words = loading
    ? [element("div", { class: "bar" }), element("div", { class: "bar" })]
    : (screen.words ?? [element("h1", {}, screen.title), element("p", {}, screen.body)]);
  fill(part("words"), screen.alert ? [] : words);
  fill(part("alert"), screen.alert ? words : []);
  fill(part("actions"), screen.actions ?? []);
  fill(part("notes"), screen.notes ?? []);
  // Said once: a state drawn again does not interrupt a screen reader.
  if (part("status").textContent !== screen.status) part("status").textContent = screen.status;
  const pad = document.querySelector(".pad");
  if (pad && !padShown) pad.querySelector("button")?.focus();
  else if (focused && !focused.isConnected) refocus(focused.textContent, padShown && !pad);
}

/**
 * Makes the children of a part those given, and leaves alone those that are so already.
 * @param {HTMLElement} into
 * @param {Element[]} wanted
 */
function fill(into, wanted) {
  while (into.children.length > wanted.length) into.lastElementChild?.remove();
  wanted.forEach((next, place) => {
    const now = into.children[place];
    if (!now) into.append(next);
    else if (now.outerHTML !== next.outerHTML) now.replaceWith(next);
  });
}

/**
 * @param {string | null} name of what had the focus
 * @param {boolean} padClosed
 */
function refocus(name, padClosed) {
  const offered = [...part("actions").querySelectorAll("button, a")];
  const wanted = padClosed ? TEXTS.keypad : name;
  const next = offered.find(({ textContent }) => textContent === wanted) ?? offered[0] ?? document.querySelector("h1");
  if (!(next instanceof HTMLElement)) return;
  if (next.tagName === "H1") next.tabIndex = -1;
  next.focus();
}

/**
 * @param {import("./state.js").State} state
 * @param {Actions} actions
 * @returns {Screen}
 */
function screenOf(state, actions) {
  switch (state.name) {
    case "closed":
      return closedScreen(state.closed);
    case "starting": {
      const asking = state.waiting === "microphone";
      const hangUp = button(TEXTS.hangUp, "stop", actions.hangUp, "phone");
      if (state.waiting === "leaving") hangUp.setAttribute("aria-disabled", "true");
      return {
        status: asking ? TEXTS.asking : state.waiting === "leaving" ? TEXTS.leaving : TEXTS.dialling,
        tone: "busy",
        icon: asking ? "microphone" : "phone",
        title: asking ? TEXTS.askingTitle : TEXTS.diallingTitle,
        body: asking ? TEXTS.askingBody : TEXTS.diallingBody,
        actions: [hangUp],
      };
    }
    case "calling":
      return callScreen(state, actions);
    case "ended":
      return {
        status: TEXTS.ended,
        icon: "phone",
        title: TEXTS.ended,
        body: TEXTS.endedBody,
        actions: [button(TEXTS.call, "go", actions.call, "phone")],
        notes: [note(`${TEXTS.lasted} ${clockTime(state.duration)}`)],
      };
    case "error":
      return errorScreen(state, actions);
    default: {
      const call = button(TEXTS.call, "go", actions.call, "phone");
      // Drawn, and keeping the focus it may have, but not to be pressed yet.
      if (state.name === "loading") call.setAttribute("aria-disabled", "true");
      return {
        status: state.name === "loading" ? TEXTS.loading : TEXTS.ready,
        icon: "phone",
        title: TEXTS.title,
        body: TEXTS.body,
        actions: [call],
        notes: state.name === "loading" ? [] : [note(TEXTS.microphoneNote)],
      };
    }
  }
}

/**
 * @param {import("./state.js").Calling} state
 * @param {Actions} actions
 * @returns {Screen}
 */
function callScreen({ phase, since, shown }, actions) {
  const { lost, held, silent, muted, keypad, pressed, level } = shown;
  const connected = phase === "connected";
  // Keys mean something once there is somebody, or something, at the other end; a menu may want them before an answer.
  const talking = connected || phase === "early";
  const [status, title, body] = lost ? [TEXTS.lost, TEXTS.lostTitle, TEXTS.lostBody]
    : held ? [TEXTS.held, TEXTS.heldTitle, TEXTS.heldBody]
    : connected ? [TEXTS.connected, TEXTS.connectedTitle, ""]
    : phase === "dialling" ? [TEXTS.dialling, TEXTS.diallingTitle, TEXTS.diallingBody]
    : [TEXTS.ringing, TEXTS.ringing, TEXTS.ringingBody];
  const time = since === undefined ? "" : clockTime((performance.now() - since) / 1_000);
  const below = talking && keypad
    ? [element("p", { class: "digits" }, pressed || time), padOf(actions)]
    : [body ? element("p", {}, body) : element("p", { class: "time" }, time)];
  // Each is named after what it does next; said to be pressed as well, "Unmute" would mean its opposite.
  const mute = button(muted ? TEXTS.unmute : TEXTS.mute, "plain", actions.mute, muted ? "muted" : "microphone");
  const keys = button(TEXTS.keypad, "plain", actions.keypad, "keypad");
  keys.setAttribute("aria-expanded", String(keypad));
  const notes = [muted && note(TEXTS.muted), connected && level > 0 && !lost && quality(level)];
  const tools = talking ? [mute, keys] : [mute];
  return {
    status,
    tone: connected && !lost ? "live" : "busy",
    icon: connected && muted ? "muted" : "phone",
    title,
    body,
    words: [element("h1", {}, title), ...below],
    actions: [
      ...(silent ? [button(TEXTS.hear, "go", actions.hear)] : []),
      ...tools,
      button(TEXTS.hangUp, "stop", actions.hangUp, "phone"),
    ],
    notes: notes.filter((made) => made instanceof HTMLElement),
  };
}

/**
 * Keys by buttons, and by the keyboard while the focus is among them.
 * @param {Actions} actions
 */
function padOf(actions) {
  const pad = element("div", { class: "pad", role: "group", "aria-label": TEXTS.keypad });
  for (const digit of DIGIT_KEYS) {
    const key = element("button", { type: "button", class: "key" }, digit);
    key.addEventListener("click", () => actions.press(digit));
    pad.append(key);
  }
  pad.addEventListener("keydown", (event) => {
    if (event.key === "Escape") actions.keypad();
    else if (event.key.length !== 1 || !DIGIT_KEYS.includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    else actions.press(event.key);
    event.preventDefault();
  });
  return pad;
}

/** @param {number} level */
function quality(level) {
  const made = note(TEXTS.quality[level - 1]);
  made.prepend(icon(/** @type {keyof typeof ICONS} */ (`bars${level}`)));
  return made;
}

/** @param {number} seconds */
const clockTime = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/**
 * @param {import("./state.js").Closed} closed
 * @returns {Screen}
 */
function closedScreen({ message, label, opensAt }) {
  const opens = opensAt ? new Date(opensAt) : undefined;
  const when = opens && new Intl.DateTimeFormat(document.documentElement.lang, {
    weekday: "long", day: "numeric", month: "long", hour: "numeric", minute: "2-digit",
  }).format(opens);
  return {
    status: TEXTS.closed,
    icon: "clock",
    title: label || TEXTS.closedTitle,
    body: message || TEXTS.closedBody,
    notes: when ? [note(when)] : [],
  };
}

/**
 * @param {Extract<import("./state.js").State, {name: "error"}>} state
 * @param {Actions} actions
 * @returns {Screen}
 */
function errorScreen(state, actions) {
  const text = (state.connected && BROKEN_OFF[state.code]) || (ERRORS[state.code] ?? ERRORS.internal);
  /** @type {HTMLElement[]} */
  const offers = [];
  if (text.retry) offers.push(button(TEXTS.retry, "go", actions.retry));
  if (text.elsewhere && window.parent !== window) {
    const attributes = { class: text.retry ? "button plain" : "button go", href: location.href, target: "_blank", rel: "noopener" };
    offers.push(element("a", attributes, TEXTS.elsewhere));
  }
  /** @type {HTMLElement[]} */
  const notes = [];
  if (text.owner) {
    notes.push(element("details", {}, element("summary", {}, TEXTS.owner), element("p", {}, text.owner)));
  }
  if (state.requestId) notes.push(note(`${TEXTS.reference} ${state.requestId}`));
  return {
    status: state.at === "start" ? TEXTS.unavailable : TEXTS.unconnected,
    tone: "trouble",
    icon: "notice",
    title: text.title,
    body: text.body,
    alert: true,
    actions: offers,
    notes,
  };
}

/**
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * @param {string} name
 * @param {"go" | "stop" | "plain"} kind
 * @param {() => void} act
 * @param {keyof typeof ICONS} [picture]
 */
function button(name, kind, act, picture) {
  const made = element("button", { type: "button", class: `button ${kind}` }, ...(picture ? [icon(picture)] : []), name);
  made.addEventListener("click", act);
  return made;
}

/** @param {string} text */
const note = (text) => element("p", { class: "note" }, text);

/** @param {keyof typeof ICONS} name */
function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name]);
  picture.append(path);
  return picture;
}
