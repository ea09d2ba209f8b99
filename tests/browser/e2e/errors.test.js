// Every error code of the contract (section 3) as a visitor meets it who has no mouse: what is said and what to do next, where
// the focus is, what is reported, that the microphone is off, and that the way on works once the cause is gone. What the real
// house and its telephone can be made to do, they do; only what no house here can do is made up in the browser.

import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { after, before, test } from "node:test";
import { house, launch, makeApp, manage, site, until, widgetAddress } from "./house.js";
import { delivered, microphones, visit } from "./visitor.js";

/**
 * @typedef {import("playwright-core").Page} Page
 * @typedef {Awaited<ReturnType<typeof visit>>} Visitor
 * @typedef {{code: string, how?: string, title: string, next: string, started?: true, browser?: string[], dialled?: string,
 *   before?: (page: Page) => Promise<unknown>, cause?: (visitor: Visitor) => Promise<() => Promise<unknown>>}} Case
 *   `next`: what the words say to do; `started`: the call began before it failed; `browser`: arguments of one of its own;
 *   `dialled`: whom the telephone of the house is rung as; `before`: what is made up in the page; `cause` gives what ends it
 */

const CODES = [
  "mic_policy", "mic_denied", "mic_missing", "mic_busy", "insecure_context", "session_refused", "provider_inactive",
  "network_unreachable", "media_failed", "no_audio", "busy", "rejected", "no_answer", "destination_unavailable", "call_limit",
  "internal",
];
const AUDIO = "--use-fake-device-for-media-stream";
const GRANTED = "--use-fake-ui-for-media-stream";

/** @type {Awaited<ReturnType<typeof makeApp>>} */
let app;
before(async () => {
  app = await makeApp();
  for (const { dialled } of cases) if (dialled) await number(dialled);
});

/** A profile of the app that rings the telephone as this user; the user is its routing key, too. @param {string} user */
const number = (user) =>
  manage("POST", `${app.at}/profiles`, { name: user, destination: `sip:${user}@127.0.0.1`, routingKeys: [user] });

/** From now on somebody answers there. @param {string} user */
async function answers(user) {
  const profiles = await manage("GET", `${app.at}/profiles?limit=100`);
  const { id } = profiles.find((/** @type {any} */ { name }) => name === user);
  await manage("PATCH", `${app.at}/profiles/${id}`, { destination: "sip:echo@127.0.0.1" });
}

/** The first of what the page asks of its microphone fails so. @param {Page} page @param {string} name */
const once = (page, name) => page.addInitScript((exception) => {
  const original = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wishes) => {
    navigator.mediaDevices.getUserMedia = original;
    if (exception) throw new DOMException("…", exception);
    return original(wishes);
  };
}, name);

/** Requests that begin a call are treated so, until it is mended. @param {Visitor} visitor @param {(route: import("playwright-core").Route) => Promise<unknown>} treat */
async function offers({ page }, treat) {
  await page.route("**/v1/calls", treat);
  return () => page.unroute("**/v1/calls");
}

/** The app's provider, switched on or off. @param {boolean} active */
async function provider(active) {
  const { uri } = await manage("GET", `${app.at}/provider`);
  await manage("PUT", `${app.at}/provider`, { kind: "sip", uri, transport: "udp", active });
}

/** As many calls as the app may have at once, of other visitors, whose sound never comes through; gives what ends them. */
async function crowd() {
  const ask = async (/** @type {string} */ url, /** @type {Record<string, string>} */ headers, /** @type {string} */ body) => {
    const answer = await fetch(url, { method: "POST", headers, body });
    assert.equal(answer.status, 201);
    return answer;
  };
  const calls = await Promise.all(Array.from({ length: 20 }, async () => {
    const wanted = JSON.stringify({ appId: app.appId, widgetKey: app.key });
    const opened = await ask(new URL("/v1/sessions", house.origin).href, { "content-type": "application/json" }, wanted);
    const authorization = `Bearer ${(await opened.json()).data.sessionToken}`;
    const begun = await ask(`${house.mediaUrl}/v1/calls`, { "content-type": "application/sdp", authorization }, offer);
    return { address: new URL(begun.headers.get("location") ?? "", house.mediaUrl), authorization };
  }));
  return async () => {
    for (const { address, authorization } of calls) await fetch(address, { method: "DELETE", headers: { authorization } });
    const places = async () => (await manage("GET", `${app.at}/calls?limit=100`)).filter((/** @type {any} */ it) => !it.endedAt);
    await until(places, (running) => running.length === 0);
  };
}
/** What a browser offers. */
let offer = "";

/** @type {Case[]} */
const cases = [
  {
    code: "mic_denied", title: "Your microphone is blocked", next: "Allow the microphone for this page", browser: [AUDIO],
    // The browser asks nobody here, and so refuses, until the visitor has allowed it in its settings.
    cause: async ({ context }) => () => context.grantPermissions(["microphone"], { origin: house.origin }),
  },
  {
    code: "mic_missing", title: "No microphone found", next: "Connect a microphone or headset", browser: [GRANTED, "--disable-audio-input"],
    cause: async ({ page }) => () => page.evaluate(() => {
      navigator.mediaDevices.getUserMedia = async () => new AudioContext().createMediaStreamDestination().stream;
    }),
  },
  {
    code: "mic_busy", title: "Your microphone is in use", next: "Close that, then try again",
    before: (page) => once(page, "NotReadableError"),
  },
  {
    code: "session_refused", title: "Let’s start afresh", next: "Please try again",
    cause: (visitor) => offers(visitor, (route) =>
      route.continue({ headers: { ...route.request().headers(), authorization: "Bearer of.another.house" } })),
  },
  {
    code: "provider_inactive", title: "Calls are switched off", next: "try again later or reach us another way",
    cause: async () => {
      await provider(false);
      return () => provider(true);
    },
  },
  {
    code: "network_unreachable", title: "We can’t reach our service", next: "Check your internet connection",
    cause: (visitor) => offers(visitor, (route) => route.abort()),
  },
  {
    code: "network_unreachable", how: "sound does not get through", title: "We can’t reach our service",
    next: "A VPN or company network may be blocking calls", started: true,
    // To a port of this machine where nobody listens.
    cause: (visitor) => offers(visitor, async (route) => {
      const answer = await route.fetch();
      const body = (await answer.text()).replace(/^(a=candidate:(?:\S+ ){5})\d+/gm, "$19");
      assert.match(body, /^a=candidate:(?:\S+ ){5}9 /m);
      await route.fulfill({ response: answer, body });
    }),
  },
  {
    code: "media_failed", title: "We couldn’t connect the call", next: "try again in a moment or reach us another way",
    cause: (visitor) => offers(visitor, (route) =>
      route.fulfill({ status: 503, headers: { "access-control-allow-origin": "*" }, json: { error: { type: "unavailable", message: "…" } } })),
  },
  {
    code: "internal", title: "Something went wrong", next: "try again in a moment",
    cause: async ({ page }) => {
      await page.evaluate(() => {
        const all = /** @type {any} */ (window);
        all.Peer = RTCPeerConnection;
        all.RTCPeerConnection = class { constructor() { throw new Error("no more connections"); } };
      });
      return () => page.evaluate(() => void (/** @type {any} */ (window).RTCPeerConnection = /** @type {any} */ (window).Peer));
    },
  },
  { code: "no_audio", title: "We couldn’t hear anything", next: "Please try again", started: true, dialled: "silent" },
  { code: "busy", title: "The line is busy", next: "try again in a few minutes", started: true, dialled: "486" },
  { code: "rejected", title: "Your call wasn’t taken", next: "try again later or reach us another way", started: true, dialled: "603" },
  { code: "no_answer", title: "Nobody answered", next: "try again in a few minutes", started: true, dialled: "480" },
  { code: "destination_unavailable", title: "Nobody can be reached", next: "try again later or reach us another way", started: true, dialled: "503" },
  {
    code: "call_limit", title: "All our lines are busy", next: "wait a minute, then try again",
    cause: async ({ page }) => {
      offer = await page.evaluate(async () => {
        const peer = new RTCPeerConnection();
        peer.addTransceiver("audio");
        peer.createDataChannel("control");
        const { sdp } = await peer.createOffer();
        peer.close();
        return sdp ?? "";
      });
      return crowd();
    },
  },
];

/** What a visitor is told of a call that failed, and what the outside is: once, and nothing that is not so. @param {Visitor} visitor @param {Case} expected */
async function failed({ page, events, status }, { code, title, next, started }) {
  const alert = page.getByRole("alert");
  // The longest that anything takes is the wait for sound.
  await alert.getByRole("heading", { name: title, level: 1 }).waitFor({ timeout: 60_000 });
  assert.match(await alert.innerText(), new RegExp(next));
  await status("Not connected").waitFor();
  assert.deepEqual([await alert.count(), await page.getByRole("status").count()], [1, 1]);
  assert.ok((await microphones(page)).every((it) => it === "ended"), "the microphone is off");

  const names = ["widget_loaded", ...(started ? ["call_started"] : []), "call_error"];
  await until(async () => events.map(({ name }) => name), (all) => all.includes("call_error"));
  // The media server tells the same end; not until it has, all is said.
  const { id } = events.find(({ name }) => name === "call_error");
  if (started) {
    const call = () => manage("GET", `${app.at}/calls/${id.replace("evt_", "call_")}`);
    const { errorCode, reason } = await until(call, ({ endedAt }) => endedAt !== undefined);
    // Whichever of both noticed it first.
    assert.equal(errorCode ?? reason, code, "as the call is noted");
  }
  const delivery = await delivered(events, app.at);
  assert.deepEqual(delivery.map((/** @type {any} */ { name }) => name).sort(), names.sort());
  assert.deepEqual(events.map(({ name }) => name).sort(), names);
  const { data } = delivery.find((/** @type {any} */ { name }) => name === "call_error");
  assert.deepEqual([data.errorCode, typeof data.errorMessage], [code, "string"]);
}

for (const it of cases) {
  test(`${it.code}${it.how ? `, as ${it.how}` : ""}: said, reported once, and tried again`, async (t) => {
    const browser = await launch(it.browser && { args: it.browser });
    t.after(() => browser.close());
    const parameters = it.dialled ? { routingKey: it.dialled } : {};
    const visitor = await visit(browser, parameters, { of: app, before: it.before });
    const { page, complaints, button, status, focused } = visitor;
    await button("Call").waitFor();
    const mend = (await it.cause?.(visitor)) ?? (() => (it.dialled ? answers(it.dialled) : undefined));
    await button("Call").focus();
    await page.keyboard.press("Enter");
    await failed(visitor, it);
    assert.equal(await focused(), "Try again");

    await mend();
    await page.keyboard.press("Enter");
    await status("Connected").waitFor();
    assert.equal(await page.getByRole("alert").innerText(), "");
    await button("Hang up").click();
    await status("Call ended").waitFor();
    assert.deepEqual(complaints, []);
  });
}

test("mic_policy: said, reported once, and a window of the widget's own has the microphone", async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const visitor = await visit(browser, {}, { of: app });
  const { page, context, events } = visitor;
  const address = widgetAddress({ key: app.key }, app.appId).replaceAll("&", "&amp;");
  await page.getByRole("button", { name: "Call", exact: true, disabled: false }).waitFor();
  events.length = 0;
  await site(page, `<!doctype html><title>x</title><iframe title="Click to call" width=360 height=500 src="${address}"></iframe>`);
  const frame = page.frameLocator("iframe");
  await frame.getByRole("button", { name: "Call", exact: true, disabled: false }).focus();
  await page.keyboard.press("Enter");
  const alert = frame.getByRole("alert");
  await alert.getByRole("heading", { name: "This page can’t use the microphone" }).waitFor();
  assert.match(await alert.innerText(), /call from a window of its own/);
  assert.equal(await frame.locator(":focus").innerText(), "Open in a new window");
  const delivery = await until(() => delivered(events, app.at), (all) => all.length === 2);
  assert.deepEqual(delivery.map((/** @type {any} */ { name }) => name).sort(), ["call_error", "widget_loaded"]);
  assert.equal(delivery.find((/** @type {any} */ { name }) => name === "call_error").data.errorCode, "mic_policy");

  const [popup] = await Promise.all([context.waitForEvent("page"), page.keyboard.press("Enter")]);
  await popup.getByRole("button", { name: "Call", exact: true, disabled: false }).click();
  await popup.getByRole("status").getByText("Connected").waitFor();
});

test("insecure_context: said with other ways to go, reported once, and nothing promised that cannot be", async (t) => {
  // The house under a name that is no machine's own, and without https.
  const { port } = new URL(house.origin);
  const proxy = createServer((asked, answer) => {
    const headers = { ...asked.headers, host: `localhost:${port}` };
    const passed = request({ host: "127.0.0.1", port, method: asked.method, path: asked.url, headers }, (given) => {
      answer.writeHead(given.statusCode ?? 502, given.headers);
      given.pipe(answer);
    });
    asked.pipe(passed);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", () => resolve(undefined)));
  t.after(() => proxy.close());
  const origin = `http://calls.example:${/** @type {import("node:net").AddressInfo} */ (proxy.address()).port}`;
  const browser = await launch({ args: [AUDIO, GRANTED, "--host-resolver-rules=MAP calls.example 127.0.0.1"] });
  t.after(() => browser.close());
  const visitor = await visit(browser, {}, { of: app, origin });
  const { page, button, focused } = visitor;
  await button("Call").focus();
  assert.equal(await page.evaluate(() => isSecureContext), false);
  await page.keyboard.press("Enter");
  await failed(visitor, { code: "insecure_context", title: "This page isn’t secure", next: "Please reach us another way" });
  assert.equal(await page.getByRole("button").count(), 0);
  assert.equal(await focused(), "This page isn’t secure");
});

test("offline, before anything of a call was fetched: said, and tried again once the network is back", async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const { page, context, events, button, status, focused } = await visit(browser, {}, { of: app });
  /** @type {Set<string>} */
  const addresses = new Set();
  page.on("request", (request) => request.url().includes("/call.js") && addresses.add(request.url()));
  await button("Call").waitFor();
  await until(async () => events.length, (count) => count === 1);
  await context.setOffline(true);
  await button("Call").focus();
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByRole("heading", { name: "We can’t reach our service" }).waitFor();
  assert.equal(await focused(), "Try again");
  await context.setOffline(false);
  await page.keyboard.press("Enter");
  await status("Connected").waitFor();
  // Some browsers never ask again for a module that once did not come.
  assert.ok(addresses.size > 1);
});

/** How a report that was tried in vain gets out after all. @type {Record<string, {lose: (visitor: Visitor) => Promise<unknown>, way: (visitor: Visitor) => Promise<unknown>}>} */
const outlets = {
  "the network is back": {
    lose: ({ context }) => context.setOffline(true),
    way: ({ context }) => context.setOffline(false),
  },
  "the page is left": {
    lose: ({ page }) => page.route("**/v1/**", (route) => route.abort()),
    way: async ({ page }) => {
      await page.unroute("**/v1/**");
      await page.goto(`${house.origin}/healthz`);
    },
  },
};

for (const [when, { lose, way }] of Object.entries(outlets)) {
  test(`a failure that could not be reported is, once, when ${when}`, async (t) => {
    const browser = await launch();
    t.after(() => browser.close());
    const visitor = await visit(browser, {}, { of: app });
    const { page, events, button } = visitor;
    await button("Call").waitFor();
    await until(async () => events.length, (count) => count === 1);
    let failures = 0;
    page.on("requestfailed", (request) => void (failures += Number(request.url().endsWith("/v1/events"))));
    await lose(visitor);
    await button("Call").click();
    await page.getByRole("alert").getByRole("heading", { name: "We can’t reach our service" }).waitFor();
    await until(async () => failures, (count) => count === 2);
    await way(visitor);
    const delivery = await delivered(events, app.at);
    assert.deepEqual(delivery.map((/** @type {any} */ { name }) => name).sort(), ["call_error", "widget_loaded"]);
    assert.equal(new Set(events.map(({ id }) => id)).size, 2);
  });
}

test("no code of the contract is left out", () => {
  const tried = new Set([...cases.map(({ code }) => code), "mic_policy", "insecure_context"]);
  assert.deepEqual([...tried].sort(), CODES.sort());
});
