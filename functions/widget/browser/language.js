// Which language the widget speaks. English is at hand; any other is one file, asked for beside the session, so that no
// visitor loads a language that is not theirs. An app's own words come last and win.

import { BROKEN_OFF, ERRORS, TEXTS } from "./texts.js";

/** Those with a file of their own, `{language}.js`. */
const OTHERS = ["de", "es", "fr", "pt", "ar"];
const RIGHT_TO_LEFT = ["ar"];

/** @typedef {{texts: Record<string, string>, errors: typeof ERRORS, brokenOff: typeof ERRORS}} Language */

/**
 * The language the embed code asks for, else the app's, else the first of the visitor's that we speak, else English.
 * @param {string | undefined} asked
 * @param {string | undefined} app
 * @param {readonly string[]} preferred
 */
export function pickLanguage(asked, app, preferred) {
  // An unknown one counts as not said.
  for (const wanted of [asked, app, ...preferred]) {
    const language = String(wanted).toLowerCase().split("-")[0];
    if (language === "en" || OTHERS.includes(language)) return language;
  }
  return "en";
}

/**
 * @param {string} language
 * @returns {Promise<Language | undefined>} none for English, and for one that does not come: English is better than nothing
 */
export const loadLanguage = (language) =>
  OTHERS.includes(language)
    ? import(`./${language}.js`).then((file) => file.default, () => undefined)
    : Promise.resolve(undefined);

/**
 * From now on the widget speaks this language.
 * @param {string} language
 * @param {Language | undefined} file
 * @param {Record<string, string>} own an app's own texts, by key; of an error `error.{code}.title` and `.body`, and `broken.…`
 */
export function speak(language, file, own) {
  Object.assign(TEXTS, file?.texts);
  for (const [kind, to, from] of /** @type {const} */ ([["error", ERRORS, file?.errors], ["broken", BROKEN_OFF, file?.brokenOff]])) {
    for (const code in to) {
      const text = Object.assign(to[code], from?.[code]);
      text.title = own[`${kind}.${code}.title`] ?? text.title;
      text.body = own[`${kind}.${code}.body`] ?? text.body;
    }
  }
  /** @type {Record<string, string>} */
  const texts = TEXTS;
  for (const [key, text] of Object.entries(own)) {
    if (Object.hasOwn(texts, key)) texts[key] = text;
  }
  const { documentElement: root } = document;
  root.lang = file ? language : "en";
  root.dir = RIGHT_TO_LEFT.includes(root.lang) ? "rtl" : "ltr";
  document.title = TEXTS.title;
}
