// What the widget says, in every language; which language that is; and what a survey comes to.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { readDesign } from "../../../functions/widget/browser/design.js";
import { pickLanguage, speak } from "../../../functions/widget/browser/language.js";
import { surveyOf } from "../../../functions/widget/browser/sheet.js";
import { BROKEN_OFF, ERRORS, isErrorCode, TEXTS } from "../../../functions/widget/browser/texts.js";

test("the server knows the texts that an app may word itself", () => {
  const known = JSON.parse(readFileSync(new URL("../../vectors/texts.json", import.meta.url), "utf8"));
  const parts = (/** @type {string} */ kind, /** @type {string[]} */ codes) => codes.flatMap((code) => [`${kind}.${code}.body`, `${kind}.${code}.title`]);
  // What is said before there is a session cannot be an app's own.
  const errors = parts("error", Object.keys(ERRORS).filter(isErrorCode));
  assert.deepEqual([...Object.keys(TEXTS), ...errors, ...parts("broken", Object.keys(BROKEN_OFF))].sort(), known);
});

test("an app's own words win, of errors too; what is no text of the widget changes nothing", () => {
  const texts = /** @type {any} */ (TEXTS);
  const [title, busy, broken, hint] = [texts.title, ERRORS.busy.title, BROKEN_OFF.media_failed.body, ERRORS.wrong_key.owner];
  const root = { lang: "", dir: "" };
  /** @type {any} */ (globalThis).document = { documentElement: root };
  speak("de", { texts: { title: "Hallo" }, errors: { busy: { title: "Besetzt", body: "Später." } }, brokenOff: {} }, {
    title: "Die Bäckerei", "error.busy.title": "Alle backen", "broken.media_failed.body": "Ruf wieder an.",
    "error.busy.owner": "x", "error.toString.title": "x", "constructor.prototype.toString": "x", "__proto__": "x", "nobody": "x",
  });
  assert.deepEqual([texts.title, ERRORS.busy.title, ERRORS.busy.body], ["Die Bäckerei", "Alle backen", "Später."]);
  assert.deepEqual([BROKEN_OFF.media_failed.body, BROKEN_OFF.media_failed.title], ["Ruf wieder an.", "We lost the connection"]);
  assert.deepEqual([ERRORS.busy.owner, ERRORS.wrong_key.owner, texts.nobody, String({})], [undefined, hint, undefined, "[object Object]"]);
  assert.equal(root.lang, "de");
  assert.ok(title !== texts.title && busy !== ERRORS.busy.title && broken !== BROKEN_OFF.media_failed.body);
});

for (const language of ["de", "es", "fr", "pt", "ar"]) {
  test(`${language} says everything that English says, and nothing else`, async () => {
    const { default: file } = await import(`../../../functions/widget/browser/${language}.js`);
    assert.deepEqual(Object.keys(file.texts).sort(), Object.keys(TEXTS).sort());
    const titles = (/** @type {any} */ of) => Object.fromEntries(Object.keys(of).sort().map((code) => [code, Object.keys(of[code]).sort()]));
    const expected = (/** @type {any} */ of) => Object.fromEntries(Object.keys(of).sort().map((code) => [code, ["body", "title"]]));
    assert.deepEqual(titles(file.errors), expected(ERRORS));
    assert.deepEqual(titles(file.brokenOff), expected(BROKEN_OFF));
    const all = [file.texts, ...Object.values(file.errors), ...Object.values(file.brokenOff)].flatMap((it) => Object.values(it));
    for (const text of all) assert.ok(typeof text === "string" && text.trim() === text && text.length > 0 && text.length <= 300, text);
    // What stayed English is a word that the languages share.
    const texts = /** @type {Record<string, string>} */ (TEXTS);
    const same = Object.keys(texts).filter((key) => file.texts[key] === texts[key]);
    assert.ok(same.every((key) => key === "devices"), same.join(" "));
  });
}

test("the language: of the embed code, else of the app, else the visitor's first that is spoken, else English", () => {
  /** @type {[string | undefined, string | undefined, string[], string][]} */
  const table = [
    [undefined, "auto", ["de-AT", "en"], "de"], [undefined, "auto", ["nl", "pt-BR"], "pt"], [undefined, "auto", ["nl"], "en"],
    ["fr", "de", ["es"], "fr"], ["AR-eg", "auto", [], "ar"], ["tlh", "de", ["es"], "de"], [undefined, "en", ["de"], "en"],
    ["constructor", undefined, [], "en"], [undefined, undefined, [], "en"],
  ];
  for (const [asked, app, preferred, expected] of table) assert.equal(pickLanguage(asked, app, preferred), expected);
});

test("a design that says nothing has every default; a form and a survey without questions are none", () => {
  const design = readDesign(undefined);
  assert.deepEqual([design.lang, design.blocks, design.form, design.survey, design.allowedOrigins], ["auto", [], null, null, []]);
  assert.deepEqual([readDesign({ form: { fields: [] } }).form, readDesign({ survey: { questions: [] } }).survey], [null, null]);
});

test("a survey: the mean of what was rated with one decimal, halves up; empty answers are none", () => {
  /** @type {any[]} */
  const questions = [
    { id: "a", kind: "rating" }, { id: "b", kind: "rating" }, { id: "c", kind: "choice" }, { id: "comment", kind: "comment" },
  ];
  assert.deepEqual(surveyOf(questions, { a: "4", b: "5", c: "Yes", comment: "Kind." }), {
    body: { answers: [{ questionId: "a", rating: 4 }, { questionId: "b", rating: 5 }, { questionId: "c", text: "Yes" }], comment: "Kind." },
    told: { rating: 4.5, answerCount: 3, hasComment: true },
  });
  assert.deepEqual(surveyOf(questions, { a: "1" }), {
    body: { answers: [{ questionId: "a", rating: 1 }] }, told: { rating: 1, answerCount: 1, hasComment: false },
  });
  const four = ["a", "b", "c", "d"].map((id) => /** @type {any} */ ({ id, kind: "rating" }));
  assert.equal(surveyOf(four, { a: "4", b: "4", c: "4", d: "5" }).told.rating, 4.3);
});
