// Accessibility of every state, light and dark, from left to right and from right to left: the rules of WCAG 2.2 AA by axe, no
// sideways scrolling at 320 pixels, targets of 44 pixels, no lost focus. C2C_PICTURES names a folder for pictures of them all.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { launch, makeApp, open, until, widgetAddress } from "./house.js";

const parts = {
  design: {
    lang: "auto", texts: {}, theme: { mode: "auto", accent: "#0b57d0", onAccent: "#ffffff", corner: "round", position: "bottom-right" },
    blocks: [{ kind: "text", text: "Anna or Tom will answer." }, { kind: "disclosure", text: "Calls aren’t recorded." }],
  },
  form: {
    fields: [
      { id: "name", kind: "text", label: "Your name", required: true },
      { id: "mail", kind: "email", label: "Your email", required: false },
      { id: "topic", kind: "select", label: "What is it about?", required: true, options: ["An order", "A visit"] },
      { id: "ok", kind: "checkbox", label: "I have read the privacy notice", required: true },
    ],
  },
  survey: {
    questions: [
      { id: "q1", kind: "rating", label: "How well did we help you?" },
      { id: "q3", kind: "choice", label: "Was your question answered?", options: ["Yes", "No"] },
    ],
    comment: true,
  },
  buttons: {
    buttons: [
      { id: "b1", label: "Opening hours", action: "link", value: "https://shop.invalid/hours" },
      { id: "b2", label: "Copy our number", action: "copy", value: "+44 20 7946 0000" },
    ],
  },
};

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof makeApp>>} */
let app;
/** @type {Awaited<ReturnType<typeof makeApp>>} */
let closed;
before(async () => {
  browser = await launch();
  app = await makeApp(parts);
  closed = await makeApp({ hours: { mode: "custom", timezone: "UTC", weekly: {}, exceptions: [] }, buttons: parts.buttons });
});
after(() => browser.close());

/**
 * Leads a visitor from idle to the survey, through a form that is first sent empty. `check` looks at each state.
 * @param {import("playwright-core").Page} page
 * @param {(name: string) => Promise<unknown>} check
 * @param {string} topic
 */
async function walk(page, check, topic) {
  const go = page.locator(GO);
  await go.waitFor();
  await check("idle");
  await go.click();
  await shows(page, "form");
  await check("form");
  await go.click();
  await page.locator("[aria-invalid]").first().waitFor();
  await check("form-wrong");
  await page.locator("[name=name]").fill("Ada");
  await page.locator("[name=topic]").selectOption(topic);
  await page.locator("[name=ok]").check();
  await go.click();
  await page.locator('[data-tone="live"]').waitFor();
  await check("connected");
  await page.locator("#actions .plain").nth(1).click();
  await page.locator(".pad").waitFor();
  await check("keypad");
  await page.locator("#actions .plain").nth(2).click();
  await page.locator("select").first().waitFor();
  await check("devices");
  await page.locator("#actions .stop").click();
  await shows(page, "survey");
  await page.locator("[name=q1]").nth(3).check({ force: true });
  await check("survey");
}

const GO = "#actions .go:not([aria-disabled])";
/** @param {import("playwright-core").Page} page @param {string} state */
const shows = (page, state) => page.locator(`html[data-state="${state}"]`).waitFor();

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  for (const locale of ["en", "ar"]) {
    test(`every state, ${colorScheme}, ${locale === "ar" ? "right to left" : "left to right"}`, async () => {
      const options = { ownSession: true, colorScheme, locale, viewport: { width: 320, height: 480 }, reducedMotion: /** @type {const} */ ("reduce") };
      const { page, complaints, context } = await open(browser, options);
      const check = async (/** @type {string} */ name) => {
        await page.waitForFunction((dir) => document.documentElement.dir === dir, locale === "ar" ? "rtl" : "ltr");
        const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
        assert.deepEqual(violations.map(({ id, nodes }) => `${name}: ${id} ${nodes.map(({ html }) => html)}`), []);
        const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(sideways <= 0, `${name} scrolls sideways by ${sideways}`);
        const targets = page.locator("button, a, summary, select, input:not([type=radio], [type=checkbox]), textarea, label:has([type=radio], [type=checkbox])");
        for (const target of await targets.all()) {
          const box = await target.boundingBox();
          assert.ok(box && box.height >= 44, `${name}: ${await target.innerText()} is ${box?.height} high`);
        }
        // Said in one place, and something to go on with.
        assert.equal(await page.getByRole("status").count(), 1);
        if (process.env.C2C_PICTURES) await page.screenshot({ path: `${process.env.C2C_PICTURES}/${name}-${colorScheme}-${locale}.png`, fullPage: true });
      };
      const go = page.locator(GO);
      await page.goto(widgetAddress({ key: app.key }, app.appId));
      await walk(page, check, "A visit");
      await go.click();
      await shows(page, "survey_submitted");
      await check("survey-submitted");
      await page.route("**/v1/calls", (route) => route.abort());
      await go.click();
      await shows(page, "error");
      await check("error");
      await page.unroute("**/v1/calls");
      await go.click();
      await page.locator('[data-tone="live"]').waitFor();
      await page.locator("#actions .stop").click();
      await shows(page, "survey");
      await page.locator("#actions .plain").click();
      await shows(page, "ended");
      await check("ended");
      await page.goto(widgetAddress({ key: closed.key }, closed.appId));
      await shows(page, "closed");
      await check("closed");
      assert.deepEqual(complaints, []);
      await context.close();
    });
  }
}

test("forced colours: what is chosen, and what has the focus, is still seen", async () => {
  const { page, context } = await open(browser, { ownSession: true, forcedColors: "active", viewport: { width: 360, height: 640 } });
  await page.goto(widgetAddress({ key: app.key }, app.appId));
  const go = page.locator(GO);
  await go.waitFor();
  assert.notEqual(await go.evaluate((it) => getComputedStyle(it).borderTopColor), await go.evaluate((it) => getComputedStyle(it).backgroundColor));
  await go.focus();
  await page.keyboard.press("Shift");
  assert.equal(await go.evaluate((it) => getComputedStyle(it).outlineStyle), "solid");
  if (process.env.C2C_PICTURES) await page.screenshot({ path: `${process.env.C2C_PICTURES}/forced.png` });
  await context.close();
});

test("reduced motion: nothing moves while the widget waits, and while it calls", async () => {
  const { page, context } = await open(browser, { ownSession: true, reducedMotion: "reduce" });
  const moving = () => page.evaluate(() => document.getAnimations().length);
  /** @type {(() => void)[]} */
  const held = [];
  const hold = (/** @type {import("playwright-core").Route} */ route) => new Promise((go) => held.push(() => go(route.fallback())));
  await page.route("**/v1/sessions", hold);
  await page.route("**/v1/calls", hold);
  await page.goto(widgetAddress({ routingKey: "nobody" }));
  await page.getByRole("status").getByText("Getting ready…").waitFor();
  assert.equal(await moving(), 0);
  await until(async () => held.length, (count) => count === 1);
  held[0]();
  await page.getByRole("button", { name: "Call", exact: true, disabled: false }).click();
  await until(async () => held.length, (count) => count === 2);
  await page.getByRole("status").getByText("Calling…").waitFor();
  assert.equal(await moving(), 0);
  held[1]();
  await page.getByRole("status").getByText("Ringing…").waitFor();
  assert.equal(await moving(), 0);
  await page.getByRole("button", { name: "Hang up" }).click();
  await context.close();
});

test("without scripts, a sentence says that they are needed, and nothing else promises a call", async () => {
  const { page, context } = await open(browser, { javaScriptEnabled: false, viewport: { width: 320, height: 480 } });
  await page.goto(widgetAddress());
  await page.locator("noscript p").waitFor();
  if (process.env.C2C_PICTURES) await page.screenshot({ path: `${process.env.C2C_PICTURES}/without-scripts.png` });
  assert.equal(await page.getByRole("button").count(), 0);
  assert.equal(await page.getByText("Getting ready…").isVisible(), false);
  await page.goto(widgetAddress({ lang: "ar" }));
  assert.match(await page.locator("noscript p").innerText(), /^تحتاج المكالمات إلى JavaScript/);
  assert.equal(await page.locator("html").getAttribute("dir"), "rtl");
  await context.close();
});

test("a language that the server knows is spoken from the first moment on", async () => {
  const german = await makeApp({ design: { ...parts.design, lang: "de" } });
  const { page, context } = await open(browser, { ownSession: true, locale: "en" });
  /** @type {(() => void)[]} */
  const held = [];
  await page.route("**/v1/sessions", (route) => new Promise((go) => held.push(() => go(route.fallback()))));
  const said = () => page.evaluate(() => [document.documentElement.lang, document.documentElement.dir, document.title, document.body.innerText]);
  for (const [address, lang, dir, title, words] of [
    [widgetAddress({ lang: "ar" }), "ar", "rtl", "تحدّث معنا", "لحظة من فضلك…"],
    [widgetAddress({ key: german.key }, german.appId), "de", "ltr", "Sprechen Sie mit uns", "Einen Moment …"],
  ]) {
    await page.goto(address);
    await until(async () => held.length, (count) => count === 1);
    // The script runs, and knows no more than the document did.
    const first = await said();
    assert.deepEqual(first.slice(0, 3), [lang, dir, title]);
    assert.ok(first[3].includes(words) && !first[3].includes("Getting ready"), first[3]);
    if (process.env.C2C_PICTURES) await page.screenshot({ path: `${process.env.C2C_PICTURES}/first-words-${lang}.png` });
    held.pop()?.();
    await page.locator('html[data-state="idle"]').waitFor();
    assert.deepEqual((await said()).slice(0, 3), [lang, dir, title]);
  }
  await context.close();
});

const WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft";
/** As much as there may be of everything, in words that fit no line. @param {number} length */
const much = (length) => `${WORD} ${"so many words that nobody reads them ".repeat(60)}`.slice(0, length);

for (const wide of [false, true]) {
  test(`long words and as much text as there may be${wide ? ", widely spaced (WCAG 1.4.12)" : ""}: nothing is cut off or runs out`, async () => {
    const option = much(100);
    const full = await makeApp({
      design: { ...parts.design, texts: { title: much(300) }, blocks: [{ kind: "text", text: much(1_000) }, { kind: "disclosure", text: much(1_000) }] },
      form: { fields: [
        { id: "name", kind: "text", label: much(120), required: true },
        { id: "topic", kind: "select", label: much(120), required: true, options: [option] },
        { id: "ok", kind: "checkbox", label: much(120), required: true },
      ] },
      survey: {
        questions: [{ id: "q1", kind: "rating", label: much(120) }, { id: "q3", kind: "choice", label: much(120), options: [option, "No"] }],
        comment: true,
      },
      buttons: { buttons: parts.buttons.buttons.map((button) => ({ ...button, label: much(60) })) },
    });
    // German, whose own words are the longest.
    const { page, context } = await open(browser, { ownSession: true, locale: "de", viewport: { width: 320, height: 480 }, reducedMotion: "reduce" });
    await page.goto(widgetAddress({ key: full.key }, full.appId));
    const go = page.locator(GO);
    await go.waitFor();
    if (wide) {
      await page.evaluate(() => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync(`* { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important; }
          p { margin-block-end: 2em !important; }`);
        document.adoptedStyleSheets = [sheet];
      });
    }
    const check = async (/** @type {string} */ name) => {
      const wrong = await page.evaluate(() => {
        const { clientWidth: width, scrollWidth } = document.documentElement;
        const found = scrollWidth > width ? [`${scrollWidth} wide`] : [];
        for (const it of document.querySelectorAll("main :not(option, .unseen, select, input, textarea)")) {
          const { left, right } = it.getBoundingClientRect();
          if (left < 0 || right > width) found.push(`${it.outerHTML.slice(0, 80)} runs out`);
          if (it.scrollWidth > it.clientWidth + 1 && it.clientWidth > 0) found.push(`${it.outerHTML.slice(0, 80)} is too wide`);
          if (it.tagName === "BUTTON" && it.scrollHeight > it.clientHeight + 1) found.push(`${it.outerHTML.slice(0, 80)} is cut off`);
        }
        return found;
      });
      assert.deepEqual(wrong, [], name);
      if (process.env.C2C_PICTURES) await page.screenshot({ path: `${process.env.C2C_PICTURES}/much-${name}${wide ? "-wide" : ""}.png`, fullPage: true });
    };
    await walk(page, check, option);
    await context.close();
  });
}
