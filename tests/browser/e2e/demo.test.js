// The demo site, on a host of its own: every way to embed the widget, each up to a call.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { house, launch, open } from "./house.js";

/** @type {import("playwright-core").Browser} */
let browser;
before(async () => void (browser = await launch()));
after(() => browser.close());

const at = (/** @type {string} */ path) => new URL(path, house.demo.pageUrl).href;

/** @param {import("playwright-core").Page | import("playwright-core").FrameLocator} widget */
async function calls(widget) {
  await widget.getByRole("button", { name: "Call", exact: true, disabled: false }).click();
  await widget.getByRole("status").getByText("Connected").waitFor();
  await widget.getByRole("button", { name: "Hang up" }).click();
  await widget.getByRole("status").getByText("Call ended").waitFor();
}

for (const path of ["/", "/strict", "/isolated", "/iframe"]) {
  test(`a call from ${path}`, async () => {
    const { page, complaints, context } = await open(browser, { ownSession: true });
    await page.goto(at(path));
    assert.notEqual(new URL(page.url()).host, new URL(house.origin).host);
    assert.equal(await page.evaluate(() => crossOriginIsolated), path === "/isolated");
    if (path !== "/iframe") await page.getByRole("button", { name: "Call us" }).click();
    await calls(page.frameLocator('iframe[title="Click to call"]'));
    const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]).analyze();
    assert.deepEqual(violations.map(({ id, nodes }) => `${id} ${nodes.map(({ html }) => html)}`), []);
    // The prefetch is the one thing that the strict policy forbids; it is a kindness, not a need.
    assert.deepEqual(complaints.filter((text) => !(path === "/strict" && text.includes("/widget/"))), []);
    await context.close();
  });
}

test("a call from /link, in a window of its own that knows nothing of the page", async () => {
  const { page, complaints, context } = await open(browser, { ownSession: true });
  await page.goto(at("/link"));
  const [popup] = await Promise.all([context.waitForEvent("page"), page.getByRole("link", { name: "Call the workshop" }).click()]);
  await calls(popup);
  assert.equal(await popup.evaluate(() => opener), null);
  assert.deepEqual(complaints, []);
  await context.close();
});
