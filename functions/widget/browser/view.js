// Draws a state. Everything is made by DOM calls: the document's policy knows no HTML from strings.
//
// Three parts of the shell stay for the whole life of the document: the one `role="status"` line that speaks the state,
// the one `role="alert"` region for errors (live regions are only heard when they exist before their words do), and
// the actions. When a state's buttons go while one of them has the focus, the next state's first button gets it.

import { ERRORS, TEXTS } from "./texts.js";

const ICONS = {
  phone: "M7 3.6h2.2l1.7 4.3-2 1.6a12.5 12.5 0 0 0 5.6 5.6l1.6-2 4.3 1.7V17a3 3 0 0 1-3.2 3A16.6 16.6 0 0 1 4 6.8a3 3 0 0 1 3-3.2Z",
  microphone: "M12 3.5a3 3 0 0 0-3 3v4.5a3 3 0 0 0 6 0V6.5a3 3 0 0 0-3-3ZM5.6 11a6.4 6.4 0 0 0 12.8 0M12 17.4v3.1",
  notice: "M12 3.6a8.4 8.4 0 1 0 0 16.8 8.4 8.4 0 0 0 0-16.8ZM12 8v4.6M12 15.9v.1",
  clock: "M12 3.6a8.4 8.4 0 1 0 0 16.8 8.4 8.4 0 0 0 0-16.8ZM12 7.6V12l2.8 2",
};

/**
 * @typedef {{call(): void, cancel(): void, retry(): void}} Actions
 * @typedef {{status: string, tone?: "busy" | "trouble", icon: keyof typeof ICONS, title: string, body: string,
 *   alert?: boolean, actions?: Node[], notes?: Node[]}} Screen
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
  const hadFocus = part("actions").contains(document.activeElement);
  document.documentElement.dataset.state = state.name;
  document.documentElement.dataset.tone = screen.tone ?? "";
  const loading = state.name === "loading";
  view.setAttribute("aria-busy", String(loading));
  part("badge").replaceChildren(icon(screen.icon));
  // While loading, bars stand where the words will be: which words, only the session tells.
  const words = loading
    ? [element("div", { class: "bar" }), element("div", { class: "bar" })]
    : [element("h1", {}, screen.title), element("p", {}, screen.body)];
  part("words").replaceChildren(...(screen.alert ? [] : words));
  part("alert").replaceChildren(...(screen.alert ? words : []));
  part("actions").replaceChildren(...(screen.actions ?? []));
  part("notes").replaceChildren(...(screen.notes ?? []));
  // Said once: a state drawn again does not interrupt a screen reader.
  if (part("status").textContent !== screen.status) part("status").textContent = screen.status;
  if (hadFocus) {
    const next = part("actions").querySelector("button, a") ?? words[0];
    if (next instanceof HTMLElement) {
      if (next === words[0]) next.tabIndex = -1;
      next.focus();
    }
  }
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
    case "starting":
    case "calling": {
      const asking = state.name === "starting" && state.waiting === "microphone";
      return {
        status: asking ? TEXTS.asking : TEXTS.dialling,
        tone: "busy",
        icon: asking ? "microphone" : "phone",
        title: asking ? TEXTS.askingTitle : TEXTS.diallingTitle,
        body: asking ? TEXTS.askingBody : TEXTS.diallingBody,
        actions: [button(TEXTS.hangUp, "stop", actions.cancel, "phone")],
      };
    }
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
  const text = ERRORS[state.code] ?? ERRORS.internal;
  /** @type {Node[]} */
  const offers = [];
  if (text.retry) offers.push(button(TEXTS.retry, "go", actions.retry));
  if (text.elsewhere && window.parent !== window) {
    const attributes = { class: text.retry ? "button plain" : "button go", href: location.href, target: "_blank", rel: "noopener" };
    offers.push(element("a", attributes, TEXTS.elsewhere));
  }
  /** @type {Node[]} */
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
 * @param {"go" | "stop"} kind
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
