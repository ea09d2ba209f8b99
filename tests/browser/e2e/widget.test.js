// The widget in a real browser against the running house: it renders, it reports, it says what is wrong.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { house, launch, open, received, until, widgetAddress } from "./house.js";

/** @type {import("playwright-core").Browser} */
let browser;
before(async () => void (browser = await launch()));
after(() => browser.close());

/** @param {import("playwright-core").Page | import("playwright-core").FrameLocator} where */
const callButton = (where) => where.getByRole("button", { name: "Call", exact: true, disabled: false });

test("the demo page's button opens the widget, and widget_loaded arrives with the page's context", async () => {
  const { page, complaints, context } = await open(browser, { ownSession: true });
  const known = new Set((await received()).map((/** @type {any} */ event) => event.id));
  /** @type {Promise<string>} */
  const opened = page.waitForRequest((request) => request.url().includes("/v1/sessions")).then((it) => it.postData() ?? "");
  await page.goto(house.demo.pageUrl);
  await page.getByRole("button", { name: /call/i }).first().click();
  const frame = page.frameLocator('iframe[title="Click to call"]');
  await callButton(frame).waitFor();
  await assert.rejects(frame.getByRole("alert").getByRole("heading").waitFor({ timeout: 300 }));
  assert.equal(await frame.getByRole("status").innerText(), "Ready to call");

  const expected = JSON.parse(await opened).context;
  assert.ok(Object.keys(expected).length > 0, "the demo page gives context");
  const events = await until(received, (all) => all.some((/** @type {any} */ it) => !known.has(it.id) && it.name === "widget_loaded"));
  const event = events.find((/** @type {any} */ it) => !known.has(it.id) && it.name === "widget_loaded");
  assert.match(event.id, /^evt_[0-9a-hjkmnp-tv-z]{26}$/);
  assert.match(event.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.deepEqual(event.data, { isPreview: false, context: expected });
  assert.deepEqual(complaints, []);
  await context.close();
});

test("an unknown app is an HTML screen with status 404", async () => {
  for (const id of ["app_01jd3v9zk0abcdefghjkmnpqrs", "nonsense", "%3Cscript%3Ealert(1)%3C%2Fscript%3E"]) {
    const { page, complaints, context } = await open(browser);
    const answer = await page.goto(widgetAddress({}, id));
    assert.equal(answer?.status(), 404);
    assert.match(answer?.headers()["content-type"] ?? "", /^text\/html/);
    await page.getByRole("alert").getByRole("heading", { name: "Calls aren’t available here yet" }).waitFor();
    await page.getByText("Is this your website?").click();
    await page.getByText("No app has the id").waitFor();
    assert.equal(await page.getByRole("button").count(), 0);
    assert.deepEqual(complaints, []);
    await context.close();
  }
});

test("a wrong key is a screen with a hint for the owner, and nothing is reported", async () => {
  const { page, complaints, context } = await open(browser, { ownSession: true });
  /** @type {string[]} */
  const events = [];
  page.on("request", (request) => request.url().includes("/v1/events") && events.push(request.url()));
  await page.goto(widgetAddress({ key: "wk_wrong" }));
  await page.getByRole("alert").getByRole("heading", { name: "Calls aren’t available here yet" }).waitFor();
  await page.getByText("Is this your website?").click();
  await page.getByText("The widget key in this embed code").waitFor();
  assert.deepEqual([events, complaints], [[], []]);
  await context.close();
});

/** @type {[string, number, string, string][]} */
const refusals = [
  ["no active provider", 409, "provider_inactive", "Calls are switched off"],
  ["too many sessions", 429, "rate_limit_exceeded", "A lot is going on"],
  ["a fault of ours", 500, "server_error", "Something went wrong"],
  ["a table that is away", 503, "unavailable", "Something went wrong"],
  ["a refusal", 403, "forbidden", "Calls aren’t available here yet"],
  ["wrong settings", 400, "validation_error", "Calls aren’t available here yet"],
];
for (const [name, status, type, title] of refusals) {
  test(`a session refused: ${name}`, async () => {
    const { page, complaints, context } = await open(browser);
    const error = { type, message: "…", timestamp: new Date().toISOString(), requestId: "r-1" };
    await page.route("**/v1/sessions", (route) => route.fulfill({ status, json: { error } }));
    await page.goto(widgetAddress());
    await page.getByRole("alert").getByRole("heading", { name: title }).waitFor();
    await page.getByText("Reference r-1").waitFor();
    assert.deepEqual(complaints, []);
    await context.close();
  });
}

test("without a network there is a screen, and trying again gets there; the keyboard's place is kept", async () => {
  const { page, context } = await open(browser);
  await page.route("**/v1/sessions", (route) => route.abort());
  await page.goto(widgetAddress());
  await page.getByRole("alert").getByRole("heading", { name: "We can’t reach our service" }).waitFor();
  await page.unroute("**/v1/sessions");
  await page.getByRole("button", { name: "Try again" }).focus();
  await page.keyboard.press("Enter");
  await callButton(page).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Call");
  await context.close();
});

test("an event is tried once more under the same id, and given up after that", async () => {
  const { page, context } = await open(browser);
  /** @type {any[]} */
  const sent = [];
  await page.route("**/v1/events", (route) => {
    sent.push(route.request().postDataJSON());
    return route.fulfill({ status: 503, json: { error: { type: "unavailable", message: "…" } } });
  });
  await page.goto(widgetAddress());
  await callButton(page).waitFor();
  await until(async () => sent.length, (count) => count === 2);
  await page.waitForTimeout(1_500);
  assert.deepEqual(sent[1], sent[0]);
  assert.equal(sent.length, 2);
  await context.close();
});

test("a call that cannot be placed says so, turns the microphone off, and reports call_error without call_started", async () => {
  const { page, complaints, context } = await open(browser);
  /** @type {any[]} */
  const sent = [];
  page.on("request", (request) => request.url().endsWith("/v1/events") && sent.push(request.postDataJSON()));
  await page.addInitScript(() => {
    const original = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wishes) => {
      const stream = await original(wishes);
      /** @type {any} */ (window).tracks = stream.getTracks();
      return stream;
    };
  });
  const error = { type: "unavailable", message: "No call can begin here." };
  const headers = { "access-control-allow-origin": "*", "retry-after": "5" };
  await page.route("**/v1/calls", (route) => route.fulfill({ status: 503, json: { error }, headers }));
  await page.goto(widgetAddress());
  await callButton(page).click();
  await page.getByRole("alert").getByRole("heading", { name: "We couldn’t connect the call" }).waitFor();
  await page.getByRole("button", { name: "Try again" }).waitFor();
  const states = await page.evaluate(() => /** @type {any} */ (window).tracks.map((/** @type {any} */ it) => it.readyState));
  assert.deepEqual(states, ["ended"]);
  await until(async () => sent.map((it) => it.name), (names) => names.includes("call_error"));
  assert.deepEqual(sent.map((it) => it.name), ["widget_loaded", "call_error"]);
  assert.equal(sent[1].data.errorCode, "media_failed");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a media server that is full is asked once more, after the time that it names", async () => {
  const { page, complaints, context } = await open(browser, { ownSession: true });
  /** @type {string[]} */
  const names = [];
  page.on("request", (request) => request.url().endsWith("/v1/events") && names.push(request.postDataJSON().name));
  /** @type {number[]} */
  const asked = [];
  await page.route("**/v1/calls", (route) => {
    asked.push(Date.now());
    const headers = { "access-control-allow-origin": "*", "access-control-expose-headers": "retry-after", "retry-after": "2" };
    const json = { error: { type: "unavailable", message: "No call can begin here." } };
    return asked.length === 1 ? route.fulfill({ status: 503, json, headers }) : route.continue();
  });
  await page.goto(widgetAddress());
  await callButton(page).click();
  await page.getByRole("status").getByText("Connected", { exact: true }).waitFor();
  assert.equal(asked.length, 2);
  assert.ok(asked[1] - asked[0] >= 1_900, `${asked[1] - asked[0]}`);
  await page.getByRole("button", { name: "Hang up" }).click();
  await until(async () => names, (all) => all.includes("call_ended"));
  assert.deepEqual(names, ["widget_loaded", "call_started", "call_ended"]);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("who hangs up while a full media server is waited for is not called", async () => {
  const { page, context } = await open(browser, { ownSession: true });
  /** @type {string[]} */
  const names = [];
  page.on("request", (request) => request.url().endsWith("/v1/events") && names.push(request.postDataJSON().name));
  let asked = 0;
  await page.route("**/v1/calls", (route) => {
    asked += 1;
    return route.fulfill({ status: 503, json: { error: { type: "unavailable", message: "…" } }, headers: { "access-control-allow-origin": "*" } });
  });
  await page.goto(widgetAddress());
  const refused = page.waitForResponse("**/v1/calls");
  await callButton(page).click();
  await refused;
  await page.getByRole("button", { name: "Hang up" }).click();
  await callButton(page).waitFor();
  await page.waitForTimeout(1_500);
  assert.deepEqual([asked, names], [1, ["widget_loaded"]]);
  await context.close();
});

test("a start can be given up, and nothing is reported of it", async () => {
  const { page, context } = await open(browser);
  /** @type {string[]} */
  const names = [];
  page.on("request", (request) => request.url().endsWith("/v1/events") && names.push(request.postDataJSON().name));
  await page.route("**/v1/calls", () => undefined);
  await page.goto(widgetAddress());
  await callButton(page).click();
  await page.getByRole("button", { name: "Hang up" }).click();
  await callButton(page).waitFor();
  assert.deepEqual(names, ["widget_loaded"]);
  await context.close();
});

test("the token is renewed before it ends, and a refused renewal means a new session at the next need", async () => {
  const { page, context } = await open(browser, { ownSession: true });
  await page.clock.install();
  /** @type {string[]} */
  const asked = [];
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (pathname.startsWith("/v1/sessions")) asked.push(pathname);
  });
  await page.goto(widgetAddress());
  await callButton(page).waitFor();
  await page.clock.fastForward("12:55");
  assert.deepEqual(asked, ["/v1/sessions"]);
  const renewed = page.waitForResponse("**/v1/sessions/renew");
  await page.clock.fastForward("01:00");
  assert.ok((await renewed).ok());

  await page.route("**/v1/sessions/renew", (route) => route.fulfill({ status: 401, json: { error: { type: "unauthorized", message: "…" } } }));
  // Until the widget has taken the new token in, there is no timer to run forward to.
  await until(async () => {
    await page.clock.fastForward("14:00");
    return asked.filter((it) => it.endsWith("renew"));
  }, (all) => all.length === 2);
  await page.route("**/v1/calls", (route) => route.abort());
  assert.equal(asked.filter((it) => it === "/v1/sessions").length, 1);
  await callButton(page).click();
  await until(async () => asked.filter((it) => it === "/v1/sessions"), (all) => all.length === 2);
  await context.close();
});

test("a page that comes back from the browser's history asks for a session and is loaded no second time", async () => {
  const returning = await launch({ ignoreDefaultArgs: ["--disable-back-forward-cache"] });
  const { page } = await open(returning, { ownSession: true });
  /** @type {string[]} */
  const asked = [];
  page.on("request", (request) => request.method() === "POST" && asked.push(new URL(request.url()).pathname));
  await page.goto(widgetAddress());
  await callButton(page).waitFor();
  await until(async () => asked, (all) => all.length === 2);
  await page.evaluate(() => addEventListener("pageshow", (event) => (/** @type {any} */ (window).persisted = event.persisted)));
  await page.goto(`${house.origin}/healthz`);
  await page.goBack({ waitUntil: "commit" });
  await until(() => page.evaluate(() => /** @type {any} */ (window).persisted), (persisted) => persisted === true);
  await callButton(page).waitFor();
  assert.deepEqual(asked, ["/v1/sessions", "/v1/events", "/v1/sessions"]);
  await returning.close();
});

test("the first paint: four requests to a usable widget, 25 KB, one host, within the budgets", async () => {
  const { page, context } = await open(browser, { ownSession: true });
  /** @type {{url: URL, bytes: number, encoding: string}[]} */
  const answers = [];
  page.on("requestfinished", async (request) => {
    if (!request.url().startsWith("http")) return;
    const encoding = (await (await request.response())?.headerValue("content-encoding")) ?? "";
    const { responseBodySize: bytes } = await request.sizes();
    answers.push({ url: new URL(request.url()), bytes, encoding });
  });
  await page.goto(widgetAddress());
  await callButton(page).waitFor();
  const first = answers.filter(({ url }) => url.pathname !== "/v1/events");
  assert.deepEqual([...new Set(first.map(({ url }) => url.origin))], [house.origin]);
  assert.ok(first.length <= 4, first.map(({ url }) => url.pathname).join(" "));
  const sum = (/** @type {typeof first} */ of) => of.reduce((total, { bytes }) => total + bytes, 0);
  const ending = (/** @type {string} */ end) => first.filter(({ url }) => url.pathname.endsWith(end));
  for (const { url, encoding } of [...ending(".js"), ...ending(".css")]) assert.equal(encoding, "br", url.pathname);
  assert.ok(sum(first) <= 25_600, `first paint: ${sum(first)}`);
  assert.ok(sum(first.filter(({ url }) => url.pathname.startsWith("/widget/"))) <= 3_072, "document");
  assert.ok(sum(ending(".js")) <= 15_360, "scripts");
  assert.ok(sum(ending(".css")) <= 4_096, "style sheet");
  const loader = await fetch(new URL("/embed.js", house.origin), { headers: { "accept-encoding": "br" } });
  assert.equal(loader.headers.get("content-encoding"), "br");
  await context.close();
});

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  test(`accessibility in ${colorScheme}: idle, start-up error, call error, unknown app; at 320 pixels`, async () => {
    const { page, context } = await open(browser, { colorScheme, reducedMotion: "reduce", viewport: { width: 320, height: 256 } });
    const check = async (/** @type {string} */ name) => {
      const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
      assert.deepEqual(violations.map(({ id, nodes }) => `${name}: ${id} ${nodes.map(({ html }) => html)}`), []);
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(sideways <= 0, `${name} scrolls sideways by ${sideways}`);
      for (const target of await page.locator("button, a, summary").all()) {
        const box = await target.boundingBox();
        assert.ok(box && box.height >= 44, `${name}: ${await target.innerText()} is ${box?.height} high`);
      }
    };
    await page.route("**/v1/calls", (route) => route.abort());
    await page.goto(widgetAddress());
    await callButton(page).waitFor();
    await check("idle");
    await callButton(page).click();
    await page.getByRole("alert").getByRole("heading").waitFor();
    await check("call error");
    await context.unroute("**/v1/sessions");
    await page.goto(widgetAddress({ key: "wk_wrong" }));
    await page.getByRole("alert").getByRole("heading").waitFor();
    await page.getByText("Is this your website?").click();
    await check("wrong key");
    await page.goto(widgetAddress({}, "nonsense"));
    await check("unknown app");
    await context.close();
  });
}
