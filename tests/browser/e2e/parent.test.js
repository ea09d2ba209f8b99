// What the page around the widget hears: by the app's list of origins alone, whatever the page says or hides about itself.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { launch, makeApp, manage, open, until, widgetAddress } from "./house.js";

const POLICIES = ["no-referrer", "origin", "same-origin", "strict-origin-when-cross-origin", "unsafe-url"];

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {import("node:http").Server} */
let server;
let port = 0;
/** @type {Record<string, Awaited<ReturnType<typeof makeApp>>>} */
const apps = {};

before(async () => {
  browser = await launch();
  server = createServer((request, answer) => {
    const { searchParams } = new URL(request.url ?? "/", "http://x");
    const body = `<!doctype html><title>A site</title><body><script>
      heard = []; addEventListener("message", ({ origin, data }) => heard.push({ origin, data }));
      const frame = document.createElement("iframe"); frame.allow = "microphone"; frame.src = ${JSON.stringify(searchParams.get("frame"))}; document.body.append(frame);</script>`;
    answer.writeHead(200, { "content-type": "text/html", "referrer-policy": searchParams.get("policy") ?? "" }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  ({ port } = /** @type {import("node:net").AddressInfo} */ (server.address()));
  const [match, other, third] = ["site", "other", "third"].map((name) => `http://${name}.localhost:${port}`);
  const lists = { none: [], match: [match], mismatch: [other, `http://site.localhost:${port + 1}`], many: [third, match, other] };
  for (const [name, allowedOrigins] of Object.entries(lists)) {
    apps[name] = await makeApp({ embed: { allowedOrigins, frameAncestors: [match, other, third] } });
  }
});
after(async () => {
  await browser.close();
  server.close();
});

for (const [list, hears] of /** @type {const} */ ([["none", false], ["match", true], ["mismatch", false], ["many", true]])) {
  test(`a list that is ${list}: the page hears ${hears ? "each event once" : "nothing"}, under every referrer policy`, async () => {
    const { appId, key } = apps[list];
    for (const policy of POLICIES) {
      const { page, context } = await open(browser, { ownSession: true });
      /** @type {any[]} */
      const events = [];
      page.on("request", (request) => request.url().endsWith("/v1/events") && events.push(request.postDataJSON()));
      await page.route("**/v1/calls", (route) => route.abort());
      const address = new URL(`http://site.localhost:${port}/`);
      address.search = String(new URLSearchParams({ policy, frame: widgetAddress({ key, order: "A-1" }, appId) }));
      await page.goto(address.href);
      const frame = page.frameLocator("iframe");
      await frame.getByRole("button", { name: "Call", exact: true, disabled: false }).click();
      await frame.getByRole("alert").getByRole("heading").waitFor();
      await until(async () => events.length, (count) => count === 2);
      const heard = () => page.evaluate(() => /** @type {any} */ (globalThis).heard);
      if (hears) await until(heard, (all) => all.length === 2);
      const expected = events.map(({ id, name, data, timestamp }) => ({
        origin: new URL(widgetAddress()).origin,
        data: { source: "click-to-call", version: 1, event: { id, name, data: { ...data, context: { order: "A-1" } }, timestamp } },
      }));
      assert.deepEqual(await heard(), hears ? expected : [], policy);
      await context.close();
    }
  });
}

test("the server's word about origins is checked when it is stored", async () => {
  for (const origin of ["*", "https://*.shop.example", "https://shop.example/path", "javascript:alert(1)", "null", "http://shop.example"]) {
    await assert.rejects(manage("PUT", `${apps.none.at}/embed`, { allowedOrigins: [origin], frameAncestors: [] }), /400/, origin);
  }
});

test("a wrong entry among origins silences no other", async () => {
  const { json } = { json: { widget: { allowedOrigins: ["nonsense", `http://site.localhost:${port}`] } } };
  const { page, complaints, context } = await open(browser, { ownSession: true, answer: json });
  const address = new URL(`http://site.localhost:${port}/`);
  address.search = String(new URLSearchParams({ policy: "", frame: widgetAddress({ key: apps.none.key }, apps.none.appId) }));
  await page.goto(address.href);
  await until(() => page.evaluate(() => /** @type {any} */ (globalThis).heard.length), (count) => count === 1);
  assert.deepEqual(complaints, []);
  await context.close();
});
