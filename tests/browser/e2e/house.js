// The running house as the tests see it: its addresses (C2C_LOCAL_JSON names the file), a browser, and what every test
// asks for. Nothing here knows the widget's insides: things are found by their accessible names.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { chromium } from "playwright-core";

const file = process.env.C2C_LOCAL_JSON;
assert.ok(file, "C2C_LOCAL_JSON must name the running house's local.json");

/** @type {any} */
export const house = JSON.parse(readFileSync(file, "utf8"));

/** A widget's own address, as a plain link or frame has it. */
export const widgetAddress = (parameters = {}, appId = house.demo.appId) => {
  const address = new URL(`/widget/${appId}`, house.origin);
  for (const [name, value] of Object.entries({ key: house.demo.widgetKey, ...parameters })) {
    address.searchParams.set(name, value);
  }
  return address.href;
};

/** With a made-up microphone that every page may use, unless `args` say otherwise. */
export const launch = (/** @type {import("playwright-core").LaunchOptions} */ options = {}) =>
  chromium.launch({
    ...options,
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", ...(options.args ?? ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])],
  });

/** @type {{status: number, json: any} | undefined} */
let shared;

async function openSession() {
  const answer = await fetch(new URL("/v1/sessions", house.origin), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ appId: house.demo.appId, widgetKey: house.demo.widgetKey }),
  });
  assert.equal(answer.status, 201);
  return { status: answer.status, json: await answer.json() };
}

/**
 * A page of its own, whose complaints are collected: policy violations and uncaught errors. Pages share one real session
 * unless a test needs its own: so many tests in a minute would meet the limit of sessions for one address.
 * @param {import("playwright-core").Browser} browser
 * @param {import("playwright-core").BrowserContextOptions & {ownSession?: boolean, answer?: Record<string, unknown>}} [options]
 *   `answer` takes the place of what the session's answer says of the widget
 */
export async function open(browser, options = {}) {
  const { ownSession = false, answer, ...rest } = options;
  const context = await browser.newContext(rest);
  if (!ownSession) shared ??= await openSession();
  if (!ownSession || answer) {
    await context.route("**/v1/sessions", async (route) => {
      const real = ownSession ? await route.fetch() : undefined;
      const { status, json } = real ? { status: real.status(), json: await real.json() } : /** @type {any} */ (shared);
      await route.fulfill({ status, json: { ...json, data: { ...json.data, ...answer } } });
    });
  }
  const page = await context.newPage();
  /** @type {string[]} */
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    const text = message.text();
    if (/content security policy|trusted ?type|permissions.policy|refused to/i.test(text)) complaints.push(text);
  });
  return { context, page, complaints };
}

/**
 * Asks until the answer satisfies; the last answer is in the failure.
 * @template T
 * @param {() => Promise<T>} ask
 * @param {(answer: T) => boolean} satisfies
 */
export async function until(ask, satisfies, withinMs = 30_000) {
  const end = Date.now() + withinMs;
  for (;;) {
    const answer = await ask();
    if (satisfies(answer)) return answer;
    if (Date.now() > end) assert.fail(`not within ${withinMs} ms: ${JSON.stringify(answer).slice(0, 2_000)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** What the inbox (a pretended customer's server) has received: the events' envelopes. */
export async function received() {
  const { data } = await (await fetch(house.demo.inboxApi)).json();
  return data.map((/** @type {any} */ { body }) => (typeof body === "string" ? JSON.parse(body) : body));
}

/**
 * Shows a page of a made-up site, so that the widget can be embedded in ways the demo page does not show. Really served:
 * a page that a test makes up inside the browser counts as public, and may not load from this machine.
 * @param {import("playwright-core").Page} page
 * @param {string} html
 * @param {Record<string, string>} [headers]
 */
export async function site(page, html, headers = {}) {
  const server = createServer((_, answer) => answer.writeHead(200, { "content-type": "text/html", ...headers }).end(html));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  page.once("close", () => server.close());
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  await page.goto(`http://site.localhost:${port}/`);
}

/**
 * The management API. Its host is a name that only browsers know to be this machine.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export function manage(method, path, body) {
  const { host, port } = new URL(house.consoleOrigin);
  const headers = { host, authorization: `Bearer ${house.operatorToken}`, "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, method, path, headers }, async (answer) => {
      let text = "";
      for await (const part of answer) text += part;
      if ((answer.statusCode ?? 500) < 300) resolve(text && JSON.parse(text).data);
      else reject(new Error(`${method} ${path}: ${answer.statusCode} ${text}`));
    });
    asked.on("error", reject);
    asked.end(body === undefined ? "" : JSON.stringify(body));
  });
}

/**
 * An app of a test's own: the demo's telephone and profiles, the demo's inbox, and what else it is to have, as the management
 * API takes it. Parts of the design are published.
 * @param {{design?: unknown, form?: unknown, survey?: unknown, buttons?: unknown, embed?: unknown, "custom-code"?: unknown,
 *   hours?: unknown}} [parts]
 * @returns {Promise<{appId: string, key: string, at: string}>} `at`: its place in the management API
 */
export async function makeApp(parts = {}) {
  const { appId, widgetKey } = await manage("POST", "/api/v1/apps", { name: "A test's own" });
  const [at, demo] = [appId, house.demo.appId].map((id) => `/api/v1/apps/${id}`);
  const { uri } = await manage("GET", `${demo}/provider`);
  await manage("PUT", `${at}/provider`, { kind: "sip", uri, transport: "udp", active: true });
  for (const { name, destination, routingKeys, default: standard } of await manage("GET", `${demo}/profiles`)) {
    await manage("POST", `${at}/profiles`, { name, destination, routingKeys, default: standard });
  }
  const events = ["widget_loaded", "call_started", "call_ended", "call_error", "survey_submitted", "custom_button_clicked"];
  await manage("POST", `${at}/integrations`, { name: "Inbox", url: house.demo.inboxUrl, events });
  for (const [part, content] of Object.entries(parts)) await manage("PUT", `${at}/${part}`, content);
  if (parts.design || parts.form || parts.survey || parts.buttons) await manage("POST", `${at}/design/publish`, {});
  return { appId, key: widgetKey, at };
}
