// Event ids: `evt_` and a ULID in lower-case Crockford base32. The server takes nothing else, and within a session the
// id is what makes a repeated report harmless. Those about a call are made of the call's id, so that the media server's
// report of its end and the widget's are one event (tests/vectors/call-events.json).

const DIGITS = "0123456789abcdefghjkmnpqrstvwxyz";

/**
 * Ten digits of time, so that ids sort by age, and sixteen of chance.
 * @param {number} now milliseconds since 1970
 * @param {Uint8Array} random at least 16 bytes; five bits of each are used
 */
export function eventId(now = Date.now(), random = crypto.getRandomValues(new Uint8Array(16))) {
  let time = "";
  // Division, not shifts: bitwise operators would cut the time to 32 bits.
  for (let rest = now, i = 0; i < 10; i++, rest = Math.floor(rest / 32)) time = DIGITS[rest % 32] + time;
  return "evt_" + time + Array.from(random.subarray(0, 16), (byte) => DIGITS[byte & 31]).join("");
}

/**
 * That a call is over: the 26 characters of its id.
 * @param {string} callId
 */
export const endId = (callId) => callId.replace(/^call_/, "evt_");

/**
 * The same but for these bits of the last character.
 * @param {string} callId
 * @param {number} bits
 */
const neighbour = (callId, bits) => endId(callId).slice(0, -1) + DIGITS[DIGITS.indexOf(callId.slice(-1)) ^ bits];

/**
 * That a call began.
 * @param {string} callId
 */
export const startId = (callId) => neighbour(callId, 1);

/**
 * That the survey after a call was filled in, as the server tells it too.
 * @param {string} callId
 */
export const surveyId = (callId) => neighbour(callId, 2);
