// Customers' own code, inside its real document: what it hears and says, and what it must not be able to do. The same attempts
// succeed on a control page, framed by its own host without a sandbox, so that none fails here for a reason of its own.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { house, launch, makeApp, manage, open, until, widgetAddress } from "./house.js";

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof makeApp>>} */
let app;
/** @type {import("node:http").Server} */
let server;
let site = "";
/** @type {string[]} */
const asked = [];

/** The page around the widget, `?{address of the frame}`; and the control page's frame, which is a page like any other. */
function page(/** @type {string} */ path) {
  if (path.endsWith(".js")) return { type: "text/javascript", body: "onconnect=({ports:[port]})=>port.postMessage(1);globalThis.postMessage?.(1)" };
  if (path.startsWith("/api")) return { type: "application/json", body: '{"secret":1}' };
  if (path !== "/") return { type: "text/html", body: "<!doctype html><title>Frame</title><body>secret" };
  const body = `<!doctype html><title>A site</title><body><script>
    heard = []; addEventListener("message", (event) => heard.push({ origin: event.origin, data: event.data }));
    const frame = document.createElement("iframe");
    frame.allow = "microphone *; camera *; geolocation *; autoplay *; screen-wake-lock *";
    frame.src = decodeURIComponent(location.search.slice(1)); document.body.append(frame);</script>`;
  return { type: "text/html", body };
}

before(async () => {
  server = createServer((request, answer) => {
    asked.push(`${request.method} ${request.url}`);
    const { type, body } = page(new URL(request.url ?? "/", "http://x").pathname);
    answer.writeHead(200, { "content-type": type }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  site = `http://site.localhost:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`;
  browser = await launch();
  app = await makeApp({
    embed: { allowedOrigins: [site], frameAncestors: [site] },
    "custom-code": {
      headHtml: "<script>early = []; atOnce = c2c.context; c2c.on('*', (event) => early.push(event)); c2c.once('widget_loaded', (event) => (first = event));</script>",
      bodyEndHtml: "<p>Ours</p><script>last = []; c2c.on('widget_loaded', (event) => last.push(event));</script>",
    },
  });
});
after(async () => {
  await browser.close();
  server.close();
});

/** A page with the widget in it, and the frame of the customer's code, once it has heard of the widget. */
async function inside() {
  const opened = await open(browser, { ownSession: true });
  // What visitors allow the page, they do not allow the code in it.
  await opened.context.grantPermissions(["microphone", "camera", "geolocation", "notifications"], { origin: site });
  await opened.page.goto(`${site}/?${encodeURIComponent(widgetAddress({ key: app.key, order: "A-1" }, app.appId))}`);
  const code = await until(async () => opened.page.frames().find((it) => it.url().startsWith(house.codeOrigin)), (it) => it !== undefined);
  const frame = /** @type {import("playwright-core").Frame} */ (code);
  await until(() => frame.evaluate(() => /** @type {any} */ (globalThis).early?.length ?? 0), (count) => count > 0);
  const heard = () => opened.page.evaluate(() => /** @type {any} */ (globalThis).heard);
  return { ...opened, code: frame, heard };
}

/**
 * What the code may try: each answers with something true when it worked.
 * @type {Record<string, (at: {site: string, widget: string}) => unknown>}
 */
const attempts = {
  "read cookies": () => typeof document.cookie === "string",
  "write a cookie": () => ((document.cookie = "probe=1"), document.cookie.includes("probe=1")),
  "the cookie store": async () => (await /** @type {any} */ (globalThis).cookieStore.getAll(), true),
  "local storage": () => (localStorage.setItem("probe", "1"), localStorage.getItem("probe") === "1"),
  "session storage": () => (sessionStorage.setItem("probe", "1"), sessionStorage.getItem("probe") === "1"),
  "a database": () => new Promise((resolve, reject) => {
    const request = indexedDB.open("probe");
    request.onsuccess = () => resolve(true);
    request.onerror = () => reject(request.error);
  }),
  "the list of databases": async () => Array.isArray(await indexedDB.databases()),
  "a cache": async () => (await caches.open("probe"), true),
  "private files": async () => (await navigator.storage.getDirectory(), true),
  "a lock": () => navigator.locks.request("probe", () => true),
  "a service worker": async () => (await navigator.serviceWorker.register("/worker.js"), true),
  "the list of service workers": async () => Array.isArray(await navigator.serviceWorker.getRegistrations()),
  "a worker of its host": () => new Promise((resolve, reject) => {
    const worker = new Worker("/worker.js");
    worker.onmessage = () => resolve(true);
    worker.onerror = reject;
  }),
  "a shared worker": () => new Promise((resolve, reject) => {
    const worker = new SharedWorker("/worker.js");
    worker.port.onmessage = () => resolve(true);
    worker.onerror = reject;
  }),
  "the parent's document": () => parent.document.body !== null,
  "the top's document": () => top?.document.body !== null,
  "the parent's address": () => parent.location.href.length > 0,
  "the parent's storage": () => parent.localStorage !== null,
  "the parent's functions": () => /** @type {any} */ (parent).eval("1") === 1,
  "the parent's name": () => typeof parent.name === "string",
  "the element it stands in": () => frameElement !== null,
  "an origin of its own": () => origin !== "null",
  "lead the top elsewhere": ({ site }) => {
    const address = /** @type {Window} */ (top).location;
    // To where it is, but for the fragment: the page stays.
    address.href = `${site}/${new URL(document.referrer || site).search}#moved`;
    return new Promise((resolve) => {
      const look = () => (address.hash === "#moved" ? resolve(true) : setTimeout(look, 50));
      look();
    });
  },
  "lead the parent elsewhere": ({ site }) => {
    parent.location.replace(`${site}/${new URL(document.referrer || site).search}#again`);
    return new Promise((resolve) => {
      const look = () => (parent.location.hash === "#again" ? resolve(true) : setTimeout(look, 50));
      look();
    });
  },
  "a pop-up": () => {
    const opened = window.open("about:blank");
    opened?.close();
    return opened !== null;
  },
  "a question to the visitor": () => confirm("Really?"),
  "a prompt for the visitor": () => prompt("Password?") === "typed",
  "a form sent": ({ site }) => {
    const form = document.createElement("form");
    const into = document.createElement("iframe");
    into.name = form.target = "into";
    form.action = `${site}/api/form`;
    document.body.append(into, form);
    form.submit();
    return new Promise((resolve) => {
      const look = () => (into.contentDocument?.body?.textContent?.includes("secret") ? resolve(true) : setTimeout(look, 50));
      look();
    });
  },
  "the microphone": async () => (await navigator.mediaDevices.getUserMedia({ audio: true })).active,
  "the camera": async () => (await navigator.mediaDevices.getUserMedia({ video: true })).active,
  "where the visitor is": () => new Promise((resolve, reject) => navigator.geolocation.getCurrentPosition(() => resolve(true), reject)),
  "notifications": () => Notification.permission === "granted",
  "our API, with the visitor's credentials": async ({ widget }) => {
    const answer = await fetch(`${widget}/v1/sessions`, { method: "POST", credentials: "include", headers: { "content-type": "application/json" }, body: "{}" });
    return answer.status > 0;
  },
  "our pages, read": async ({ widget }) => (await (await fetch(`${widget}/api/page`)).text()).length > 0,
  "our pages, by the old way": ({ widget }) => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.onload = () => resolve(request.status > 0);
    request.onerror = reject;
    request.open("GET", `${widget}/api/page`);
    request.send();
  }),
  "our pages, in a frame of its own": ({ widget }) => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    const look = () => (frame.contentDocument?.body?.textContent?.includes("secret") ? resolve(true) : setTimeout(look, 50));
    frame.src = `${widget}/frame`;
    document.body.append(frame);
    look();
  }),
  "another base for addresses": ({ site }) => {
    const base = document.createElement("base");
    base.href = `${site}/elsewhere/`;
    document.head.append(base);
    const moved = document.baseURI === base.href;
    base.remove();
    return moved;
  },
};

/**
 * @param {import("playwright-core").Frame} frame
 * @param {string} name
 * @param {{site: string, widget: string}} at
 * @param {number} withinMs what is to fail gets this long to work after all; what is to work has as long as a slow machine takes
 */
async function attempt(frame, name, at, withinMs) {
  const run = `(async () => { try { return Boolean(await (${attempts[name]})(${JSON.stringify(at)})); } catch (error) { return String(error.name ?? error.type ?? error); } })()`;
  const limit = new Promise((resolve) => setTimeout(() => resolve("nothing came back"), withinMs));
  return Promise.race([frame.evaluate(run), limit]);
}

test(`${Object.keys(attempts).length} attempts fail in the customer's document and succeed on the control page`, async () => {
  assert.ok(Object.keys(attempts).length >= 30);
  const { page, code, context } = await inside();
  const dialogs = /** @type {string[]} */ ([]);
  page.on("dialog", (dialog) => (dialogs.push(dialog.message()), dialog.accept("typed")));
  await context.setGeolocation({ latitude: 1, longitude: 1 });
  const pages = context.pages().length;
  const [before, address] = [asked.length, page.url()];
  /** @type {Record<string, unknown>} */
  const worked = {};
  for (const name of Object.keys(attempts)) {
    const result = await attempt(code, name, { site, widget: house.origin }, 2_000);
    if (result === true) worked[name] = result;
  }
  assert.deepEqual(worked, {});
  assert.deepEqual([dialogs, context.pages().length, page.url()], [[], pages, address]);
  assert.deepEqual(asked.slice(before).filter((it) => it.includes("/api")), []);

  const control = await context.newPage();
  control.on("dialog", (dialog) => dialog.accept("typed"));
  await control.goto(`${site}/?${encodeURIComponent(`${site}/frame`)}`);
  const frame = /** @type {import("playwright-core").Frame} */ (await until(async () => control.frames()[1], (it) => it?.url() === `${site}/frame`));
  await control.bringToFront();
  /** @type {Record<string, unknown>} */
  const failed = {};
  for (const name of Object.keys(attempts)) {
    const result = await attempt(frame, name, { site, widget: site }, 30_000);
    if (result !== true) failed[name] = result;
  }
  assert.deepEqual(failed, {});
  await context.close();
});

test("a download, and a frame led elsewhere", async () => {
  const offer = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["x"]));
    link.download = "probe.txt";
    document.body.append(link);
    link.click();
  };
  const { page, code, context } = await inside();
  let downloads = 0;
  page.on("download", () => downloads++);
  await code.evaluate(offer);
  const before = asked.length;
  await code.evaluate((address) => void (location.href = address), `${site}/api/led`);
  await page.waitForTimeout(500);
  assert.deepEqual([downloads, asked.slice(before).filter((it) => it.includes("/api/led"))], [0, []]);

  const control = await context.newPage();
  await control.goto(`${site}/?${encodeURIComponent(`${site}/frame`)}`);
  const frame = /** @type {import("playwright-core").Frame} */ (await until(async () => control.frames()[1], (it) => it?.url() === `${site}/frame`));
  const downloaded = control.waitForEvent("download");
  await frame.evaluate(offer);
  await downloaded;
  await frame.evaluate((address) => void (location.href = address), `${site}/api/led`);
  await until(async () => asked.slice(before), (all) => all.some((it) => it.includes("/api/led")));
  await context.close();
});

test("the code hears events with their context, those of before too; `once` hears once, `off` nothing more", async () => {
  const { page, code, context } = await inside();
  const here = /** @type {any} */ (globalThis);
  const { early, first, last, atOnce } = await code.evaluate(() => {
    const { early, first, last, atOnce } = /** @type {any} */ (globalThis);
    return { early, first, last, atOnce };
  });
  assert.equal(here.c2c, undefined);
  assert.deepEqual(atOnce, { order: "A-1" });
  assert.deepEqual(early.map((/** @type {any} */ { name }) => name), ["widget_loaded"]);
  assert.deepEqual([first, last], [early[0], early]);
  assert.deepEqual(Object.keys(early[0]).sort(), ["context", "data", "id", "name", "timestamp"]);
  assert.deepEqual([early[0].context, early[0].data], [{ order: "A-1" }, { isPreview: false, context: { order: "A-1" } }]);

  await code.evaluate(() => {
    const all = /** @type {any} */ (globalThis);
    [all.late, all.none, all.good] = [[], [], []];
    const never = (/** @type {any} */ event) => all.none.push(event.name);
    all.c2c.on("*", () => { throw new Error("theirs"); });
    all.c2c.on("call_error", never);
    all.c2c.off("call_error", never);
    all.c2c.once("*", (/** @type {any} */ event) => all.good.push(event.name));
    all.c2c.on("*", (/** @type {any} */ event) => all.late.push(event.name));
  });
  await page.route("**/v1/calls", (route) => route.abort());
  const widget = page.frames()[1];
  await widget.getByRole("button", { name: "Call", exact: true, disabled: false }).click();
  await widget.getByRole("alert").getByRole("heading").waitFor();
  const { late, none, good } = await until(() => code.evaluate(() => {
    const { late, none, good } = /** @type {any} */ (globalThis);
    return { late, none, good };
  }), (it) => it.late.length === 2);
  assert.deepEqual([late, none, good], [["widget_loaded", "call_error"], [], ["widget_loaded"]]);
  await context.close();
});

test("the last fifty events are replayed, and no more", async () => {
  const { page, context } = await inside();
  await manage("PUT", `${app.at}/buttons`, { buttons: [{ id: "b1", label: "Hours", action: "copy", value: "9 to 5" }] });
  await manage("POST", `${app.at}/design/publish`, {});
  await page.route("**/v1/events", (route) => route.fulfill({ status: 202, json: { data: {} } }));
  // What is published holds for the next session; sessions see it within a few seconds.
  await until(async () => {
    await page.reload();
    const frame = page.frames()[1];
    await frame.getByRole("button", { name: "Call", exact: true, disabled: false }).waitFor();
    return frame.getByRole("button", { name: "Hours" }).count();
  }, (count) => count === 1, 20_000);
  const fresh = /** @type {import("playwright-core").Frame} */ (await until(async () => page.frames().find((it) => it.url().startsWith(house.codeOrigin)), (it) => it !== undefined));
  await until(() => fresh.evaluate(() => /** @type {any} */ (globalThis).early?.length ?? 0), (count) => count > 0);
  const hours = page.frames()[1].getByRole("button", { name: "Hours" });
  for (let count = 0; count < 55; count++) await hours.dispatchEvent("click");
  await until(() => fresh.evaluate(() => /** @type {any} */ (globalThis).early.length), (count) => count === 56);
  const replayed = await fresh.evaluate(() => {
    /** @type {any[]} */
    const all = [];
    /** @type {any} */ (globalThis).c2c.on("*", (/** @type {any} */ event) => all.push(event.name));
    return all;
  });
  assert.deepEqual([replayed.length, new Set(replayed)], [50, new Set(["custom_button_clicked"])]);
  await context.close();
});

test("what the code says reaches the page as `custom.…`, held to its caps, and never an integration", async () => {
  const { code, page, heard, context } = await inside();
  /** @type {string[]} */
  const posted = [];
  page.on("request", (request) => request.url().endsWith("/v1/events") && posted.push(request.postDataJSON().name));
  const emitted = await code.evaluate(async () => {
    const { c2c } = /** @type {any} */ (globalThis);
    const odd = JSON.parse('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"deep":{"__proto__":{"polluted":1},"kept":1},"context":"forged"}');
    return [
      c2c.emit("lead", { score: 7 }), c2c.emit("odd", odd), c2c.emit("plain"), c2c.emit("Upper", {}), c2c.emit("with.dot", {}), c2c.emit("a".repeat(41), {}),
      c2c.emit("widget_loaded\n", {}), c2c.emit("large", { text: "ä".repeat(2_048) }), c2c.emit("fits", { text: "ä".repeat(2_040) }), c2c.emit("list", [1]),
      c2c.emit("text", "x"), c2c.emit("nothing", null),
    ];
  });
  assert.deepEqual(emitted, [true, true, true, false, false, false, false, false, true, false, false, false]);
  const custom = async () => (await heard()).filter((/** @type {any} */ { data }) => data.event?.name.startsWith("custom."));
  const said = await until(custom, (all) => all.length === 4);
  assert.deepEqual(said.map((/** @type {any} */ { origin, data }) => [origin, data.source, data.version, data.event.name]),
    ["lead", "odd", "plain", "fits"].map((name) => [house.origin, "click-to-call", 1, `custom.${name}`]));
  assert.deepEqual(said[0].data.event.data, { score: 7, context: { order: "A-1" } });
  assert.deepEqual(said[1].data.event.data, { deep: { kept: 1 }, context: { order: "A-1" } });
  assert.equal(await page.evaluate(() => /** @type {any} */ ({}).polluted), undefined);

  await page.waitForTimeout(1_100);
  const before = (await custom()).length;
  const accepted = await code.evaluate(() => Array.from({ length: 2_000 }, () => /** @type {any} */ (globalThis).c2c.emit("flood", {})).filter(Boolean).length);
  assert.equal(accepted, 10);
  await until(custom, (all) => all.length === before + 10);
  await page.waitForTimeout(300);
  assert.equal((await custom()).length, before + 10);
  assert.deepEqual(posted.filter((name) => name.startsWith("custom")), []);
  await context.close();
});

test("the caps hold without the bridge too, and a flood past it is cut off while the widget goes on", async () => {
  const { page, context } = await open(browser, { ownSession: true });
  // A bridge of the customer's own making, in place of ours.
  const bare = await makeApp({
    embed: { allowedOrigins: [site], frameAncestors: [site] },
    "custom-code": { headHtml: "<script>addEventListener('message', ({ data, ports }) => { if (data == 'click-to-call:code') port = ports[0]; }, true);</script>", bodyEndHtml: "" },
  });
  await page.goto(`${site}/?${encodeURIComponent(widgetAddress({ key: bare.key }, bare.appId))}`);
  const code = /** @type {import("playwright-core").Frame} */ (await until(async () => page.frames().find((it) => it.url().startsWith(house.codeOrigin)), (it) => it !== undefined));
  await until(() => code.evaluate("typeof port"), (type) => type === "object");
  const custom = () => page.evaluate(() => /** @type {any} */ (globalThis).heard.filter((/** @type {any} */ { data }) => data.event?.name.startsWith("custom.")).map((/** @type {any} */ { data }) => data.event.name));
  await code.evaluate(() => {
    const { port } = /** @type {any} */ (globalThis);
    for (const said of [["ok", "{}"], ["Bad", "{}"], ["large", JSON.stringify({ text: "x".repeat(5_000) })], ["list", "[]"], ["odd", "{"], "text", { 0: "a", 1: "{}" }, null, [1, {}], ["last", "{}"]]) port.postMessage(said);
  });
  await until(custom, (all) => all.length === 2);
  assert.deepEqual(await custom(), ["custom.ok", "custom.last"]);
  await page.waitForTimeout(1_100);
  await code.evaluate(() => {
    const { port } = /** @type {any} */ (globalThis);
    for (let count = 0; count < 5_000; count++) port.postMessage(["flood", "{}"]);
  });
  await until(custom, (all) => all.length === 12);
  await page.waitForTimeout(1_200);
  await code.evaluate(() => /** @type {any} */ (globalThis).port.postMessage(["after", "{}"]));
  await page.waitForTimeout(300);
  assert.equal((await custom()).length, 12);
  await page.frames()[1].getByRole("button", { name: "Call", exact: true, disabled: false }).waitFor();
  await context.close();
});

test("others cannot speak in the widget's place: neither to the code nor to the widget", async () => {
  const { page, code, context } = await inside();
  // The page around the widget reaches the code's window, but is not its parent.
  await page.evaluate(() => {
    const inner = /** @type {any} */ (window[0])[0];
    const { port1, port2 } = new MessageChannel();
    inner.postMessage("click-to-call:code", "*", [port2]);
    port1.postMessage({ id: "evt_forged", name: "forged", data: { context: {} }, timestamp: "" });
    inner.postMessage({ source: "click-to-call", version: 1, event: { name: "forged", data: {} } }, "*");
  });
  // And the code reaches the widget's window, but is not the loader.
  const close = await code.evaluate(() => new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve("close");
    parent.postMessage("click-to-call:loader", "*", [port2]);
    setTimeout(() => resolve("nothing"), 500);
  }));
  await page.frames()[1].locator("body").press("Escape");
  assert.equal(close, "nothing");
  assert.deepEqual(await code.evaluate(() => /** @type {any} */ (globalThis).early.map((/** @type {any} */ { name }) => name)), ["widget_loaded"]);
  await context.close();
});

test("no token and no media credential is in anything that the page or the code hears", async () => {
  const { page, code, heard, context } = await inside();
  const widget = page.frames()[1];
  const answered = page.waitForResponse((it) => it.url().endsWith("/v1/calls") && it.status() === 201);
  const authorization = page.waitForRequest((it) => it.url().endsWith("/v1/calls"));
  await widget.getByRole("button", { name: "Call", exact: true, disabled: false }).click();
  await answered;
  const token = (await (await authorization).allHeaders()).authorization.slice("Bearer ".length);
  await widget.getByRole("status").getByText("Connected").waitFor();
  await widget.getByRole("button", { name: "Hang up" }).click();
  const names = async () => (await heard()).map((/** @type {any} */ { data }) => data.event.name);
  assert.deepEqual(await until(names, (all) => all.length === 3), ["widget_loaded", "call_started", "call_ended"]);
  const all = JSON.stringify([await heard(), await code.evaluate(() => /** @type {any} */ (globalThis).early)]);
  assert.ok(token.length > 40);
  for (const secret of [token, token.split(".")[1], app.key, "iceServers", "credential"]) assert.ok(secret && !all.includes(secret), secret);
  await context.close();
});

test("a busy loop in the code leaves the widget alone", async () => {
  const { page, code, context } = await inside();
  const widget = page.frames()[1];
  await widget.evaluate(() => {
    const all = /** @type {any} */ (globalThis);
    let last = performance.now();
    all.longest = 0;
    setInterval(() => {
      all.longest = Math.max(all.longest, performance.now() - last);
      last = performance.now();
    }, 10);
  });
  await code.evaluate(() => {
    const end = performance.now() + 2_500;
    while (performance.now() < end);
  });
  const gap = await widget.evaluate(() => /** @type {any} */ (globalThis).longest);
  // A machine that does much else makes gaps of its own, but none as long as that.
  assert.ok(gap < 1_500, `the widget stood still for ${gap} ms`);
  await context.close();
});
