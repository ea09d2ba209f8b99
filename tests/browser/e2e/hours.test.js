// Business hours as a visitor meets them, and relays on the way to a call.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { networkInterfaces } from "node:os";
import { after, before, test } from "node:test";
import { house, launch, manage, open, until, widgetAddress } from "./house.js";

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {{appId: string, widgetKey: string}} */
let app;
before(async () => {
  browser = await launch();
  app = await manage("POST", "/api/v1/apps", { name: "Night school" });
  const provider = { kind: "sip", uri: "sip:trunk.example.com", transport: "udp", active: true };
  await manage("PUT", `/api/v1/apps/${app.appId}/provider`, provider);
  const profile = { name: "Office", destination: "sip:office@trunk.example.com", default: true };
  await manage("POST", `/api/v1/apps/${app.appId}/profiles`, profile);
});
after(() => browser.close());

/** @param {Record<string, unknown>} hours */
const set = (hours) => manage("PUT", `/api/v1/apps/${app.appId}/hours`, hours);
const address = () => widgetAddress({ key: app.widgetKey }, app.appId);
/** Closed all week, so that no test depends on the day that it runs on. */
const never = { mode: "custom", timezone: "Europe/Berlin", weekly: {}, message: "Write to us, we answer tomorrow." };

test("who comes outside business hours reads so and cannot call", async () => {
  await set(never);
  const { page, complaints, context } = await open(browser, { ownSession: true });
  await page.goto(address());
  await page.getByText(never.message).waitFor();
  assert.equal(await page.getByRole("button", { name: "Call", exact: true }).count(), 0);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("who stayed until it closed is told at the tap; and when it opens again, can call", async () => {
  await set({ mode: "always" });
  const { page, complaints, context } = await open(browser, { ownSession: true });
  /** @type {any[]} */
  const events = [];
  page.on("request", (request) => {
    if (new URL(request.url()).pathname === "/v1/events") events.push(request.postDataJSON());
  });
  await page.goto(address());
  const button = page.getByRole("button", { name: "Call", exact: true });
  await button.waitFor();
  await set(never);
  await button.click();
  await page.getByText(never.message).waitFor();
  const errors = await until(async () => events.filter(({ name }) => name === "call_error"), (all) => all.length > 0);
  assert.deepEqual(errors.map(({ data }) => data.errorCode), ["session_refused"]);
  assert.deepEqual(events.map(({ name }) => name), ["widget_loaded", "call_error"]);
  assert.deepEqual(complaints, []);
  await set({ mode: "always" });
  await page.reload();
  await button.waitFor();
  await context.close();
});

test("a closed widget opens by itself, by the server's clock, and says so once", async () => {
  await set({ mode: "always" });
  const { page, complaints, context } = await open(browser, { ownSession: true });
  /** @type {string[]} */
  const events = [];
  page.on("request", (request) => request.url().endsWith("/v1/events") && events.push(request.postDataJSON().name));
  // The server is an hour ahead of this visitor. It opens in a second; then it is not open after all, then nothing answers.
  const ahead = (/** @type {number} */ ms) => new Date(Date.now() + 3_600_000 + ms).toISOString();
  let asked = 0;
  await page.route("**/v1/sessions", async (route) => {
    asked += 1;
    if (asked === 3) return route.fulfill({ status: 503, headers: { "retry-after": "40" }, json: { error: { type: "unavailable", message: "…" } } });
    const answer = await route.fetch();
    const { data, meta } = await answer.json();
    const closed = { message: never.message, opensAt: ahead(1_000) };
    const json = asked < 3 ? { data: { ...data, open: false, closed, expiresAt: ahead(900_000) }, meta: { ...meta, timestamp: ahead(0) } } : { data, meta };
    await route.fulfill({ status: 201, json });
  });
  await page.addInitScript(() => {
    const said = (/** @type {any} */ (window).said = /** @type {string[]} */ ([]));
    addEventListener("DOMContentLoaded", () => {
      const line = /** @type {HTMLElement} */ (document.getElementById("status"));
      new MutationObserver(() => said.push(line.textContent ?? "")).observe(line, { childList: true, characterData: true, subtree: true });
    });
  });
  await page.clock.install();
  await page.goto(address());
  await page.getByText(never.message).waitFor();
  const said = () => page.evaluate(() => /** @type {any} */ (window).said);
  await page.clock.fastForward(900);
  assert.equal(asked, 1, "not before it opens");
  // Nobody sees it: it waits until somebody does.
  await page.evaluate(() => Object.defineProperty(document, "hidden", { configurable: true, get: () => true }));
  await page.clock.fastForward(60_000);
  assert.equal(asked, 1, "not while it is hidden");
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => false });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await until(async () => asked, (count) => count === 2);
  /** @param {number} count */
  const goOnUntil = (count) => until(async () => {
    await page.clock.fastForward(1_000);
    return asked;
  }, (all) => all === count, 20_000);
  await goOnUntil(3);
  await page.getByText(never.message).waitFor();
  assert.deepEqual(await said(), ["Closed right now"]);
  await page.clock.fastForward(30_000);
  assert.equal(asked, 3, "no sooner than it was told");
  await goOnUntil(4);
  await page.getByRole("button", { name: "Call", exact: true }).waitFor();
  assert.deepEqual(await said(), ["Closed right now", "Ready to call"]);
  await page.clock.fastForward(3_600_000);
  assert.deepEqual([asked, events], [4, ["widget_loaded"]]);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a call asks the relays that the session lends", async () => {
  const outside = Object.values(networkInterfaces()).flat().find((it) => it?.family === "IPv4" && !it.internal);
  const relay = createSocket("udp4");
  await new Promise((resolve) => relay.bind(0, () => resolve(undefined)));
  /** @type {number[]} */
  const asked = [];
  relay.on("message", (message) => asked.push(message.readUInt16BE(0)));
  const url = `turn:${outside?.address ?? "127.0.0.1"}:${relay.address().port}?transport=udp`;
  const media = { url: house.mediaUrl, iceServers: [{ urls: [url], username: "1800000000:x", credential: "x" }] };
  const { page, complaints, context } = await open(browser, { ownSession: true, answer: { media } });
  await page.goto(widgetAddress());
  await page.getByRole("button", { name: "Call", exact: true }).click();
  // An Allocate request (RFC 8656): the document's policy lets it pass.
  await until(async () => asked, (all) => all.includes(0x0003));
  assert.deepEqual(complaints, []);
  await context.close();
  relay.close();
});
