// Visitors who go away while a call's event is on its way, and pages that come back from the browser's history. Every event
// arrives, and none arrives twice. C2C_FULL=1 goes away fifty times in each manner, otherwise five.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { house, launch, makeApp, manage, open, received, site, until, widgetAddress } from "./house.js";

const TIMES = process.env.C2C_FULL ? 50 : 5;

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof makeApp>>} */
let app;
before(async () => {
  browser = await launch();
  app = await makeApp();
});
after(() => browser.close());

const callButton = (/** @type {import("playwright-core").Page} */ page) =>
  page.frameLocator("iframe").getByRole("button", { name: "Call", exact: true, disabled: false });

/** @param {import("playwright-core").Page} page */
const embed = (page) => site(page, `<!doctype html><title>A site</title><h1>A site</h1>
  <iframe title="Click to call" width=360 height=600 allow="microphone" src="${widgetAddress({ key: app.key }, app.appId).replaceAll("&", "&amp;")}"></iframe>`);

/** @type {Record<string, (page: import("playwright-core").Page) => Promise<unknown>>} */
const ways = {
  "the page is left": (page) => page.evaluate((to) => void (location.href = to), `${house.origin}/healthz`),
  "the frame is removed": (page) => page.evaluate(() => document.querySelector("iframe")?.remove()),
  "the tab is closed": (page) => page.close(),
};

for (const [way, go] of Object.entries(ways)) {
  test(`${way} ${TIMES} times while the end of a call is being sent: nothing lost, nothing twice`, async () => {
    /** @type {string[]} */
    const calls = [];
    /** What a page says last outlives it, but not the browser it was in. @type {import("playwright-core").BrowserContext[]} */
    const contexts = [];
    for (let time = 0; time < TIMES; time++) {
      const { page, context } = await open(browser, { ownSession: true });
      await embed(page);
      const placed = page.waitForResponse((it) => it.url().endsWith("/v1/calls") && it.status() === 201);
      await callButton(page).click();
      calls.push((await placed).headers().location.slice("/v1/calls/call_".length));
      await page.frameLocator("iframe").getByRole("status").getByText("Connected").waitFor();
      // Every other visitor hangs up and goes at once; the others only go.
      const frame = page.frames()[1];
      if (time % 2 === 0) {
        await frame.evaluate(() => {
          const hangUp = /** @type {HTMLElement} */ (document.querySelector(".stop"));
          hangUp.click();
        });
      }
      await go(page);
      contexts.push(context);
    }
    const expected = new Set(calls.map((call) => `evt_${call}`));
    const ours = async () => (await received()).filter((/** @type {any} */ { id }) => expected.has(id));
    await until(ours, (all) => all.length >= expected.size, 30_000);
    await until(() => manage("GET", `${app.at}/deliveries?limit=100`), (all) => all.every((/** @type {any} */ it) => it.status !== "pending"), 30_000);
    const all = await ours();
    assert.deepEqual(all.map((/** @type {any} */ { id }) => id).sort(), [...expected].sort());
    // A tab that the browser ends without a last word from the page is noticed by the media server, as a call gone silent.
    const gone = way === "the tab is closed" ? ["user_hangup", "no_audio"] : ["user_hangup"];
    for (const { id, name, data } of all) {
      const hungUp = calls.findIndex((call) => id === `evt_${call}`) % 2 === 0;
      const how = data.reason ?? data.errorCode;
      assert.ok(hungUp ? how === "user_hangup" : gone.includes(how), `${name}: ${how}`);
    }
    for (const context of contexts) await context.close();
  });
}

for (const called of [false, true]) {
  test(`the page around the widget comes back from the browser's history ${called ? "after a call" : "in idle"}, and a call can be placed`, async (t) => {
    const returning = await launch({ ignoreDefaultArgs: ["--disable-back-forward-cache"] });
    t.after(() => returning.close());
    const { page } = await open(returning, { ownSession: true });
    await embed(page);
    await callButton(page).waitFor();
    const frame = page.frameLocator("iframe");
    if (called) {
      await callButton(page).click();
      await frame.getByRole("status").getByText("Connected").waitFor();
      await frame.getByRole("button", { name: "Hang up" }).click();
      await frame.getByRole("status").getByText("Call ended").waitFor();
    }
    const place = await callButton(page).boundingBox();
    assert.ok(place);
    await page.evaluate(() => addEventListener("pageshow", (event) => (/** @type {any} */ (window).persisted = event.persisted)));
    await page.goto(`${house.origin}/healthz`);
    await page.goBack({ waitUntil: "commit" });
    await until(() => page.evaluate(() => /** @type {any} */ (window).persisted), (persisted) => persisted === true);
    // Playwright does not know the frames of such a page any more: it is pressed where it stands, and the server says the rest.
    const calls = async () => (await manage("GET", `${app.at}/calls?limit=100`)).length;
    const before = await calls();
    await until(async () => {
      await page.mouse.click(place.x + place.width / 2, place.y + place.height / 2);
      await page.waitForTimeout(3_000);
      return calls();
    }, (count) => count > before, 60_000);
  });
}
