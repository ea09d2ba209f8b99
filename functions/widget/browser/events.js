// Reports events to the server, each when it happens. A report that does not get through is tried once more, under the
// same id, so that a repeat is harmless; the visitor never waits for a report and never hears of its failure.
//
// What is about a call belongs to the call's session, for only there the media server's report and ours are the same: it is
// sent with the token at hand, never with a new session's. That also makes it leave at once while the page goes away.

import { postEvent, Refusal } from "./api.js";
import { eventId } from "./ids.js";

const PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;

/**
 * @param {import("./state.js").Report} report
 * @param {Record<string, string>} context
 * @returns {import("./outlets.js").Envelope}
 */
export const envelope = ({ name, data, id }, context) =>
  ({ id: id ?? eventId(), name, data: { ...data, context }, timestamp: new Date().toISOString() });

/**
 * @param {import("./session.js").Session} session
 * @param {import("./outlets.js").Envelope} event
 * @param {boolean} ofCall
 * @returns {Promise<boolean>} whether the server has it
 */
export async function sendEvent(session, { data: { context: _, ...data }, ...rest }, ofCall) {
  // The server puts the session's own context in.
  const event = { ...rest, data };
  for (let attempt = 1; ; attempt++) {
    try {
      const token = ofCall ? session.bearer : await session.token();
      if (!token) return false;
      await postEvent(event, token);
      return true;
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(0, "unknown");
      // The token was refused though it should hold: a new session takes its place.
      if (refusal.status === 401 && !ofCall) session.forget();
      else if (!refusal.passing) return false;
      if (attempt === 2) return false;
      const pause = Math.min(refusal.retryAfterMs ?? PAUSE_MS, LONGEST_PAUSE_MS);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}
