// What is said to the media server and heard from it: by HTTP to begin a call, to restart ICE and to hang up; on the data
// channel `control` all the rest, small JSON objects each with its `type`.

const ANSWER_MS = 10_000;
const RESTART_MS = 5_000;
const BUSY_MS = 700;
const BUSY_TRIES = 3;
const FULL_MS = 1_000;
const MOST_FULL_MS = 5_000;
const FULL_TRIES = 2;

/** A failure, by the contract's error code. */
export class CallError extends Error {
  /** @param {string} code */
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/**
 * Begins a call. The session's call before this one may still be on its way out; that is waited for, briefly. A server that is
 * full is asked once more, after the time that it names: another may answer then, or somebody has hung up.
 * @param {string} url
 * @param {string} offer
 * @param {string} token
 * @param {AbortSignal} givenUp
 * @param {() => boolean} isWanted whether the visitor still wants the call
 * @returns {Promise<{address: string, answer: string}>} the call's own address, and the answer as SDP
 */
export async function postOffer(url, offer, token, givenUp, isWanted) {
  let [busy, full] = [BUSY_TRIES, FULL_TRIES];
  for (;;) {
    const asked = await ask("POST", url, token, { offer, ms: ANSWER_MS, givenUp }).catch(() => undefined);
    if (!asked) throw new CallError("network_unreachable");
    const { status, location, retryAfter, text } = asked;
    if (status === 201 && location) return { address: new URL(location, url).href, answer: text };
    const type = errorType(text);
    const isBusy = type === "conflict";
    const again = isBusy ? --busy > 0 : status === 503 && --full > 0;
    if (again) {
      const pause = isBusy ? BUSY_MS : Math.min(Number(retryAfter) * 1_000 || FULL_MS, MOST_FULL_MS);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    if (!again || !isWanted()) throw new CallError(answerCode(status, type));
  }
}

/**
 * Restarts ICE.
 * @param {string} address
 * @param {string} offer
 * @param {string} token
 * @returns {Promise<string>} the answer
 * @throws {CallError} when the call cannot go on; anything else may pass
 */
export async function patchOffer(address, offer, token) {
  const { status, text } = await ask("PATCH", address, token, { offer, ms: RESTART_MS });
  if (status === 200) return text;
  if (status < 500 && status !== 429) throw new CallError("media_failed");
  throw new Error(`${status}`);
}

/**
 * Hangs up; the request outlives the page. When it fails, the closed connection says the same.
 * @param {string} address
 * @param {string} token
 * @param {string} [code] what ended it, when that was not the visitor
 */
export const deleteCall = (address, token, code) =>
  ask("DELETE", code ? `${address}?errorCode=${code}` : address, token, { ms: ANSWER_MS }).catch(() => undefined);

/**
 * @param {string} method
 * @param {string} url
 * @param {string} token
 * @param {{offer?: string, ms: number, givenUp?: AbortSignal}} how
 */
async function ask(method, url, token, { offer, ms, givenUp }) {
  const stop = new AbortController();
  const abort = () => stop.abort();
  const limit = setTimeout(abort, ms);
  givenUp?.addEventListener("abort", abort);
  if (givenUp?.aborted) abort();
  try {
    const answer = await fetch(url, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(offer && { "content-type": "application/sdp" }) },
      body: offer,
      credentials: "omit",
      keepalive: method === "DELETE",
      signal: stop.signal,
    });
    const [location, retryAfter] = ["location", "retry-after"].map((name) => answer.headers.get(name));
    return { status: answer.status, location, retryAfter, text: await answer.text() };
  } finally {
    clearTimeout(limit);
    givenUp?.removeEventListener("abort", abort);
  }
}

/**
 * A refusal by the media server says nothing about the destination, which was not tried: `destination_unavailable`,
 * `busy` and their like come later and over the control channel.
 * @param {number} status
 * @param {string} type of the error envelope
 */
export function answerCode(status, type) {
  if (type === "closed") return type;
  if (status === 401 || status === 403) return "session_refused";
  if (status === 409 && type === "provider_inactive") return "provider_inactive";
  if (status === 429) return "call_limit";
  return "media_failed";
}

/**
 * Of a refusal; `closed` outside business hours, which is no conflict that passes by itself.
 * @param {string} text
 */
export function errorType(text) {
  try {
    const { type, details } = JSON.parse(text).error;
    return details?.[0]?.code === "closed" ? "closed" : String(type);
  } catch {
    return "";
  }
}

/**
 * What a message on the channel means to the widget; nothing, when it is none that this widget knows.
 * @param {unknown} text
 * @returns {{type: "progress", phase: "ringing" | "early" | "connected"} | {type: "shows", what: {held?: boolean, level?: number}}
 *   | {type: "ended", reason: "user_hangup" | "remote_hangup"} | {type: "failed", code: string} | undefined}
 */
export function readControl(text) {
  let message;
  try {
    message = JSON.parse(String(text));
  } catch {
    return undefined;
  }
  switch (message?.type) {
    case "ringing":
    case "early":
      return { type: "progress", phase: message.type };
    case "answered":
      return { type: "progress", phase: "connected" };
    case "held":
      return { type: "shows", what: { held: message.on === true } };
    case "quality":
      return { type: "shows", what: { level: level(Number(message.mos)) } };
    case "ended": {
      const { reason, errorCode } = message;
      if (reason === "user_hangup" || reason === "remote_hangup") return { type: "ended", reason };
      return { type: "failed", code: String(errorCode) };
    }
  }
  return undefined;
}

/**
 * Four levels of a mean opinion score, at the borders of ITU-T G.109's categories (R of 80, 70 and 60).
 * @param {number} mos
 */
export const level = (mos) => (mos >= 4.03 ? 4 : mos >= 3.6 ? 3 : mos >= 3.1 ? 2 : 1);
