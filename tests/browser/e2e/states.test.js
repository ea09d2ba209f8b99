// What an app's operators design, as visitors meet it: blocks, form, survey, buttons, colours, languages, closed hours. Set by
// the management API, on an app of these tests' own.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, makeApp, manage, open, received, until, widgetAddress } from "./house.js";

const design = {
  lang: "auto",
  texts: {},
  theme: { mode: "light", accent: "#7a1f5c", onAccent: "#ffffff", corner: "square", position: "bottom-left" },
  blocks: [
    { kind: "text", text: "Anna or Tom will answer.\nBoth know the tables." },
    { kind: "image", url: "https://images.invalid/workshop.png", alt: "The workshop from outside" },
    { kind: "disclosure", text: "Calls aren’t recorded." },
  ],
};
const form = {
  fields: [
    { id: "name", kind: "text", label: "Your name", required: true },
    { id: "mail", kind: "email", label: "Your email", required: false },
    { id: "phone", kind: "phone", label: "Your phone", required: false },
    { id: "topic", kind: "select", label: "What is it about?", required: true, options: ["An order", "A visit"] },
    { id: "ok", kind: "checkbox", label: "I have read the privacy notice", required: true },
  ],
};
const survey = {
  questions: [
    { id: "q1", kind: "rating", label: "How well did we help you?" },
    { id: "q2", kind: "rating", label: "How was the sound?" },
    { id: "q3", kind: "choice", label: "Was your question answered?", options: ["Yes", "No"] },
  ],
  comment: true,
};
const buttons = [
  { id: "b1", label: "Opening hours", action: "link", value: "https://shop.invalid/hours" },
  { id: "b2", label: "Copy our number", action: "copy", value: "+44 20 7946 0000" },
  { id: "b3", label: "Call by telephone", action: "call", value: "+442079460000" },
  { id: "b4", label: "Write to us", action: "email", value: "help@shop.invalid" },
];

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Awaited<ReturnType<typeof makeApp>>} */
let app;
before(async () => {
  browser = await launch();
  app = await makeApp({ design, form, survey, buttons: { buttons } });
});
after(() => browser.close());

/**
 * @param {Record<string, string>} [parameters]
 * @param {import("playwright-core").BrowserContextOptions & {of?: {appId: string, key: string}}} [options]
 */
async function visit(parameters = {}, { of = app, ...options } = {}) {
  const opened = await open(browser, { ownSession: true, ...options });
  const { page } = opened;
  /** @type {any[]} */
  const events = [];
  /** @type {string[]} */
  const files = [];
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (pathname === "/v1/events") events.push(request.postDataJSON());
    if (pathname.startsWith("/a/")) files.push(pathname.split("/").at(-1) ?? "");
  });
  await page.goto(widgetAddress({ key: of.key, ...parameters }, of.appId));
  const button = (/** @type {string} */ name) => page.getByRole("button", { name, exact: true, disabled: false });
  const status = (/** @type {string} */ text) => page.getByRole("status").getByText(text, { exact: true });
  return { ...opened, events, files, button, status };
}

test("idle: blocks above the call button, the disclosure last, colours and corners, and other ways to reach the app's people", async () => {
  const { page, button, events, context } = await visit();
  await button("Call").waitFor();
  const order = await page.locator("#words > :is(.text, img, .alt, .disclosure), #actions button, nav > *").evaluateAll((all) =>
    all.map((it) => it.getAttribute("alt") ?? it.textContent));
  assert.deepEqual(order, [
    "Anna or Tom will answer.\nBoth know the tables.", "The workshop from outside", "Calls aren’t recorded.", "Call",
    "Opening hours", "Copy our number", "Call by telephone", "Write to us",
  ]);
  const look = await button("Call").evaluate((it) => [getComputedStyle(it).backgroundColor, getComputedStyle(it).borderRadius]);
  assert.deepEqual(look, ["rgb(122, 31, 92)", "0px"]);
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");

  const others = page.getByRole("navigation", { name: "Other ways to reach us" });
  const link = others.getByRole("link", { name: "Opening hours" });
  assert.deepEqual(await link.evaluate((it) => [it.getAttribute("target"), it.getAttribute("rel")]), ["_blank", "noopener"]);
  for (const [name, address] of [["Call by telephone", "tel:+442079460000"], ["Write to us", "mailto:help@shop.invalid"]]) {
    assert.equal(await others.getByRole("link", { name }).getAttribute("href"), address);
  }
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await others.getByRole("button", { name: "Copy our number" }).click();
  await page.getByRole("status").getByText("Copied").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "+44 20 7946 0000");
  const [opened] = await Promise.all([context.waitForEvent("page"), link.click()]);
  await opened.close();
  await until(async () => events.map(({ name }) => name), (names) => names.length === 3);
  assert.deepEqual(events.slice(1).map(({ data }) => data), [
    { label: "Copy our number", action: "copy" }, { label: "Opening hours", action: "link" },
  ]);
  const ids = new Set(events.map(({ id }) => id));
  await until(received, (all) => all.filter((/** @type {any} */ it) => ids.has(it.id)).length === 3);
  await context.close();
});

test("a picture whose host forbids it is asked for by CORS too, and leaves what it shows where it does not come", async () => {
  const pixel = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==", "base64");
  const blocks = [
    { kind: "image", url: "https://images.invalid/by-cors.png", alt: "By CORS" },
    { kind: "image", url: "https://images.invalid/never.png", alt: "The workshop from outside" },
    { kind: "image", url: "https://images.invalid/ornament.png", alt: "" },
    { kind: "text", text: "Anna or Tom will answer." },
  ];
  const pictures = await makeApp({ design: { ...design, blocks } });
  const { page, context } = await open(browser, { ownSession: true });
  /** @type {string[]} */
  const asked = [];
  await page.route("https://images.invalid/**", (route) => {
    const [name, mode] = [route.request().url().split("/").at(-1), route.request().headers().origin ? "cors" : "no-cors"];
    asked.push(`${name} ${mode}`);
    const headers = { "content-type": "image/png", "access-control-allow-origin": "*" };
    if (name === "by-cors.png" && mode === "cors") return route.fulfill({ body: pixel, headers });
    return route.abort("blockedbyresponse");
  });
  await page.goto(widgetAddress({ key: pictures.key }, pictures.appId));
  const call = page.getByRole("button", { name: "Call", exact: true, disabled: false });
  await call.waitFor();
  const shown = () => page.locator("#words > :not(h1, h1 + p)").evaluateAll((all) => all.map((it) =>
    it instanceof HTMLImageElement ? `${it.alt}: ${it.complete && it.naturalWidth > 0}` : it.textContent));
  const expected = ["By CORS: true", "The workshop from outside", "", "Anna or Tom will answer."];
  await until(shown, (all) => JSON.stringify(all) === JSON.stringify(expected));
  // What only decorated takes no room; what did not come is not asked for again when the state is drawn anew.
  assert.equal(await page.locator("#words > .alt").nth(1).boundingBox(), null);
  assert.deepEqual(asked.sort(), ["by-cors.png cors", "by-cors.png no-cors", "never.png cors", "never.png no-cors", "ornament.png cors", "ornament.png no-cors"]);
  await page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = () => new Promise(() => undefined);
  });
  await call.click();
  await page.getByRole("button", { name: "Hang up" }).click();
  await call.waitFor();
  assert.deepEqual(await shown(), expected);
  assert.equal(asked.filter((it) => !it.startsWith("by-cors")).length, 4);
  await context.close();
});

test("a preview shows the draft to who has its address, marks what happens there, and says when it has expired", async () => {
  const drafted = await makeApp({ design });
  await manage("PUT", `${drafted.at}/design`, { ...design, texts: { title: "Soon to be seen" } });
  const { url } = await manage("POST", `${drafted.at}/design/preview`);
  const { page, complaints, context } = await open(browser, { ownSession: true });
  const loaded = page.waitForRequest((request) => request.url().endsWith("/v1/events"));
  await page.goto(url);
  await page.getByRole("heading", { name: "Soon to be seen" }).waitFor();
  const event = (await loaded).postDataJSON();
  assert.deepEqual([event.name, event.data], ["widget_loaded", { isPreview: true }]);
  assert.equal((await (await (await loaded).response())?.json()).data.deliveries, 0);
  await page.goto(widgetAddress({ key: drafted.key }, drafted.appId));
  await page.getByRole("heading", { name: "Talk to us" }).waitFor();
  await page.goto(`${url}0`);
  await page.getByRole("alert").getByRole("heading", { name: "This preview has expired" }).waitFor();
  await page.getByText("Open it again from the console.").waitFor();
  assert.equal(await page.getByRole("button").count(), 0);
  assert.deepEqual(complaints, []);
  await context.close();
});

test("what is said of an error can be an app's own", async () => {
  const own = await makeApp({ design: { ...design, texts: { "error.mic_missing.title": "We cannot hear you yet" } } });
  const { page, context } = await open(browser, { ownSession: true });
  await page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("…", "NotFoundError"));
  });
  await page.goto(widgetAddress({ key: own.key }, own.appId));
  await page.getByRole("button", { name: "Call", exact: true, disabled: false }).click();
  await page.getByRole("alert").getByRole("heading", { name: "We cannot hear you yet" }).waitFor();
  await page.getByText("Connect a microphone or headset, then try again.").waitFor();
  await context.close();
});

test("a language that the address or the app names comes beside the script, and no other does", async () => {
  const own = await makeApp({ design: { ...design, lang: "fr", blocks: [] } });
  for (const [of, parameters, file] of /** @type {[any, Record<string, string>, string | undefined][]} */ ([
    [own, {}, "fr.js"], [own, { lang: "ar" }, "ar.js"], [own, { lang: "en" }, undefined], [app, { lang: "de" }, "de.js"], [app, {}, undefined],
  ])) {
    const { page, context } = await open(browser, { ownSession: true, locale: "es" });
    /** @type {string[]} */
    const asked = [];
    page.on("request", (request) => request.url().includes("/a/") && asked.push(new URL(request.url()).pathname.split("/").at(-1) ?? ""));
    // The script never comes: who asks is the document.
    await page.route("**/main.js", () => undefined);
    await page.goto(widgetAddress({ key: of.key, ...parameters }, of.appId), { waitUntil: "commit" });
    const expected = [...(file ? [file] : []), "main.js", "widget.css"].sort();
    await until(async () => asked.toSorted(), (all) => JSON.stringify(all) === JSON.stringify(expected));
    await context.close();
  }
});

test("by keyboard alone: a form with what is missing said at its field, a call, and a survey", async () => {
  const { page, button, status, events, complaints, context } = await visit({ order: "A-1" });
  await button("Call").focus();
  await page.keyboard.press("Enter");
  await status("Before your call").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H1");
  const focused = () => page.evaluate(() => /** @type {any} */ (document.activeElement).name);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "name");
  await page.keyboard.press("Enter");
  const name = page.getByLabel("Your name");
  await page.getByText("Please fill this in.").waitFor();
  const tied = await name.evaluate((it) => document.getElementById(it.getAttribute("aria-describedby") ?? "")?.textContent);
  assert.deepEqual([tied, await name.getAttribute("aria-invalid"), await focused()], ["Please fill this in.", "true", "name"]);
  assert.equal(await page.getByText("Please choose one.").count(), 1);
  assert.equal(await page.getByText("Please tick this box to go on.").count(), 1);

  await page.keyboard.type("Ada");
  await page.keyboard.press("Tab");
  assert.equal(await page.getByText("Please fill this in.").count(), 0);
  await page.keyboard.type("not an address");
  await page.keyboard.press("Tab");
  await page.keyboard.type("+44 20 7946 0000");
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Send");
  await page.keyboard.press("Enter");
  await page.getByText("Please write an address such as").waitFor();
  assert.equal(await focused(), "mail");
  await page.getByLabel("Your email").fill("ada@example.com");
  const put = page.waitForRequest((request) => request.url().endsWith("/v1/form"));
  await page.keyboard.press("Enter");
  const values = { name: "Ada", mail: "ada@example.com", phone: "+44 20 7946 0000", topic: "An order", ok: true };
  assert.deepEqual((await put).postDataJSON(), { values });
  assert.equal((await (await put).response())?.status(), 204);

  await status("Connected").waitFor();
  await button("Hang up").focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "How was your call?" }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H1");
  await status("Call ended").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "q1");
  await page.keyboard.press("Tab");
  await page.getByRole("group", { name: "How was the sound?" }).getByRole("radio").nth(1).focus();
  // Sent without the one rating that there must be.
  await button("Send").focus();
  await page.keyboard.press("Enter");
  await page.getByText("Please choose one.").waitFor();
  assert.equal(await focused(), "q1");
  await page.getByRole("group", { name: "How well did we help you?" }).getByRole("radio", { name: "4" }).focus();
  await page.keyboard.press("Space");
  await page.keyboard.press("ArrowRight");
  await page.getByRole("group", { name: "How was the sound?" }).getByRole("radio", { name: "4" }).focus();
  await page.keyboard.press("Space");
  await page.getByRole("radio", { name: "Yes" }).focus();
  await page.keyboard.press("Space");
  await page.getByLabel("Anything to add?").fill("Kind people.");
  const posted = page.waitForRequest((request) => request.url().endsWith("/v1/surveys"));
  await button("Send").focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Thank you" }).waitFor();
  const answers = (await posted).postDataJSON();
  assert.deepEqual(answers.answers, [
    { questionId: "q1", rating: 5 }, { questionId: "q2", rating: 4 }, { questionId: "q3", text: "Yes" },
  ]);
  assert.equal(answers.comment, "Kind people.");
  assert.equal((await (await posted).response())?.status(), 201);

  const started = events.find((it) => it.name === "call_started");
  assert.equal(started.data.hasFormValues, true);
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Call");
  // Its id is made of the call's, so that the server's event is this one; the widget does not report it a second time.
  const ended = events.find((it) => it.name === "call_ended");
  assert.equal(answers.callId, ended.id.replace("evt_", "call_"));
  const about = (/** @type {any} */ it) => it.id.slice(0, -1) === ended.id.slice(0, -1);
  const all = (await until(received, (found) => found.filter(about).length === 3)).filter(about);
  const submitted = all.find((/** @type {any} */ it) => it.name === "survey_submitted");
  assert.deepEqual(submitted.data, { rating: 4.5, answerCount: 3, hasComment: true, context: { order: "A-1" } });
  assert.ok(!events.some((it) => it.name === "survey_submitted"));
  const said = JSON.stringify(all);
  for (const private_ of ["Ada", "ada@example.com", "7946", "Kind people"]) assert.ok(!said.includes(private_), private_);
  const call = await manage("GET", `${app.at}/calls/${answers.callId}`);
  assert.ok(JSON.stringify(call).includes("ada@example.com"), "the form is kept with the call");
  assert.deepEqual(complaints, []);

  // Asked once: the next call needs no form.
  await button("Call").click();
  await status("Connected").waitFor();
  await button("Hang up").click();
  await button("Skip").click();
  await page.getByRole("heading", { name: "Call ended" }).waitFor();
  await context.close();
});

test("a form can be left; what does not get through says so and keeps what was written", async () => {
  const { page, button, events, context } = await visit();
  await button("Call").click();
  await page.getByLabel("Your name").fill("Ada");
  await page.getByLabel("What is it about?").selectOption("A visit");
  await page.getByLabel("I have read").check();
  await page.route("**/v1/form", (route) => route.abort());
  await button("Send").click();
  await page.getByRole("alert").getByText("That didn’t get through. Please try again.").waitFor();
  assert.equal(await page.getByLabel("Your name").inputValue(), "Ada");
  await button("Back").click();
  await button("Call").waitFor();
  assert.deepEqual(events.map(({ name }) => name), ["widget_loaded"]);
  await context.close();
});

test("closed: the message, and the next opening in the visitor's own time zone; other ways stay open", async () => {
  const day = (/** @type {number} */ ahead) => ["sun", "mon", "tue", "wed", "thu", "fri", "sat"][new Date(Date.now() + ahead * 86_400_000).getUTCDay()];
  const hours = { mode: "custom", timezone: "UTC", weekly: { [day(2)]: [{ open: "09:30", close: "10:00" }] }, exceptions: [] };
  const closed = await makeApp({ hours, buttons: { buttons } });
  for (const [timezoneId, locale] of [["America/New_York", "en-US"], ["Asia/Tokyo", "de"]]) {
    const { page, events, context } = await visit({}, { of: closed, timezoneId, locale });
    const german = locale === "de";
    await page.getByRole("heading", { name: german ? "Wir haben gerade geschlossen" : "We’re closed right now" }).waitFor();
    const shown = page.locator("time");
    const at = new Date((await shown.getAttribute("datetime")) ?? "");
    assert.deepEqual([at.getUTCHours(), at.getUTCMinutes()], [9, 30]);
    const expected = new Intl.DateTimeFormat(german ? "de" : "en", {
      weekday: "long", day: "numeric", month: "long", hour: "numeric", minute: "2-digit", timeZoneName: "short", timeZone: timezoneId,
    }).format(at);
    const plain = (/** @type {string} */ text) => text.replace(/\s/g, " ");
    assert.equal(plain(await shown.innerText()), plain(expected));
    assert.equal(await page.getByRole("button", { name: german ? "Anrufen" : "Call", exact: true }).count(), 0);
    await page.getByRole("link", { name: "Write to us" }).waitFor();
    await until(async () => events.map(({ name }) => name), (names) => names.length === 1);
    assert.deepEqual(events[0].name, "widget_loaded");
    await context.close();
  }
});

test("languages: the visitor's own, one file beside the first four; an app's own words come last", async () => {
  const own = await makeApp({ design: { ...design, lang: "fr", texts: { title: "Parlez à l’atelier" }, blocks: [] } });
  for (const [locale, parameters, of, call, lang, dir, file, title] of /** @type {[string, Record<string, string>, any, string, string, string, string | undefined, string][]} */ ([
    ["en-GB", {}, app, "Call", "en", "ltr", undefined, "Talk to us"],
    ["de-AT", {}, app, "Anrufen", "de", "ltr", "de.js", "Sprechen Sie mit uns"],
    ["ar-EG", {}, app, "اتصال", "ar", "rtl", "ar.js", "تحدّث معنا"],
    ["de", { lang: "pt" }, app, "Ligar", "pt", "ltr", "pt.js", "Fale connosco"],
    ["en", {}, own, "Appeler", "fr", "ltr", "fr.js", "Parlez à l’atelier"],
    ["en", { lang: "es" }, own, "Llamar", "es", "ltr", "es.js", "Hable con nosotros"],
  ])) {
    const { page, button, files, complaints, context } = await visit(parameters, { of, locale });
    await button(call).waitFor();
    await page.getByRole("heading", { name: title }).waitFor();
    assert.deepEqual(await page.evaluate(() => [document.documentElement.lang, document.documentElement.dir]), [lang, dir]);
    // Once, also where the document asked for it before the script did.
    assert.deepEqual(files.sort(), [...(file ? [file] : []), "main.js", "widget.css"].sort());
    assert.deepEqual(complaints, []);
    await context.close();
  }
});

test("a language that does not come leaves English", async () => {
  const opened = await open(browser, { ownSession: true, locale: "de" });
  await opened.page.route("**/de.js", (route) => route.abort());
  await opened.page.goto(widgetAddress());
  await opened.page.getByRole("button", { name: "Call", exact: true, disabled: false }).waitFor();
  assert.equal(await opened.page.evaluate(() => document.documentElement.lang), "en");
  await opened.context.close();
});

test("the embed code's light or dark wins over the app's; without either the system decides", async () => {
  const auto = await makeApp({ design: { ...design, theme: { ...design.theme, mode: "auto" }, blocks: [] } });
  const ground = (/** @type {import("playwright-core").Page} */ page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = "rgb(241, 236, 228)";
  const dark = "rgb(18, 16, 14)";
  for (const [of, parameters, colorScheme, expected] of /** @type {[any, Record<string, string>, "light" | "dark", string][]} */ ([
    [app, {}, "dark", light], [app, { theme: "dark" }, "light", dark], [auto, {}, "dark", dark], [auto, {}, "light", light],
  ])) {
    const { page, button, context } = await visit(parameters, { of, colorScheme });
    await button("Call").waitFor();
    assert.equal(await ground(page), expected);
    await context.close();
  }
});
