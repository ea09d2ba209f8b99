// Call Studio as operators use it: in a browser, by keyboard, light and dark; and as somebody who means harm tries to: from other
// sites, with a role too small, with names that are markup. C2C_PICTURES names a folder for pictures of every page.

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { house, launch, makeApp, manage } from "./house.js";

const EVIL = '"><script>alert(1)</script>';
const VALUE = "s3cret-value-that-nobody-sees";
const PASSWORD = "s3cret-password";

/**
 * A request to the console's host, with or without what browsers say of where a form comes from.
 * @param {string} method
 * @param {string} path
 * @param {{cookie?: string, headers?: Record<string, string>, form?: Record<string, string>}} [options]
 * @returns {Promise<{status: number, headers: import("node:http").IncomingHttpHeaders, text: string}>}
 */
function ask(method, path, { cookie = "", headers = {}, form } = {}) {
  const { host, port } = new URL(house.consoleOrigin);
  const all = { host, cookie, "content-type": "application/x-www-form-urlencoded", ...headers };
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, method, path, headers: all }, async (answer) => {
      let text = "";
      for await (const part of answer) text += part;
      resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text });
    });
    asked.on("error", reject);
    asked.end(form ? new URLSearchParams(form).toString() : "");
  });
}

const OURS = { "sec-fetch-site": "same-origin" };

/** @param {string} token @returns {Promise<string>} the session's cookie */
async function signIn(token) {
  const answer = await ask("POST", "/sign-in", { headers: OURS, form: { token } });
  assert.equal(answer.status, 303, answer.text);
  return answer.headers["set-cookie"]?.[0]?.split(";")[0] ?? "";
}

/** Every page that links of these pages lead to. @param {string} cookie @param {string[]} from */
async function crawl(cookie, ...from) {
  /** @type {Map<string, string>} */
  const pages = new Map();
  const open = [...from];
  for (let path = open.shift(); path; path = open.shift()) {
    if (pages.has(path)) continue;
    const { status, text } = await ask("GET", path, { cookie });
    assert.equal(status, 200, path);
    pages.set(path, text);
    for (const [, href] of text.matchAll(/<a [^>]*href="(\/[^"#]*)"/g)) {
      if (href.startsWith(from[0]) && !href.includes("cursor=")) open.push(href.replaceAll("&amp;", "&"));
    }
  }
  return pages;
}

/** Where the forms of pages are posted to. @param {Map<string, string>} pages */
const actions = (pages) =>
  new Set([...pages.values()].flatMap((text) => [...text.matchAll(/<form[^>]* method="post" action="([^"]+)"/g)].map(([, action]) => action)));

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof makeApp>>} */
let app;
let admin = "";
let viewer = "";
let integration = "";
let home = "";

before(async () => {
  browser = await launch();
  app = await makeApp({
    design: { lang: "auto", texts: { title: EVIL }, theme: {}, blocks: [{ kind: "text", text: EVIL }, { kind: "disclosure", text: "Calls may take a while." }] },
    form: { fields: [{ id: "name", kind: "text", label: EVIL, required: true }, { id: "about", kind: "select", label: "About", options: [EVIL, "b"] }] },
    survey: { questions: [{ id: "q1", kind: "rating", label: EVIL }], comment: true },
    buttons: { buttons: [{ id: "b1", label: EVIL, action: "copy", value: EVIL }] },
    hours: { mode: "custom", timezone: "Europe/Berlin", message: EVIL, weekly: { mon: [{ open: "09:00", close: "17:00" }] }, exceptions: [{ date: "2031-12-25", label: EVIL, closed: true }] },
    "custom-code": { headHtml: `</textarea>${EVIL}`, bodyEndHtml: "<p>" },
  });
  home = `/apps/${app.appId}`;
  await manage("PATCH", app.at, { name: EVIL });
  const { uri } = await manage("GET", `${app.at}/provider`);
  await manage("PUT", `${app.at}/provider`, { kind: "sip", uri, transport: "udp", username: "us", password: PASSWORD, active: true });
  const url = `${house.demo.inboxUrl}?key={secret.key}`;
  integration = (await manage("POST", `${app.at}/integrations`, { name: EVIL, url: house.demo.inboxUrl, events: ["call_ended"], status: "inactive" })).id;
  await manage("PUT", `${app.at}/integrations/${integration}/secrets/key`, { value: VALUE });
  await manage("PATCH", `${app.at}/integrations/${integration}`, { url, headers: [{ name: "X-Evil", value: EVIL.replaceAll('"', "'") }] });
  await manage("POST", `${app.at}/integrations/${integration}/test`, {});
  await manage("POST", `${app.at}/profiles`, { name: EVIL, destination: "tel:+493012345678" });
  admin = await signIn(house.operatorToken);
  viewer = await signIn((await manage("POST", "/api/v1/operators", { name: EVIL, role: "viewer" })).token);
});
after(() => browser.close());

test("names are names: no page shows them as markup, and none shows a secret", async () => {
  const pages = await crawl(admin, home);
  assert.ok(pages.size >= 25, `only ${pages.size} pages: ${[...pages.keys()]}`);
  for (const path of ["/", "/operators", "/audit"]) pages.set(path, (await ask("GET", path, { cookie: admin })).text);
  for (const [path, text] of pages) {
    assert.doesNotMatch(text, /<script>/, path);
    for (const secret of [VALUE, PASSWORD, house.operatorToken]) assert.ok(!text.includes(secret), `${path} shows ${secret}`);
    assert.match(text, /<h1>/, path);
  }
  assert.ok([...pages.values()].some((text) => text.includes("&lt;script&gt;alert(1)")));
});

test("every form is refused that another site sends", async () => {
  const posts = actions(await crawl(admin, home));
  for (const action of ["/apps", "/operators", "/sign-out"]) posts.add(action);
  assert.ok(posts.size >= 25, `only ${[...posts]}`);
  const strange = [{ "sec-fetch-site": "cross-site" }, { "sec-fetch-site": "same-site" }, { origin: "https://evil.example" }, { origin: "null" }, {}];
  const before = JSON.stringify(await manage("GET", app.at));
  for (const action of posts) {
    for (const headers of strange) {
      const { status } = await ask("POST", action, { cookie: admin, headers, form: { "sure:flag": "on", name: "Mine now" } });
      assert.equal(status, 403, `${action} ${JSON.stringify(headers)}`);
    }
  }
  assert.equal(JSON.stringify(await manage("GET", app.at)), before);
  await manage("GET", `${app.at}/integrations/${integration}`);
});

test("a viewer sees everything but what changes it, and is refused when they try", async () => {
  const pages = await crawl(viewer, home);
  for (const [path, text] of pages) {
    const buttons = [...text.matchAll(/<button[^>]*>([^<]*)/g)].map(([, name]) => name);
    assert.deepEqual(buttons.filter((name) => !["Sign out", "Show"].includes(name)), [], path);
    assert.doesNotMatch(text, /href="\/operators"/, path);
  }
  const posts = [...actions(await crawl(admin, home)), "/apps", "/operators"];
  for (const action of posts.filter((action) => action !== "/sign-out")) {
    const form = { act: "save", name: "Mine", value: "x", reason: "curious", "sure:flag": "on", read: "" };
    const { status } = await ask("POST", action, { cookie: viewer, headers: OURS, form });
    assert.equal(status, 403, action);
  }
  const { status } = await ask("GET", "/operators", { cookie: viewer });
  assert.equal(status, 403);
  assert.equal((await manage("GET", app.at)).name, EVIL);
});

test("what is not there, or another's, is a kind page; who is not signed in is led to the door", async () => {
  const other = await makeApp();
  const nobody = "00000000000000000000000000";
  for (const path of [
    "/apps/nonsense", `/apps/app_${nobody}`, `${home}/nothing/here`, `${home}/calls/call_${nobody}`, `${home}/calls/..%2f..`, `${home}/deliveries/x`,
    `${home}/integrations/int_${nobody}/secrets`, `/apps/${other.appId}/integrations/${integration}`, `${home}/profiles/dest_${nobody}`,
  ]) {
    const { status, text, headers } = await ask("GET", path, { cookie: admin });
    assert.equal(status, 404, path);
    assert.match(String(headers["content-type"]), /^text\/html/);
    assert.match(text, /There is nothing here/, path);
  }
  for (const path of ["/", home, `${home}/design`, "/operators", "/audit"]) {
    const { status, headers } = await ask("GET", path);
    assert.deepEqual([status, headers.location], [303, "/sign-in"], path);
  }
});

test("what is wrong stands beside its field, and what was typed stays", async () => {
  const read = (/** @type {string} */ text) => /name="read" value="([^"]+)"/.exec(text)?.[1] ?? "";
  const place = `${home}/hours`;
  const first = await ask("GET", place, { cookie: admin });
  const typed = {
    read: read(first.text), act: "save", "mode:choice": "custom", "timezone:optional": "Europe/Berlin", "message:optional": "Back soon",
    "weekly.mon[0].open": "09:00", "weekly.mon[0].close": "", "weekly.tue[0].open": "", "weekly.tue[0].close": "",
    "exceptions[0].date": "2031-12-24", "exceptions[0].label:optional": "Eve", "exceptions[0].closed:flag": "on",
  };
  const wrong = await ask("POST", place, { cookie: admin, headers: OURS, form: typed });
  assert.equal(wrong.status, 400);
  assert.match(wrong.text, /<div class="summary" role="alert" tabindex="-1" autofocus>/);
  const [, target] = /<a href="#(f-weekly-mon-0--close)">/.exec(wrong.text) ?? [];
  assert.match(wrong.text, new RegExp(`id="${target}"[^>]*aria-describedby="${target}-error" aria-invalid="true"`));
  for (const kept of ['value="09:00"', 'value="2031-12-24"', 'value="Eve"', 'value="Back soon"']) assert.ok(wrong.text.includes(kept), kept);

  // A row more, and a row less, without anything being saved or lost.
  const added = await ask("POST", place, { cookie: admin, headers: OURS, form: { ...typed, act: "add weekly.mon" } });
  assert.equal(added.status, 200);
  assert.match(added.text, /name="weekly\.mon\[1\]\.open"[^>]* autofocus/);
  const removed = await ask("POST", place, { cookie: admin, headers: OURS, form: { ...typed, act: "remove exceptions[0]" } });
  assert.ok(!removed.text.includes("2031-12-24") && removed.text.includes("Back soon"));

  const right = { ...typed, "weekly.mon[0].close": "13:00" };
  const saved = await ask("POST", place, { cookie: admin, headers: OURS, form: right });
  assert.deepEqual([saved.status, saved.headers.location], [303, `${place}?done=saved`]);
  const { weekly, exceptions, message } = await manage("GET", `${app.at}/hours`);
  assert.deepEqual([weekly, exceptions, message], [{ mon: [{ open: "09:00", close: "13:00" }] }, [{ date: "2031-12-24", label: "Eve", closed: true }], "Back soon"]);

  // Somebody else was quicker: nothing is written over unseen, and a second press means it.
  const late = await ask("POST", place, { cookie: admin, headers: OURS, form: { ...right, "message:optional": "Mine" } });
  assert.equal(late.status, 409);
  assert.match(late.text, /Somebody else changed this/);
  assert.ok(late.text.includes('value="Mine"'));
  const meant = await ask("POST", place, { cookie: admin, headers: OURS, form: { ...right, read: read(late.text), "message:optional": "Mine" } });
  assert.equal(meant.status, 303);
});

test("a secret is shown once, to an admin who says why", async () => {
  const place = `${home}/integrations/${integration}/secrets`;
  const reveal = (/** @type {string} */ reason) => ask("POST", `${place}/key/reveal`, { cookie: admin, headers: OURS, form: { reason } });
  const silent = await reveal(" ");
  assert.equal(silent.status, 400);
  assert.ok(!silent.text.includes(VALUE));
  const shown = await reveal("Moving to another receiver");
  assert.ok(shown.status === 200 && shown.text.includes(VALUE));
  assert.match(String(shown.headers["cache-control"]), /no-store/);
  const again = await reveal("Once more");
  assert.equal(again.status, 409);
  assert.ok(!again.text.includes(VALUE));
  assert.match((await ask("GET", `${home}/audit`, { cookie: admin })).text, /Moving to another receiver/);
});

/** @param {import("playwright-core").BrowserContextOptions} options @param {string} [token] */
async function signedIn(options, token = house.operatorToken) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  /** @type {string[]} */
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    if (/content security policy|trusted ?type|refused to/i.test(message.text())) complaints.push(message.text());
  });
  await page.goto(`${house.consoleOrigin}/sign-in`);
  await page.getByLabel("Operator token").fill(token);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Apps", exact: true }).waitFor();
  return { context, page, complaints };
}

/** @type {{place: () => string, label: string, address: string, hint: RegExp, told: RegExp, field: string}[]} */
const holders = [
  {
    place: () => `/integrations/${integration}`, label: "Address", address: "https://elsewhere.example.com/in", field: "url",
    hint: /to another host only an admin may lead it/, told: /would receive the secrets stored here/,
  },
  {
    place: () => "/provider", label: "SIP address", address: "sip:elsewhere.example.com", field: "uri",
    hint: /type the password again below, or ask an admin/, told: /where the stored password would be used/,
  },
];

test("an editor is told before and after that secrets stay with their host, and keeps what was typed", async () => {
  const { token } = await manage("POST", "/api/v1/operators", { name: "Eve", role: "editor" });
  const { context, page, complaints } = await signedIn({ viewport: { width: 900, height: 900 } }, token);
  for (const { place, label, address, hint, told, field } of holders) {
    await page.goto(`${house.consoleOrigin}${home}${place()}`);
    const input = page.getByLabel(label, { exact: true });
    const described = () => input.evaluate((it) => {
      const around = (it.getAttribute("aria-describedby") ?? "").split(" ");
      return around.map((id) => document.getElementById(id)?.textContent).join(" ");
    });
    assert.match(await described(), hint);
    const before = await manage("GET", `${app.at}${place()}`);
    await input.fill(address);
    await page.getByRole("button", { name: /^Save/ }).click();
    await page.getByRole("alert").waitFor();
    assert.equal(await input.inputValue(), address);
    assert.match(await described(), told);
    assert.equal((await manage("GET", `${app.at}${place()}`))[field], before[field]);
    if (process.env.C2C_PICTURES) await page.screenshot({ path: `${process.env.C2C_PICTURES}/editor-${field}.png`, fullPage: true });
  }
  await page.goto(`${house.consoleOrigin}${home}/audit`);
  await page.getByText("to elsewhere.example.com:443").waitFor();
  if (process.env.C2C_PICTURES) await page.screenshot({ path: `${process.env.C2C_PICTURES}/editor-audit.png`, fullPage: true });
  assert.deepEqual(complaints, []);
  await context.close();
});

for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
  test(`every page can be used by everybody, ${colorScheme}`, async () => {
    const { context, page, complaints } = await signedIn({ colorScheme, viewport: { width: 320, height: 640 }, reducedMotion: "reduce" });
    const paths = ["/", "/operators", "/audit", "/apps/nonsense", ...(await crawl(admin, home)).keys()];
    // Of what there are many, one is enough.
    const kinds = new Map(paths.map((path) => [path.replace(/_[0-9a-z]{26}/g, "").replace(/\?.*/, ""), path]));
    /** @type {string[]} */
    const wrong = [];
    const check = async (/** @type {string} */ name) => {
      const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
      wrong.push(...violations.map(({ id, nodes }) => `${name}: ${id} ${nodes.map(({ html }) => html)}`));
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (sideways > 0) wrong.push(`${name} scrolls sideways by ${sideways}`);
      if (!process.env.C2C_PICTURES) return;
      for (const width of [1280, 360]) {
        await page.setViewportSize({ width, height: 800 });
        await page.screenshot({ path: `${process.env.C2C_PICTURES}/${name.replaceAll("/", "_")}-${colorScheme}-${width}.png`, fullPage: true });
      }
      await page.setViewportSize({ width: 320, height: 640 });
    };
    for (const [name, path] of kinds) {
      await page.goto(`${house.consoleOrigin}${path}`);
      await check(name);
    }
    // A form that came back.
    await page.goto(`${house.consoleOrigin}${home}/provider`);
    await page.getByLabel("SIP address").fill("nonsense");
    await page.getByRole("button", { name: "Save provider" }).click();
    await page.getByRole("alert").waitFor();
    await page.locator(".summary:focus").waitFor();
    await check("/wrong");
    assert.deepEqual(wrong, []);
    assert.deepEqual(complaints, []);
    await context.close();
  });
}

test("an app from nothing to a widget that calls, by keyboard", async () => {
  const { context, page, complaints } = await signedIn({ viewport: { width: 1280, height: 800 } });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: house.consoleOrigin });
  /** Moves on by the tabulator key until what has the focus is called this. */
  const reach = async (/** @type {string} */ name) => {
    for (let step = 0; step < 200; step += 1) {
      await page.keyboard.press("Tab");
      const called = await page.evaluate(() => {
        const it = document.activeElement;
        const label = it && "labels" in it && /** @type {HTMLInputElement} */ (it).labels?.[0]?.textContent;
        return (it?.getAttribute("aria-label") || label || it?.textContent || "").trim();
      });
      if (called === name) return;
    }
    assert.fail(`the tabulator key never came to “${name}” on ${page.url()}`);
  };
  /** Presses what leads to another page. */
  const enter = async () => {
    await page.evaluate(() => document.documentElement.setAttribute("data-before", ""));
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.readyState === "complete" && !document.documentElement.hasAttribute("data-before"));
  };
  const press = async (/** @type {string} */ name) => {
    await reach(name);
    await enter();
  };
  const write = async (/** @type {string} */ name, /** @type {string} */ text) => {
    await reach(name);
    await page.keyboard.type(text);
  };
  const said = (/** @type {string} */ text) => page.locator(".done", { hasText: text }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.locator(":focus").textContent(), "Skip to the page");
  await write("Name", "By keyboard");
  await enter();
  await page.getByRole("heading", { name: "By keyboard", level: 1 }).waitFor();

  const { uri } = await manage("GET", `/api/v1/apps/${house.demo.appId}/provider`);
  await press("Connect a provider");
  await write("SIP address", uri);
  await enter();
  await said("Saved.");

  const [{ destination }] = await manage("GET", `/api/v1/apps/${house.demo.appId}/profiles`);
  await press("Profiles");
  await press("New profile");
  await write("Name", "Front desk");
  await write("Destination", destination);
  await reach("The default: called unless an embed names another profile");
  await page.keyboard.press("Space");
  await enter();
  await said("Created.");

  await press("Design");
  await write("Title", "Talk to the bakery");
  await press("Save draft");
  await said("Saved.");
  await press("Form");
  await press("Add a field");
  await page.locator('[name="fields[0].label"]:focus').waitFor();
  await page.keyboard.type("Your name");
  await enter();
  await said("Saved.");
  await press("Preview draft");
  await page.frameLocator("iframe").getByText("Talk to the bakery").waitFor();
  await press("Back to the draft");
  await press("Publish");
  await said("Published.");

  await press("Hours");
  await reach("Open");
  await page.keyboard.type("As set");
  await reach("Time zone");
  await page.keyboard.type("Europe/Berlin");
  await press("Save hours");
  await said("Saved.");
  await page.getByText("closed now").waitFor();
  await reach("Open");
  await page.keyboard.type("Always");
  await press("Save hours");
  await page.getByText("open now").waitFor();

  await press("Integrations");
  await press("New integration");
  await write("Name", "Inbox");
  await write("Address", house.demo.inboxUrl);
  await press("Create integration");
  await said("Created.");
  await press("Make signing key");
  assert.match(await page.locator("#signing-key").innerText(), /^whsec_/);
  await press("Send a test");
  await page.getByRole("heading", { name: "Test", exact: true }).waitFor();
  await page.getByRole("status").getByText("delivered", { exact: true }).waitFor();

  await press("Embed");
  await reach("Copy the link's snippet");
  await page.keyboard.press("Enter");
  await page.getByText("Copied").first().waitFor();
  const snippet = await page.evaluate(() => navigator.clipboard.readText());
  const address = /href="([^"]+)"/.exec(snippet)?.[1].replaceAll("&amp;", "&") ?? "";
  assert.deepEqual(complaints, []);

  // What was set up by hand is what a visitor gets.
  await page.goto(address);
  await page.getByRole("heading", { name: "Talk to the bakery" }).waitFor();
  await page.getByRole("button", { name: "Call", exact: true }).click();
  await page.getByLabel("Your name").waitFor();
  await context.close();
});
