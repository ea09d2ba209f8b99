// The loader on sites other than the demo: strict policies, keyboards, wrong attributes, and plain frames.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { house, launch, open, site, widgetAddress } from "./house.js";

/** @type {import("playwright-core").Browser} */
let browser;
before(async () => void (browser = await launch()));
after(() => browser.close());

const attributes = `data-app-id="${house.demo.appId}" data-key="${house.demo.widgetKey}"`;
const page = (/** @type {string} */ more = "", /** @type {string} */ body = "") =>
  `<!doctype html><html lang="en"><title>A site</title><body><main><h1>A site</h1>${body}</main>` +
  `<script async src="${house.origin}/embed.js" ${attributes} ${more}></script></body></html>`;

/** The frame's address, once the button was pressed. */
async function frameAddress(/** @type {import("playwright-core").Page} */ of) {
  await of.getByRole("button", { name: "Call us" }).click();
  return new URL((await of.locator('iframe[title="Click to call"]').getAttribute("src")) ?? "");
}

test("a site with a strict policy: only the loader's host and frame are named", async () => {
  const { page: tab, complaints, context } = await open(browser);
  const policy =
    `default-src 'none'; script-src ${house.origin}; frame-src ${house.origin}; style-src 'none'; ` +
    "require-trusted-types-for 'script'; trusted-types 'none'";
  await site(tab, page(), { "content-security-policy": policy });
  const address = await frameAddress(tab);
  assert.equal(address.origin, house.origin);
  await tab.frameLocator("iframe").getByRole("button", { name: "Call", exact: true, disabled: false }).waitFor();
  // The prefetch is the one thing such a policy may forbid; it is a kindness, not a need.
  assert.deepEqual(complaints.filter((text) => !text.includes("/widget/")), []);
  await context.close();
});

test("a site that isolates itself (COEP) can embed the widget", async () => {
  const { page: tab, context } = await open(browser, { ownSession: true });
  await site(tab, page(), { "cross-origin-embedder-policy": "require-corp", "cross-origin-opener-policy": "same-origin" });
  await frameAddress(tab);
  await tab.frameLocator("iframe").getByRole("button", { name: "Call", exact: true, disabled: false }).waitFor();
  await context.close();
});

test("attributes become parameters; others stay where they are", async () => {
  const { page: tab, context } = await open(browser);
  const more =
    'data-profile="dest_1" data-routing-key="sales" data-lang="de" data-context-order-id="A-1" data-context-utm_source="ad"' +
    ` data-context='{"order-id":"B-2","vip":true,"none":null,"key":"k","preview":1,"routingKey":"x"}' data-context-debug="1"` +
    ' data-cookieconsent="ignore" data-contextual="x"';
  await site(tab, page(more));
  const parameters = Object.fromEntries((await frameAddress(tab)).searchParams);
  assert.deepEqual(parameters, {
    key: house.demo.widgetKey, profile: "dest_1", routingKey: "sales", lang: "de", "order-id": "B-2", vip: "true",
    orderId: "A-1", utm_source: "ad",
  });
  await context.close();
});

test("a context that is no JSON costs the context alone", async () => {
  const { page: tab, complaints, context } = await open(browser);
  await site(tab, page("data-context='{oops' data-context-a=1"));
  const address = await frameAddress(tab);
  assert.deepEqual([address.searchParams.get("a"), complaints], ["1", []]);
  await context.close();
});

test("scripts without an app, or twice, break nothing", async () => {
  const { page: tab, complaints, context } = await open(browser);
  await site(tab, page("", `<script async src="${house.origin}/embed.js"></script><script async src="${house.origin}/embed.js" ${attributes}></script>`));
  await tab.getByRole("button", { name: "Call us" }).first().waitFor();
  await tab.waitForTimeout(2_000);
  assert.equal(await tab.getByRole("button", { name: "Call us" }).count(), 1);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("by keyboard: Enter opens and moves the focus in, Escape inside closes and brings it back", async () => {
  const { page: tab, context } = await open(browser);
  await site(tab, page());
  const button = tab.getByRole("button", { name: "Call us" });
  await button.focus();
  assert.equal(await button.getAttribute("aria-expanded"), "false");
  await tab.keyboard.press("Enter");
  const frame = tab.frameLocator("iframe");
  await frame.getByRole("button", { name: "Call", exact: true, disabled: false }).waitFor();
  assert.equal(await button.getAttribute("aria-expanded"), "true");
  await tab.keyboard.press("Tab");
  assert.equal(await frame.locator(":focus").innerText(), "Call");
  await tab.keyboard.press("Escape");
  await tab.locator("iframe").waitFor({ state: "hidden" });
  assert.equal(await button.getAttribute("aria-expanded"), "false");
  assert.equal(await tab.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.textContent), "Call us");
  await tab.keyboard.press("Enter");
  await frame.getByRole("button", { name: "Call", exact: true }).waitFor();
  await button.focus();
  await tab.keyboard.press("Escape");
  await tab.locator("iframe").waitFor({ state: "hidden" });
  await context.close();
});

test("nothing is said to the page that embeds the widget", async () => {
  const { page: tab, context } = await open(browser);
  await tab.addInitScript(() => {
    if (window !== top) return;
    /** @type {any} */ (window).heard = [];
    addEventListener("message", (event) => /** @type {any} */ (window).heard.push(event.data));
  });
  await tab.route("**/v1/calls", (route) => route.abort());
  await site(tab, page());
  await frameAddress(tab);
  await tab.frameLocator("iframe").getByRole("button", { name: "Call", exact: true, disabled: false }).click();
  await tab.frameLocator("iframe").getByRole("alert").getByRole("heading").waitFor();
  assert.deepEqual(await tab.evaluate(() => /** @type {any} */ (window).heard), []);
  await context.close();
});

test("the button is there only after the page has loaded and come to rest, and is accessible", async () => {
  const { page: tab, context } = await open(browser);
  await site(tab, page());
  const button = tab.getByRole("button", { name: "Call us" });
  assert.equal(await button.count(), 0);
  await button.waitFor();
  const sinceLoad = await tab.evaluate(() => {
    const [entry] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
    return performance.now() - entry.loadEventEnd;
  });
  assert.ok(sinceLoad >= 1_400, `${sinceLoad} ms after load`);
  assert.equal(await tab.locator("iframe").count(), 0);
  const { violations } = await new AxeBuilder({ page: tab }).disableRules(["region"]).analyze();
  assert.deepEqual(violations.map(({ id }) => id), []);
  const box = await button.boundingBox();
  assert.ok(box && box.height >= 44 && box.width >= 44);
  await context.close();
});

test("a frame that does not hand on the microphone: its own words, and a window of its own", async () => {
  const { page: tab, context } = await open(browser);
  await site(tab, `<!doctype html><title>x</title><iframe title="Click to call" width=360 height=500 src="${widgetAddress()}"></iframe>`);
  const frame = tab.frameLocator("iframe");
  await frame.getByRole("button", { name: "Call", exact: true, disabled: false }).click();
  await frame.getByRole("alert").getByRole("heading", { name: "This page can’t use the microphone" }).waitFor();
  const link = frame.getByRole("link", { name: "Open in a new window" });
  const [popup] = await Promise.all([context.waitForEvent("page"), link.click()]);
  await popup.getByRole("button", { name: "Call", exact: true, disabled: false }).waitFor();
  assert.equal(await popup.evaluate(() => opener), null);
  await context.close();
});
