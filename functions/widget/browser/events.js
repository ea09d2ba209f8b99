// Reports events to the server, each when it happens. A report that does not get through is tried once more, and then kept: it
// goes when the network is back, when the page is shown or hidden, and at the latest when it is left; a server that asks for
// patience gets it until then. The visitor never waits for a report and never hears of its failure.
//
// A repeat has the same id, and goes only to the session that may have the report already: there it is harmless, and to another
// session it would be a second event. What is about a call belongs to the call's session from the start, for only there the media
// server's report and ours are the same. It is sent with the token at hand, never with a new session's; that also makes it leave
// at once while the page goes away.

import { postEvent, Refusal } from "./api.js";
import { eventId } from "./ids.js";

const PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;
/** The oldest go first. All of them fit into what a browser sends for a page that is gone: 64 KB. */
const MOST_KEPT = 20;

/**
 * @param {import("./state.js").Report} report
 * @param {Record<string, string>} context
 * @returns {import("./outlets.js").Envelope}
 */
export const envelope = ({ name, data, id }, context) =>
  ({ id: id ?? eventId(), name, data: { ...data, context }, timestamp: new Date().toISOString() });

/**
 * @typedef {{event: import("./outlets.js").Envelope, session?: string, refused?: boolean}} Message `session`: the only one that it
 *   may still go to; `refused`: a token was refused with it, and a new session takes it, once
 */

export class Reports {
  #session;
  /** What may not have got through. @type {Set<Message>} */
  #kept = new Set();
  /** Until then the server wants none of what is kept, by `performance.now()`. */
  #notBefore = 0;

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
    const again = () => void this.#sendAgain();
    addEventListener("online", again);
    document.addEventListener("visibilitychange", again);
  }

  /**
   * @param {import("./outlets.js").Envelope} envelope
   * @param {boolean} ofCall
   * @returns {Promise<boolean>} whether the server has it by now
   */
  async send({ data: { context: _, ...data }, ...rest }, ofCall) {
    // The server puts the session's own context in.
    const message = { event: { ...rest, data }, session: ofCall ? this.#session.id : undefined };
    const pause = await this.#post(message);
    if (typeof pause === "boolean") return pause;
    await new Promise((resolve) => setTimeout(resolve, pause));
    // What is kept no longer is on its way again.
    return this.#kept.delete(message) && (await this.#post(message)) === true;
  }

  /** Sends all that is kept, at once: the page goes. What belongs to a session that is over goes nowhere any more. */
  sendKept() {
    const messages = [...this.#kept];
    this.#kept.clear();
    for (const message of messages) void this.#post(message);
  }

  /** The same one by one, for as long as the server takes them: each that it refuses would count against the limit. */
  async #sendAgain() {
    for (const message of [...this.#kept]) {
      if (performance.now() < this.#notBefore) return;
      if (this.#kept.delete(message)) await this.#post(message);
    }
  }

  /**
   * One try; it leaves at once where a token is at hand.
   * @param {Message} message
   * @returns {Promise<boolean | number>} whether the server has it; or, when that is not known, for how many milliseconds it is
   *   better left alone
   */
  async #post(message) {
    const [session, { session: bound, refused }] = [this.#session, message];
    try {
      const token = session.bearer ?? (bound ? undefined : await session.token());
      if (!token || (bound && bound !== session.id)) return false;
      message.session = session.id;
      await postEvent(message.event, token);
      return true;
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(0, "unknown");
      if (refusal.status === 401 && !bound && !refused) {
        // The token was refused though it should hold: a new session takes its place.
        if (message.session === session.id) session.forget();
        message.session = undefined;
        message.refused = true;
      } else if (!refusal.passing) return false;
      this.#kept.add(message);
      if (this.#kept.size > MOST_KEPT) this.#kept.delete([...this.#kept][0]);
      const pause = refusal.retryAfterMs ?? PAUSE_MS;
      // Without an answer there is nobody who asks for patience.
      if (refusal.status && refusal.passing) this.#notBefore = Math.max(this.#notBefore, performance.now() + pause);
      return Math.min(pause, LONGEST_PAUSE_MS);
    }
  }
}
