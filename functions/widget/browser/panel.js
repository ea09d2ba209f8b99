// What is shown of a running call. Served with the call: nobody needs it before.

/**
 * @typedef {import("./view.js").Kit} Kit
 * @typedef {import("./view.js").Actions} Actions
 */

const ICONS = {
  muted: "M12 3.5a3 3 0 0 0-3 3v4.5a3 3 0 0 0 6 0V6.5a3 3 0 0 0-3-3ZM5.6 11a6.4 6.4 0 0 0 12.8 0M12 17.4v3.1M4 4l16 16",
  keypad: "M5.6 6h.8M11.6 6h.8M17.6 6h.8M5.6 12h.8M11.6 12h.8M17.6 12h.8M5.6 18h.8M11.6 18h.8M17.6 18h.8",
  devices: "M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4",
  bars: ["M5 19v-3", "M5 19v-3M10 19v-6.5", "M5 19v-3M10 19v-6.5M15 19V9", "M5 19v-3M10 19v-6.5M15 19V9M20 19V5.5"],
};
const DIGIT_KEYS = [..."123456789*0#"];

/**
 * @param {import("./state.js").Calling} state
 * @param {Actions} actions
 * @param {Kit} kit
 * @returns {import("./view.js").Screen}
 */
export function callScreen({ phase, since, shown }, actions, kit) {
  const { texts, icons, element, button, note, clockTime } = kit;
  const { lost, held, silent, muted, open, pressed, level, devices } = shown;
  const connected = phase === "connected";
  // Keys mean something once there is somebody, or something, at the other end; a menu may want them before an answer.
  const talking = connected || phase === "early";
  const [status, title, body] = lost ? [texts.lost, texts.lostTitle, texts.lostBody]
    : held ? [texts.held, texts.heldTitle, texts.heldBody]
    : connected ? [texts.connected, texts.connectedTitle, ""]
    : phase === "dialling" ? [texts.dialling, texts.diallingTitle, texts.diallingBody]
    : [texts.ringing, texts.ringing, texts.ringingBody];
  const time = since === undefined ? "" : clockTime((performance.now() - since) / 1_000);
  const plain = body ? element("p", {}, body) : element("p", { class: "time" }, time);
  const below = talking && open === "keypad" ? [element("p", { class: "digits", dir: "ltr" }, pressed || time), keypad(actions, kit)]
    : talking && open === "devices" ? [plain, ...pickers(devices, actions, kit)]
    : [plain];
  // Each is named after what it does next; said to be pressed as well, "Unmute" would mean its opposite.
  const mute = button(muted ? texts.unmute : texts.mute, "plain", actions.mute, muted ? ICONS.muted : icons.microphone);
  const toggle = (/** @type {"keypad" | "devices"} */ what) => {
    const made = button(texts[what], "plain", () => actions.toggle(what), ICONS[what]);
    made.setAttribute("aria-expanded", String(open === what));
    return made;
  };
  const notes = [muted && note(texts.muted), connected && level > 0 && !lost && note(texts[`quality${level}`], ICONS.bars[level - 1])];
  return {
    status,
    tone: connected && !lost ? "live" : "busy",
    icon: connected && muted ? ICONS.muted : icons.phone,
    title,
    body,
    words: [element("h1", {}, title), ...below],
    actions: [
      ...(silent ? [button(texts.hear, "go", actions.hear)] : []),
      mute,
      ...(talking ? [toggle("keypad"), toggle("devices")] : []),
      button(texts.hangUp, "stop", actions.hangUp, icons.phone),
    ],
    notes: notes.filter((made) => made instanceof HTMLElement),
  };
}

/**
 * Keys by buttons, and by the keyboard while the focus is among them.
 * @param {Actions} actions
 * @param {Kit} kit
 */
function keypad(actions, { texts, element }) {
  // Keys stand as on a telephone in every language.
  const pad = element("div", { class: "pad tool", role: "group", "aria-label": texts.keypad, dir: "ltr" });
  for (const digit of DIGIT_KEYS) {
    const key = element("button", { type: "button", class: "key" }, digit);
    key.addEventListener("click", () => actions.press(digit));
    pad.append(key);
  }
  pad.addEventListener("keydown", (event) => {
    if (event.key === "Escape") actions.toggle("keypad");
    else if (event.key.length !== 1 || !DIGIT_KEYS.includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    else actions.press(event.key);
    event.preventDefault();
  });
  return pad;
}

/**
 * One list for the microphones and, where the browser lets pages choose, one for the speakers. Escape closes it, as the keypad.
 * @param {import("./state.js").Device[]} devices
 * @param {Actions} actions
 * @param {Kit} kit
 */
function pickers(devices, actions, { texts, element }) {
  const made = element("div", { class: "tool", role: "group", "aria-label": texts.devices });
  for (const [kind, name] of /** @type {const} */ ([["audioinput", texts.microphone], ["audiooutput", texts.speaker]])) {
    const found = devices.filter((device) => device.kind === kind);
    if (!found.length) continue;
    const list = element("select", { id: kind });
    found.forEach(({ id, label, used }, place) => {
      list.append(element("option", { value: id, ...(used && { selected: "" }) }, label || `${texts.device} ${place + 1}`));
    });
    list.addEventListener("change", () => actions.use(kind, /** @type {HTMLSelectElement} */ (list).value));
    made.append(element("p", { class: "field" }, element("label", { for: kind }, name), list));
  }
  made.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    actions.toggle("devices");
    event.preventDefault();
  });
  // Until it is known which there are, there is nothing to show.
  return made.children.length ? [made] : [];
}
