// The two ways out beside the server: the page around the widget, and the customer's own code.
//
// The page hears an event once for each origin on the app's list, and the browser hands it over only where it is that page's
// origin; nothing here guesses who the page is. The customer's code runs in a document of its own on a host of its own,
// without an origin, and has one end of a channel; nothing secret ever goes there. What it sends is held to the caps again
// here: the bridge that keeps them lives among that code.

const NAME = /^[a-z][a-z0-9_]{0,39}$/;
const MOST_BYTES = 4_096;
const MOST_A_SECOND = 10;
/** Who sends as many has lost their mind, or means harm. */
const FLOOD_A_SECOND = 200;
const UNSAFE = ["__proto__", "constructor", "prototype"];

/** @typedef {{id: string, name: string, data: Record<string, unknown>, timestamp: string}} Envelope with the context in `data` */

export class Outlets {
  /** @type {string[]} */
  #origins = [];
  /** @type {MessagePort | undefined} */
  #port;
  /** @type {number[]} */
  #heard = [];
  #emitted;

  /** @param {(name: string, data: Record<string, unknown>) => void} emitted by the customer's code */
  constructor(emitted) {
    this.#emitted = emitted;
  }

  /**
   * @param {import("./design.js").Design} design
   * @param {string} appId
   * @param {Record<string, string>} context
   */
  open({ allowedOrigins, customCode, codeOrigin }, appId, context) {
    this.#origins = allowedOrigins;
    if (!customCode || this.#port) return;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.onmessage = ({ data }) => this.#hear(data);
    const frame = document.createElement("iframe");
    // Read by the bridge, so that the context is there before the first line of the customer's.
    frame.name = JSON.stringify(context);
    frame.setAttribute("sandbox", "allow-scripts");
    frame.title = "Custom code";
    frame.hidden = true;
    frame.src = `${codeOrigin}/code/${encodeURIComponent(appId)}`;
    // Once: a document that the code leads its frame to later gets nothing. Its origin is "null", which no target names.
    frame.addEventListener("load", () => frame.contentWindow?.postMessage("click-to-call:code", "*", [port2]), { once: true });
    document.body.append(frame);
  }

  /** @param {Envelope} event */
  tell(event) {
    this.toPage(event);
    this.#port?.postMessage(event);
  }

  /** @param {Envelope} event */
  toPage(event) {
    if (parent === window) return;
    for (const origin of this.#origins) {
      try {
        parent.postMessage({ source: "click-to-call", version: 1, event }, origin);
      } catch {
        // No origin: one wrong entry of a list does not silence the others.
      }
    }
  }

  /** @param {unknown} said */
  #hear(said) {
    const now = performance.now();
    this.#heard = this.#heard.filter((at) => now - at < 1_000);
    this.#heard.push(now);
    if (this.#heard.length > FLOOD_A_SECOND) return this.#port?.close();
    if (this.#heard.length > MOST_A_SECOND || !Array.isArray(said)) return;
    const [name, text] = said;
    if (typeof name !== "string" || !NAME.test(name) || typeof text !== "string") return;
    if (new TextEncoder().encode(text).length > MOST_BYTES) return;
    try {
      const data = JSON.parse(text, (key, value) => (UNSAFE.includes(key) ? undefined : value));
      if (typeof data === "object" && data && !Array.isArray(data)) this.#emitted(name, data);
    } catch {
      // No JSON.
    }
  }
}
