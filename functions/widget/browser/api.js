// The public API as functions. Every request has its own time limit, and every failure is a `Refusal`.

const TIMEOUT_MS = 10_000;

/** The server said no (`status`), or nothing came back in time (`status` 0). */
export class Refusal extends Error {
  /**
   * @param {number} status
   * @param {string} type the error envelope's type; `network` when there was no answer
   * @param {{message?: string, requestId?: string, retryAfterMs?: number, details?: {field: string, message: string}[]}} [more]
   */
  constructor(status, type, more = {}) {
    super(more.message ?? type);
    this.status = status;
    this.type = type;
    this.requestId = more.requestId;
    this.retryAfterMs = more.retryAfterMs;
    this.details = more.details;
  }

  /** Whether the same request may fare better the second time. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * The answer's body is always read to its end: until then a keepalive request holds its share of the browser's quota.
 * @param {string} path
 * @param {unknown} body
 * @param {string} [token]
 * @param {{keepalive?: boolean, method?: string}} [how] with `keepalive` the request outlives the page
 * @returns {Promise<any>} the success envelope; nothing when the answer has no body
 */
async function request(path, body, token, { keepalive = false, method = "POST" } = {}) {
  let answer, text;
  try {
    answer = await fetch(path, {
      method,
      headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
      keepalive,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    text = await answer.text();
  } catch {
    throw new Refusal(0, "network");
  }
  if (answer.status === 204) return undefined;
  let envelope;
  try {
    envelope = JSON.parse(text);
  } catch {
    // Something between us and the server answered in its place; the status is all there is to judge by.
  }
  if (answer.ok && envelope?.data) return envelope;
  const seconds = Number(answer.headers.get("retry-after"));
  throw new Refusal(answer.ok ? 502 : answer.status, envelope?.error?.type ?? "unknown", {
    message: envelope?.error?.message,
    requestId: envelope?.error?.requestId,
    details: envelope?.error?.details,
    retryAfterMs: seconds > 0 ? seconds * 1000 : undefined,
  });
}

/**
 * @typedef {{appId: string, widgetKey: string, profileId?: string, routingKey?: string,
 *   context?: Record<string, string>, preview?: boolean | string}} SessionRequest
 * @typedef {{sessionId: string, sessionToken: string, expiresAt: string, open: boolean,
 *   closed?: {message?: string, label?: string, opensAt?: string}, opensInMs?: number, destinationId?: string | null,
 *   media?: {url?: string, iceServers?: RTCIceServer[]}, widget?: Partial<import("./design.js").Design>}} SessionAnswer
 */

/**
 * How long the token lives, and until it opens, is reckoned by the server's own clock (`meta.timestamp`): visitors' clocks are
 * often wrong.
 * @param {{data: SessionAnswer, meta?: {timestamp?: string}}} envelope
 */
function withTimes({ data, meta }) {
  const now = meta?.timestamp ? Date.parse(meta.timestamp) : Date.now();
  /** @param {string} [at] */
  const until = (at) => Math.max(0, Date.parse(at ?? "") - now || 0);
  return { ...data, lifetimeMs: until(data.expiresAt), opensInMs: until(data.closed?.opensAt) };
}

/** @param {SessionRequest} wanted */
export const openSession = async (wanted) => withTimes(await request("/v1/sessions", wanted));

/** @param {string} token */
export const renewSession = async (token) => withTimes(await request("/v1/sessions/renew", {}, token));

/**
 * @param {{id: string, name: string, data: Record<string, unknown>, timestamp: string}} event
 * @param {string} token
 */
export const postEvent = (event, token) => request("/v1/events", event, token, { keepalive: true });

/**
 * What the visitor told before the call.
 * @param {Record<string, string | boolean>} values
 * @param {string} token
 */
export const putForm = (values, token) => request("/v1/form", { values }, token, { method: "PUT" });

/**
 * @param {{callId: string, answers: {questionId: string, rating?: number, text?: string}[], comment?: string}} survey
 * @param {string} token
 */
export const postSurvey = (survey, token) => request("/v1/surveys", survey, token);
