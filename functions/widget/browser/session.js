// The visitor's session: opened when first needed, its token kept in this object's memory and nowhere else, renewed
// shortly before it expires while somebody can see the widget or a call needs it, and opened anew when renewal is refused.

import { openSession, renewSession, Refusal } from "./api.js";

// A token lives 15 minutes; renewing 90 s early leaves room for a slow answer and one more try.
const EARLY_MS = 90_000;
const RETRY_MS = 20_000;

export class Session {
  /** @type {string | undefined} */
  #token;
  #expires = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Promise<import("./api.js").SessionAnswer> | undefined} */
  #opening;
  #request;
  #needed = false;
  /** Where calls go, and relays on the way there: good for a call that begins with the token at hand.
   * @type {import("./api.js").SessionAnswer["media"]} */
  media;
  /** Of the last that was opened. @type {string | undefined} */
  id;

  /** @param {import("./api.js").SessionRequest} request */
  constructor(request) {
    this.#request = request;
    document.addEventListener("visibilitychange", () => this.#schedule());
  }

  /**
   * Opens a session; callers at the same time share one.
   * @returns {Promise<import("./api.js").SessionAnswer>}
   */
  open() {
    this.#opening ??= openSession(this.#request)
      .then((answer) => {
        this.id = answer.sessionId;
        this.#keep(answer);
        return answer;
      })
      .finally(() => (this.#opening = undefined));
    return this.#opening;
  }

  /** A token that is valid now: the one at hand, or a new session's. */
  async token() {
    return this.bearer ?? (await this.open()).sessionToken;
  }

  /** The token at hand, if it is valid. */
  get bearer() {
    return performance.now() < this.#expires ? this.#token : undefined;
  }

  /**
   * While a call runs, its session goes on also where nobody sees the widget.
   * @param {boolean} needed
   */
  need(needed) {
    this.#needed = needed;
    this.#schedule();
  }

  /** Forgets the token: the next need opens a new session. */
  forget() {
    this.#token = undefined;
    clearTimeout(this.#timer);
  }

  /** @param {{sessionToken: string, lifetimeMs: number, media?: import("./api.js").SessionAnswer["media"]}} answer */
  #keep({ sessionToken, lifetimeMs, media }) {
    this.#token = sessionToken;
    this.media = media ?? this.media;
    this.#expires = performance.now() + lifetimeMs;
    this.#schedule();
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (!this.#token || (document.hidden && !this.#needed)) return;
    const left = this.#expires - performance.now();
    if (left <= 0) return this.forget();
    // A token shorter than the margin is renewed at half its life, so that this never becomes a busy loop.
    this.#timer = setTimeout(() => this.#renew(), left > 2 * EARLY_MS ? left - EARLY_MS : left / 2);
  }

  async #renew() {
    const token = this.#token;
    if (!token) return;
    try {
      const answer = await renewSession(token);
      if (this.#token === token) this.#keep(answer);
    } catch (error) {
      if (this.#token !== token) return;
      if (error instanceof Refusal && error.passing) this.#timer = setTimeout(() => this.#renew(), RETRY_MS);
      else this.forget();
    }
  }
}
