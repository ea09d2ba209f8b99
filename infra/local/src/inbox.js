// The inbox page: follows the stream and draws each reception. What customers' webhooks hold is shown as text only;
// nothing here ever becomes markup.

/** @typedef {{receivedAt: string, path: string, headers: Record<string, string>, body: unknown}} Received */

/** @typedef {{at: string, appId: string, integrationId: string, name: string, reason: string}} Notice */

/** Cards drawn at once; older ones stay reachable by the API. */
const MOST = 200;

/** @param {string} id */
const find = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const list = find("list");
const notices = find("notices");
const filter = /** @type {HTMLSelectElement} */ (find("filter"));
const clear = /** @type {HTMLButtonElement} */ (find("clear"));
const live = /** @type {HTMLElement} */ (document.querySelector(".live"));
let count = 0;

find("address").textContent = location.origin + "/in";

/**
 * @param {string} tag
 * @param {string} kind its class
 * @param {...(Node | string)} inside
 */
function make(tag, kind, ...inside) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...inside);
  return element;
}

/** @param {string} at */
function moment(at) {
  const time = make("time", "", new Date(at).toLocaleTimeString());
  time.setAttribute("datetime", at);
  time.title = at;
  return time;
}

/**
 * A value as JSON text, its parts marked for colour.
 * @param {unknown} value
 * @param {string} [indent]
 * @returns {(Node | string)[]}
 */
function pretty(value, indent = "") {
  if (typeof value === "string") return [make("span", "string", JSON.stringify(value))];
  if (value === null || typeof value !== "object") return [make("span", "literal", String(value))];
  const entries = Object.entries(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (entries.length === 0) return [open + close];
  const inner = indent + "  ";
  const lines = entries.flatMap(([name, item], index) => [
    inner,
    ...(Array.isArray(value) ? [] : [make("span", "key", JSON.stringify(name)), ": "]),
    ...pretty(item, inner),
    index < entries.length - 1 ? ",\n" : "\n",
  ]);
  return [open + "\n", ...lines, indent + close];
}

/**
 * What a folded card says: the event's own data and context, in one line.
 * @param {any} body
 */
function gist(body) {
  const { context, ...data } = body?.data ?? {};
  const parts = Object.entries({ ...data, ...context }).filter(([, value]) => value !== null && typeof value !== "object");
  return parts.map(([name, value]) => `${name} ${value}`).join(" · ");
}

/** @param {Received} received */
function card(received) {
  const body = /** @type {any} */ (received.body);
  const name = typeof body?.name === "string" ? body.name : `POST ${received.path}`;
  const time = moment(received.receivedAt);
  const headers = Object.entries(received.headers).flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]);
  const badge = make("span", "name", name);
  if (/^\w+$/.test(name)) badge.classList.add(name);
  const text = typeof body === "string" ? [body || "(empty)"] : pretty(body);
  const details = make(
    "details", "",
    make("summary", "", badge, make("span", "gist", gist(body)), time),
    make(
      "div", "inside",
      make("h3", "", "Body"), make("pre", "", make("code", "", ...text)),
      make("h3", "", "Headers"), make("dl", "", ...headers),
    ),
  );
  const item = make("li", "new", details);
  item.dataset.name = name;
  return item;
}

/** @param {Notice} notice */
function warning(notice) {
  const link = make("a", "", "Activate it in the console");
  link.setAttribute("href", `${notices.dataset.console}/apps/${encodeURIComponent(notice.appId)}`);
  return make(
    "article", "notice",
    make("h2", "", `Integration “${notice.name}” was paused`), moment(notice.at),
    make("p", "", `${notice.reason} Nothing more is sent to it; what it misses is kept and can be sent again.`),
    make("p", "", link, " once its receiver works again."),
  );
}

/** @param {string} name */
function offer(name) {
  if ([...filter.options].some((option) => option.value === name)) return;
  filter.append(new Option(name, name));
}

function tidy() {
  for (const item of /** @type {Iterable<HTMLElement>} */ (list.children)) {
    item.hidden = filter.value !== "" && item.dataset.name !== filter.value;
  }
  find("empty").hidden = count > 0;
  find("older").hidden = count <= MOST;
  find("count").textContent = count === 0 ? "" : count === 1 ? "1 received" : `${count} received`;
  clear.disabled = count === 0 && notices.childElementCount === 0;
}

const stream = new EventSource("/api/stream");
stream.addEventListener("received", (event) => {
  const item = card(JSON.parse(event.data));
  count += 1;
  list.prepend(item);
  if (list.children.length > MOST) list.lastElementChild?.remove();
  offer(item.dataset.name ?? "");
  tidy();
});
stream.addEventListener("notice", (event) => {
  notices.prepend(warning(JSON.parse(event.data)));
  tidy();
});
stream.addEventListener("forgotten", () => {
  count = 0;
  list.replaceChildren();
  notices.replaceChildren();
  tidy();
});

/**
 * @param {string} state
 * @param {string} text
 */
function say(state, text) {
  live.dataset.state = state;
  find("live").textContent = text;
}
stream.onopen = () => say("live", "Live");
stream.onerror = () => say("away", "Not connected, trying again");

clear.addEventListener("click", () => void fetch("/api/received", { method: "DELETE" }));
filter.addEventListener("change", tidy);
tidy();
