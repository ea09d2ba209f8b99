// What the page's owner put into the widget's address: the reserved parameters, and the context, which is every other
// parameter after cleaning. The server cleans again by the same rules (tests/vectors/context.json holds both to them).
//
// Rules, for each pair in the order in which it stands:
//   1. a key must match the pattern and be no reserved name and no prototype's name, else the pair is dropped;
//   2. of a repeated key the first counts, later ones are dropped;
//   3. control characters (Unicode Cc) leave the value, then a value over 256 characters (Unicode scalar values) is cut;
//   4. a pair that would be the 21st, or bring keys and values over 2,048 bytes of UTF-8, is dropped; a later, smaller
//      one may still fit.
// Nothing here is ever an error to a visitor; `dropped` and `cut` are for the debug log.

/** Parameters with a meaning of their own. */
export const RESERVED = new Set([
  "appId", "key", "profile", "routingKey", "lang", "preview", "debug", "position", "theme",
]);
const FORBIDDEN = new Set(["__proto__", "constructor", "prototype"]);
const KEY = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/;
const MAX_KEYS = 20;
const MAX_CHARACTERS = 256;
const MAX_BYTES = 2048;

/**
 * @typedef {{context: Record<string, string>, dropped: string[], cut: string[]}} Cleaned
 * @typedef {Cleaned & {appId: string, key: string, profile?: string, routingKey?: string, lang?: string,
 *   theme?: string, preview: boolean | string, debug: boolean}} Embed `preview`: a flag, or the key of a draft
 */

/**
 * @param {Iterable<[string, string]>} pairs decoded parameters, in the address's order
 * @returns {Cleaned}
 */
export function cleanContext(pairs) {
  /** @type {Map<string, string>} */
  const kept = new Map();
  /** @type {string[]} */
  const dropped = [];
  /** @type {string[]} */
  const cut = [];
  const utf8 = new TextEncoder();
  let bytes = 0;
  for (const [key, raw] of pairs) {
    const characters = Array.from(raw.replace(/\p{Cc}/gu, ""));
    const value = characters.slice(0, MAX_CHARACTERS).join("");
    const size = utf8.encode(key + value).length;
    const wrong = !KEY.test(key) || RESERVED.has(key) || FORBIDDEN.has(key) || kept.has(key);
    if (wrong || kept.size === MAX_KEYS || bytes + size > MAX_BYTES) {
      dropped.push(key);
      continue;
    }
    if (characters.length > MAX_CHARACTERS) cut.push(key);
    bytes += size;
    kept.set(key, value);
  }
  return { context: Object.fromEntries(kept), dropped, cut };
}

/**
 * Reads `/widget/{appId}?…`. A reserved parameter given twice counts once, the first time.
 * @param {URL | Location} address
 * @returns {Embed}
 */
export function readAddress(address) {
  const parameters = new URLSearchParams(address.search);
  /** @param {string} name */
  const optional = (name) => parameters.get(name) || undefined;
  /** @param {string} name */
  const flag = (name) => ["1", "true"].includes(parameters.get(name) ?? "");
  const preview = parameters.get("preview") ?? "";
  return {
    appId: address.pathname.split("/")[2] ?? "",
    key: parameters.get("key") ?? "",
    profile: optional("profile"),
    routingKey: optional("routingKey"),
    lang: optional("lang"),
    theme: optional("theme"),
    preview: flag("preview") || (["", "0", "false"].includes(preview) ? false : preview),
    debug: flag("debug"),
    // Reserved parameters are no context here rather than dropped context: the debug log would only list them.
    ...cleanContext([...parameters].filter(([name]) => !RESERVED.has(name))),
  };
}
