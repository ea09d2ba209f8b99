// A whole call without a mouse, from the button on somebody's page to the survey and back: by keys alone, in a window of usual
// size and in what is left of it at 400 % zoom. At every stop the focus is seen.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { house, launch, makeApp, open, site, until } from "./house.js";

const parts = {
  form: {
    fields: [
      { id: "name", kind: "text", label: "Your name", required: true },
      { id: "topic", kind: "select", label: "What is it about?", required: true, options: ["An order", "A visit"] },
      { id: "ok", kind: "checkbox", label: "I have read the privacy notice", required: true },
    ],
  },
  survey: {
    questions: [
      { id: "q1", kind: "rating", label: "How well did we help you?" },
      { id: "q2", kind: "choice", label: "Was your question answered?", options: ["Yes", "No"] },
    ],
    comment: true,
  },
};
/** Stops on the way from one control to another at most. */
const MOST_STOPS = 12;

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof makeApp>>} */
let app;
before(async () => {
  browser = await launch();
  app = await makeApp(parts);
});
after(() => browser.close());

for (const [size, viewport] of /** @type {const} */ ([
  ["a usual window", { width: 1280, height: 800 }], ["a window at 400 % zoom", { width: 320, height: 200 }],
])) {
  test(`by keys alone, in ${size}`, async () => {
    const { page, complaints, context } = await open(browser, { ownSession: true, viewport, reducedMotion: "reduce" });
    const loader = `<script async src="${house.origin}/embed.js" data-app-id="${app.appId}" data-key="${app.key}"></script>`;
    await site(page, `<!doctype html><html lang="en"><title>A site</title><h1>A site</h1><a href="#before">Before</a>${loader}`);
    const frame = page.frameLocator('iframe[title="Click to call"]');
    /** @type {Record<string, any>[]} */
    const events = [];
    page.on("request", (request) => request.url().endsWith("/v1/events") && events.push(request.postDataJSON()));
    const { keyboard } = page;
    const heading = (/** @type {string} */ name) => frame.getByRole("heading", { name, exact: true }).waitFor();
    const status = (/** @type {string} */ text) => frame.getByRole("status").getByText(text, { exact: true }).waitFor();

    /** What has the focus is this, in sight as a whole (of a text, where one writes), and marked. @param {import("playwright-core").Locator} control */
    const isAt = async (control) => {
      await until(() => control.evaluate((it) => it === document.activeElement), (at) => at);
      const seen = () => control.evaluate((it) => {
        // A choice is drawn by its label.
        const drawn = it.matches("[type=radio]") ? (it.closest("label") ?? it) : it;
        const { top, bottom, left, right } = drawn.getBoundingClientRect();
        const { outlineStyle, outlineWidth } = getComputedStyle(it.matches(".rating *") ? drawn : it);
        const inside = it.tagName === "TEXTAREA" ? top < innerHeight && bottom > 0
          : top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth;
        return { inside, marked: it.tagName === "H1" || (outlineStyle !== "none" && parseFloat(outlineWidth) >= 1), top, bottom, innerHeight };
      });
      await until(seen, ({ inside, marked }) => inside && marked);
    };
    /** @param {import("playwright-core").Locator} control @param {"Tab" | "Shift+Tab"} [key] */
    const goTo = async (control, key = "Tab") => {
      for (let stop = 0; stop < MOST_STOPS; stop++) {
        await keyboard.press(key);
        if (await control.evaluate((it) => it === document.activeElement)) return isAt(control);
      }
      const at = await frame.locator(":focus").evaluateAll((all) => all.map((it) => it.outerHTML));
      assert.fail(`${control} is not reached; the focus is at ${at}`);
    };
    const button = (/** @type {string} */ name) => frame.getByRole("button", { name, exact: true, disabled: false });
    const inLoader = () => page.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.textContent);

    await page.getByRole("button", { name: "Call us" }).waitFor();
    await keyboard.press("Tab");
    await keyboard.press("Tab");
    assert.equal(await inLoader(), "Call us");
    await keyboard.press("Enter");
    await button("Call").waitFor();
    await until(() => frame.locator("html").evaluate(() => document.hasFocus()), (has) => has);
    await goTo(button("Call"));
    // No trap: back to the page, and in again.
    await keyboard.press("Shift+Tab");
    await until(inLoader, (text) => text === "Call us");
    await goTo(button("Call"));
    await keyboard.press("Enter");

    await status("Before your call");
    await isAt(frame.getByRole("heading", { level: 1 }));
    await goTo(frame.getByLabel("Your name"));
    await keyboard.type("Ada");
    await goTo(frame.getByLabel("What is it about?"));
    await keyboard.press("ArrowDown");
    await goTo(frame.getByLabel("I have read the privacy notice"));
    await keyboard.press("Space");
    await goTo(button("Send"));
    await keyboard.press("Enter");

    await status("Connected");
    await isAt(button("Hang up"));
    await goTo(button("Mute"), "Shift+Tab");
    await keyboard.press("Enter");
    await frame.getByText("Your microphone is off.").waitFor();
    await isAt(button("Unmute"));
    await keyboard.press("Space");
    await isAt(button("Mute"));

    await goTo(button("Keypad"));
    await keyboard.press("Enter");
    await isAt(button("1"));
    await keyboard.type("12#");
    await goTo(button("5"));
    await keyboard.press("Enter");
    await frame.getByText("12#5", { exact: true }).waitFor();
    await keyboard.press("Escape");
    await isAt(button("Keypad"));

    await goTo(button("Audio"));
    await keyboard.press("Enter");
    const microphone = frame.getByLabel("Microphone");
    await isAt(microphone);
    const first = await microphone.inputValue();
    await keyboard.press("ArrowDown");
    await until(() => microphone.inputValue(), (value) => value !== first);
    // Once the other is in use the list is drawn anew.
    await until(() => microphone.locator("option[selected]").getAttribute("value"), (value) => value !== first);
    await isAt(microphone);
    await keyboard.press("Escape");
    await isAt(button("Audio"));
    await goTo(button("Hang up"));
    await keyboard.press("Enter");

    await heading("How was your call?");
    await isAt(frame.getByRole("heading", { level: 1 }));
    await goTo(frame.getByRole("radio", { name: "1 Very bad" }));
    for (let step = 1; step < 5; step++) await keyboard.press("ArrowRight");
    await isAt(frame.getByRole("radio", { name: "5 Very good" }));
    await goTo(frame.getByRole("radio", { name: "Yes" }));
    await keyboard.press("Space");
    await goTo(frame.getByLabel("Anything to add?"));
    await keyboard.type("Kind people.");
    const posted = page.waitForRequest((request) => request.url().endsWith("/v1/surveys"));
    await goTo(button("Send"));
    await keyboard.press("Enter");
    await heading("Thank you");
    const { answers, comment } = (await posted).postDataJSON();
    assert.deepEqual(answers, [{ questionId: "q1", rating: 5 }, { questionId: "q2", text: "Yes" }]);
    assert.equal(comment, "Kind people.");
    assert.equal((await (await posted).response())?.status(), 201);
    await isAt(button("Call"));

    await keyboard.press("Escape");
    await until(inLoader, (text) => text === "Call us");
    await page.locator("iframe").waitFor({ state: "hidden" });
    assert.deepEqual(events.map(({ name }) => name), ["widget_loaded", "call_started", "call_ended"]);
    assert.deepEqual(complaints, []);
    await context.close();
  });
}
