// Draws a state. Everything is made by DOM calls: the document's policy knows no HTML from strings.
//
// Three parts of the shell stay for the whole life of the document: the one `role="status"` line that speaks the state,
// the one `role="alert"` region for errors (live regions are only heard when they exist before their words do), and
// the actions. Of what is in them only what changed is made anew, so that the focus and what was typed stay; when the
// focus is on something that goes, what has the same name gets it, or else the first button.
//
// What only some visitors see is drawn by modules that come later, with the `kit` of this one: a call (panel.js), and
// questions (sheet.js).

import { BROKEN_OFF, ERRORS, TEXTS } from "./texts.js";

const PHONE = "M7 3.6h2.2l1.7 4.3-2 1.6a12.5 12.5 0 0 0 5.6 5.6l1.6-2 4.3 1.7V17a3 3 0 0 1-3.2 3A16.6 16.6 0 0 1 4 6.8a3 3 0 0 1 3-3.2Z";
const ICONS = {
  phone: PHONE,
  microphone: "M12 3.5a3 3 0 0 0-3 3v4.5a3 3 0 0 0 6 0V6.5a3 3 0 0 0-3-3ZM5.6 11a6.4 6.4 0 0 0 12.8 0M12 17.4v3.1",
  notice: "M12 3.6a8.4 8.4 0 1 0 0 16.8 8.4 8.4 0 0 0 0-16.8ZM12 8v4.6M12 15.9v.1",
  clock: "M12 3.6a8.4 8.4 0 1 0 0 16.8 8.4 8.4 0 0 0 0-16.8ZM12 7.6V12l2.8 2",
  done: "M5 12.5l4.5 4.5L19 7.5",
  talk: "M5 5h14v10h-8l-4 4v-4H5Z",
  link: "M10 5H5v14h14v-5M14 5h5v5M19 5l-8 8",
  copy: "M9 9h10v11H9ZM5 15V4h10",
  call: PHONE,
  email: "M4 6h16v12H4ZM4 7l8 6 8-6",
};

/**
 * @typedef {{call(): void, hangUp(): void, mute(): void, toggle(what: "keypad" | "devices"): void, press(digit: string): void,
 *   use(kind: "audioinput" | "audiooutput", id: string): void, hear(): void, retry(): void, skip(): void,
 *   clicked(button: import("./design.js").CustomButton): void}} Actions
 * @typedef {{status: string, tone?: "busy" | "live" | "trouble", icon: string, title: string, body: string,
 *   alert?: boolean, words?: HTMLElement[], actions?: HTMLElement[], notes?: HTMLElement[], others?: boolean}} Screen `words`
 *   stand in place of title and body; with `others`, the app's own buttons are shown
 * @typedef {{actions: Actions, design: import("./design.js").Design, sheet?: HTMLElement,
 *   panel?: (state: import("./state.js").Calling, actions: Actions, kit: Kit) => Screen}} Scene
 *   `sheet` holds the questions of the moment
 * @typedef {typeof kit} Kit
 */

/** @param {string} id */
const part = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * @param {import("./state.js").State} state
 * @param {Scene} scene
 */
export function render(state, scene) {
  const screen = screenOf(state, scene);
  const view = part("view");
  const { documentElement: root, activeElement: focused } = document;
  const toolShown = document.querySelector(".tool") !== null;
  root.dataset.state = state.name;
  root.dataset.tone = screen.tone ?? "";
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
  fill(part("others"), screen.others ? otherWays(scene) : []);
  // Said once: a state drawn again does not interrupt a screen reader.
  if (part("status").textContent !== screen.status) part("status").textContent = screen.status;
  const tool = document.querySelector(".tool");
  if (tool && !toolShown) /** @type {HTMLElement | null} */ (tool.querySelector("button, select"))?.focus();
  else if (focused && !focused.isConnected) refocus(focused, state);
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
    else if (now !== next && now.outerHTML !== next.outerHTML) now.replaceWith(next);
  });
}

/**
 * @param {Element} gone what had the focus
 * @param {import("./state.js").State} state
 */
function refocus(gone, state) {
  const offered = [...part("actions").querySelectorAll("button, a")];
  // Of a tool that was closed, what opens it.
  const wanted = gone.closest(".tool")?.getAttribute("aria-label") ?? gone.textContent;
  const heading = document.querySelector("h1");
  const asks = state.name === "form" || state.name === "survey";
  // A list that was drawn anew because something else was chosen from it.
  const same = gone.id ? document.getElementById(gone.id) : null;
  const next = same ?? (asks ? heading : (offered.find(({ textContent }) => textContent === wanted) ?? offered[0] ?? heading));
  if (!(next instanceof HTMLElement)) return;
  if (next.tagName === "H1") next.tabIndex = -1;
  next.focus();
}

/**
 * @param {import("./state.js").State} state
 * @param {Scene} scene
 * @returns {Screen}
 */
function screenOf(state, { actions, design, sheet, panel }) {
  const again = () => button(TEXTS.call, "go", actions.call, ICONS.phone);
  switch (state.name) {
    case "closed":
      return closedScreen(state.closed);
    case "form":
    case "survey": {
      const asks = state.name === "form";
      const [title, body] = asks ? [TEXTS.formTitle, TEXTS.formBody] : [TEXTS.surveyTitle, ""];
      return {
        status: asks ? TEXTS.formStatus : TEXTS.ended,
        icon: ICONS.talk,
        title,
        body,
        words: [element("h1", {}, title), ...(body ? [element("p", {}, body)] : []), ...(sheet ? [sheet] : [])],
        actions: [
          // Of the form by its id, so that Enter in a field sends too.
          element("button", { type: "submit", form: "sheet", class: "button go" }, TEXTS.send),
          button(asks ? TEXTS.back : TEXTS.skip, "plain", asks ? actions.hangUp : actions.skip),
        ],
      };
    }
    case "survey_submitted":
      return {
        status: TEXTS.ended, icon: ICONS.done, title: TEXTS.thanks, body: TEXTS.thanksBody, actions: [again()], others: true,
      };
    case "calling":
    case "starting": {
      if (state.name === "calling" && panel) return panel(state, actions, kit);
      const asking = state.name === "starting" && state.waiting === "microphone";
      const leaving = state.name === "starting" && state.waiting === "leaving";
      const hangUp = button(TEXTS.hangUp, "stop", actions.hangUp, ICONS.phone);
      if (leaving) hangUp.setAttribute("aria-disabled", "true");
      return {
        status: asking ? TEXTS.asking : leaving ? TEXTS.leaving : TEXTS.dialling,
        tone: "busy",
        icon: asking ? ICONS.microphone : ICONS.phone,
        title: asking ? TEXTS.askingTitle : TEXTS.diallingTitle,
        body: asking ? TEXTS.askingBody : TEXTS.diallingBody,
        actions: [hangUp],
      };
    }
    case "ended":
      return {
        status: TEXTS.ended,
        icon: ICONS.phone,
        title: TEXTS.ended,
        body: TEXTS.endedBody,
        actions: [again()],
        notes: [note(`${TEXTS.lasted} ${clockTime(state.duration)}`)],
        others: true,
      };
    case "error":
      return errorScreen(state, actions);
    default: {
      const loading = state.name === "loading";
      const call = again();
      // Drawn, and keeping the focus it may have, but not to be pressed yet.
      if (loading) call.setAttribute("aria-disabled", "true");
      return {
        status: loading ? TEXTS.loading : TEXTS.ready,
        icon: ICONS.phone,
        title: TEXTS.title,
        body: TEXTS.body,
        words: loading ? undefined
          : [element("h1", {}, TEXTS.title), element("p", {}, TEXTS.body), ...design.blocks.map(blockOf)],
        actions: [call],
        notes: loading ? [] : [note(TEXTS.microphoneNote)],
        others: !loading,
      };
    }
  }
}

/** How often a picture did not come, by its address. @type {Map<string, number>} */
const missed = new Map();

/**
 * What operators wrote has a direction of its own. The document isolates itself, so another host's picture must allow it, by
 * CORP or by CORS: the second try asks for the latter. In place of one that does not come stands what it shows.
 * @param {import("./design.js").Block} block
 * @returns {HTMLElement}
 */
function blockOf(block) {
  if (block.kind !== "image") return element("p", { class: block.kind, dir: "auto" }, block.text);
  const { url, alt } = block;
  const tries = missed.get(url) ?? 0;
  if (tries > 1) return element("p", { class: "alt", dir: "auto" }, alt);
  /** @type {Record<string, string>} */
  const more = tries ? { crossorigin: "anonymous" } : {};
  const picture = element("img", { src: url, alt, referrerpolicy: "no-referrer", decoding: "async", ...more });
  picture.addEventListener("error", () => {
    missed.set(url, tries + 1);
    picture.replaceWith(blockOf(block));
  });
  return picture;
}

/** @param {Scene} scene */
function otherWays({ actions, design }) {
  const made = design.buttons.map((custom) => {
    const { label, action, value } = custom;
    /** @type {Record<string, string>} */
    const attributes = { class: "other", dir: "auto" };
    if (action === "link") Object.assign(attributes, { href: value, target: "_blank", rel: "noopener" });
    else if (action === "call") attributes.href = `tel:${value}`;
    else if (action === "email") attributes.href = `mailto:${value}`;
    else attributes.type = "button";
    // An address in `href` could also be a script; the server stores none, and this draws none.
    if (action === "link" && !/^https?:\/\//i.test(value)) return undefined;
    const other = element(action === "copy" ? "button" : "a", attributes, icon(ICONS[action] ?? ""), label);
    other.addEventListener("click", () => actions.clicked(custom));
    return other;
  });
  const shown = made.filter((other) => other !== undefined);
  return shown.length ? [element("nav", { "aria-label": TEXTS.others }, ...shown)] : [];
}

/** @param {number} seconds */
const clockTime = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/**
 * @param {import("./state.js").Closed} closed
 * @returns {Screen}
 */
function closedScreen({ message, label, opensAt }) {
  const opens = opensAt ? new Date(opensAt) : undefined;
  // In the visitor's own time zone, which is named: somebody elsewhere may have sent them here.
  const when = opens && new Intl.DateTimeFormat(document.documentElement.lang, {
    weekday: "long", day: "numeric", month: "long", hour: "numeric", minute: "2-digit", timeZoneName: "short",
  }).format(opens);
  return {
    status: TEXTS.closed,
    icon: ICONS.clock,
    title: label || TEXTS.closedTitle,
    body: message || TEXTS.closedBody,
    words: [
      element("h1", { dir: "auto" }, label || TEXTS.closedTitle),
      element("p", { dir: "auto" }, message || TEXTS.closedBody),
      ...(when ? [element("p", { class: "opens" }, `${TEXTS.opens}: `, element("time", { datetime: String(opensAt) }, when))] : []),
    ],
    others: true,
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
    notes.push(element("details", {}, element("summary", {}, TEXTS.owner), element("p", { lang: "en", dir: "ltr" }, text.owner)));
  }
  if (state.requestId) notes.push(note(`${TEXTS.reference} ${state.requestId}`));
  return {
    status: state.at === "start" ? TEXTS.unavailable : TEXTS.unconnected,
    tone: "trouble",
    icon: ICONS.notice,
    title: text.title,
    body: text.body,
    alert: true,
    actions: offers,
    notes,
    others: state.at === "call",
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
 * @param {string} [picture]
 */
function button(name, kind, act, picture) {
  const made = element("button", { type: "button", class: `button ${kind}` }, ...(picture ? [icon(picture)] : []), name);
  made.addEventListener("click", act);
  return made;
}

/**
 * @param {string} text
 * @param {string} [picture]
 */
const note = (text, picture) => element("p", { class: "note" }, ...(picture ? [icon(picture)] : []), text);

/** @param {string} drawing the path of its lines */
function icon(drawing) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", drawing);
  picture.append(path);
  return picture;
}

/** For what is drawn by later modules; read when they draw, as the language is known only after this. */
export const kit = { texts: /** @type {Record<string, string>} */ (TEXTS), icons: ICONS, element, button, note, clockTime };
