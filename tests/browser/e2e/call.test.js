// Calls from a real browser with a made-up microphone, through the running house, to its telephone; the demo's routing
// keys say what that does.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { house, launch, manage, until } from "./house.js";
import { delivered, microphones, visit } from "./visitor.js";

const app = `/api/v1/apps/${house.demo.appId}`;
/** @type {import("playwright-core").Browser} */
let browser;
before(async () => void (browser = await launch()));
after(() => browser.close());

/** @param {Record<string, string>} [parameters] @param {import("playwright-core").BrowserContextOptions} [options] */
const widget = (parameters, options) => visit(browser, parameters, options);

test("a whole call: heard, muted, keys pressed, another network, hung up; three events, each once", async () => {
  const { page, complaints, events, asked, button, status, context } = await widget({ order: "A-1" });
  await button("Call").click();
  await status("Connected").waitFor();
  const energy = () => page.evaluate(async () => {
    const reports = [...(await /** @type {any} */ (window).peers[0].getStats()).values()];
    return reports.find(({ type }) => type === "inbound-rtp").totalAudioEnergy;
  });
  await until(energy, (heard) => heard > 0);

  const sends = () => page.evaluate(() => /** @type {any} */ (window).tracks.at(-1).enabled);
  await button("Mute").focus();
  await page.keyboard.press("Enter");
  await button("Unmute").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Unmute");
  assert.equal(await sends(), false);
  // Unplugged: another microphone takes its place, as silent as the one before.
  await page.evaluate(() => {
    const [track] = /** @type {any} */ (window).tracks;
    track.stop();
    track.dispatchEvent(new Event("ended"));
  });
  const sender = () => page.evaluate(() => {
    const { peers, tracks } = /** @type {any} */ (window);
    return tracks.length === 2 && peers[0].getSenders()[0].track === tracks[1];
  });
  await until(sender, (replaced) => replaced);
  assert.equal(await sends(), false);
  await page.keyboard.press("Enter");
  await button("Mute").waitFor();
  assert.equal(await sends(), true);

  await button("Keypad").focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type("1x2#");
  await button("9").click();
  await page.getByText("12#9", { exact: true }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("group", { name: "Keypad" }).waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Keypad");

  const restarted = page.waitForResponse((answer) => answer.request().method() === "PATCH");
  await page.evaluate(() => dispatchEvent(new Event("online")));
  assert.equal((await restarted).status(), 200);
  const before = await energy();
  await until(energy, (heard) => heard > before);

  await button("Hang up").click();
  await status("Call ended").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Call");
  assert.deepEqual(await microphones(page), ["ended", "ended"]);
  await until(async () => asked, (all) => all.some((it) => it.startsWith("DELETE")));
  const call = asked[1].slice("PATCH /v1/calls/call_".length);
  assert.deepEqual(asked, ["POST /v1/calls", `PATCH /v1/calls/call_${call}`, `DELETE /v1/calls/call_${call}`]);

  const delivery = await delivered(events);
  assert.deepEqual(delivery.map(({ name }) => name).sort(), ["call_ended", "call_started", "widget_loaded"]);
  const ended = delivery.find(({ name }) => name === "call_ended");
  assert.equal(ended.id, `evt_${call}`);
  assert.equal(ended.data.reason, "user_hangup");
  assert.ok(Number.isInteger(ended.data.duration) && ended.data.duration < 60);
  assert.deepEqual(ended.data.context, { order: "A-1" });
  const profile = (await manage("GET", `${app}/profiles`)).find((/** @type {any} */ it) => it.default);
  assert.deepEqual(delivery.find(({ name }) => name === "call_started").data, {
    destinationId: profile.id, routingKey: null, hasFormValues: false, context: { order: "A-1" },
  });
  assert.deepEqual(complaints, []);
  await context.close();
});

test("the far side hangs up: the widget says so, the microphone goes off, and both reports are one event", async () => {
  const { page, events, asked, button, status, context } = await widget({ routingKey: "goodbye" });
  await button("Call").click();
  await status("Call ended").waitFor();
  assert.deepEqual(await microphones(page), ["ended"]);
  assert.deepEqual(asked, ["POST /v1/calls"]);
  await until(async () => events.map(({ name }) => name), (names) => names.length === 3);
  const delivery = await delivered(events);
  assert.deepEqual(delivery.map(({ name }) => name).sort(), ["call_ended", "call_started", "widget_loaded"]);
  assert.equal(delivery.find(({ name }) => name === "call_ended").data.reason, "remote_hangup");
  await context.close();
});

test("while it rings it can be hung up", async () => {
  const { page, events, button, status, context } = await widget({ routingKey: "nobody" });
  await button("Call").click();
  await status("Ringing…").waitFor();
  assert.equal(await button("Keypad").count(), 0);
  await button("Hang up").click();
  await status("Call ended").waitFor();
  assert.deepEqual(await microphones(page), ["ended"]);
  await until(async () => events.map(({ name }) => name), (names) => names.length === 3);
  assert.deepEqual(events.at(-1).data.reason, "user_hangup");
  await context.close();
});

/** @param {"light" | "dark"} colorScheme */
async function narrow(colorScheme) {
  const options = { colorScheme, viewport: { width: 320, height: 480 }, reducedMotion: /** @type {const} */ ("reduce") };
  const opened = await widget({}, options);
  const { page, button } = opened;
  const check = async (/** @type {string} */ name) => {
    const { violations } = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]).analyze();
    assert.deepEqual(violations.map(({ id, nodes }) => `${name}: ${id} ${nodes.map(({ html }) => html)}`), []);
    const sideways = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(sideways <= 0, `${name} scrolls sideways by ${sideways}`);
    for (const target of await page.getByRole("button").all()) {
      const box = await target.boundingBox();
      assert.ok(box && box.height >= 44 && box.width >= 44, `${name}: ${await target.innerText()} is ${box?.width} × ${box?.height}`);
    }
    if (process.env.C2C_PICTURES) await page.screenshot({ path: `${process.env.C2C_PICTURES}/call-${name}-${colorScheme}.png`, fullPage: true });
  };
  const answered = page.waitForResponse((answer) => answer.url().endsWith("/v1/calls") && answer.status() === 201);
  const endId = answered.then((answer) => `evt_${answer.headers().location.slice("/v1/calls/call_".length)}`);
  await button("Call").click();
  await opened.status("Connected").waitFor();
  await page.getByText("Very good connection").waitFor();
  await check("connected");
  await button("Keypad").click();
  await check("keypad");
  await button("Keypad").click();
  return { ...opened, check, endId };
}

/** The connection is lost, as a browser tells it; in truth it is well. @param {import("playwright-core").Page} page */
const lose = (page) => page.evaluate(() => {
  const [peer] = /** @type {any} */ (window).peers;
  Object.defineProperty(peer, "connectionState", { value: "disconnected", configurable: true });
  peer.dispatchEvent(new Event("connectionstatechange"));
  delete peer.connectionState;
});

test("a lost connection comes back by a restart of ICE; leaving the page ends the call; accessible, light", async () => {
  const { page, complaints, events, status, context, check, endId } = await narrow("light");
  const restarted = page.waitForResponse((answer) => answer.request().method() === "PATCH");
  await lose(page);
  await status("Reconnecting…").waitFor();
  await check("reconnecting");
  assert.equal((await restarted).status(), 200);
  await status("Connected").waitFor();

  // What a page says last is not told to who watches it; the id says which event it is.
  await page.goto(`${house.origin}/healthz`);
  const delivery = await delivered([...events, { id: await endId }]);
  assert.deepEqual(delivery.map(({ name }) => name).sort(), ["call_ended", "call_started", "widget_loaded"]);
  assert.equal(delivery.find(({ name }) => name === "call_ended").data.reason, "user_hangup");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a lost connection that three restarts do not bring back is an error, and that is what is reported; accessible, dark", async () => {
  const { page, complaints, events, asked, status, context, check, endId } = await narrow("dark");
  await page.clock.install();
  await page.route("**/v1/calls/*", (route) => (route.request().method() === "PATCH" ? route.abort() : route.fallback()));
  await lose(page);
  await status("Reconnecting…").waitFor();
  await check("reconnecting");
  // Half a second at a time, so that what is waited for beside the clock keeps up.
  const failed = page.getByRole("alert").getByRole("heading", { name: "We lost the connection" });
  await until(async () => {
    await page.clock.runFor(500);
    return failed.count();
  }, (count) => count === 1, 30_000);
  await check("lost");
  assert.equal(asked.filter((it) => it.startsWith("PATCH")).length, 3);
  assert.deepEqual(await microphones(page), ["ended"]);
  const delivery = await delivered([...events, { id: await endId }]);
  assert.deepEqual(delivery.map(({ name }) => name).sort(), ["call_error", "call_started", "widget_loaded"]);
  assert.equal(delivery.find(({ name }) => name === "call_error").data.errorCode, "media_failed");
  assert.deepEqual(complaints, []);
  await context.close();
});

/**
 * The media server's word, as its channel brings it. The demo's telephone neither holds nor stays silent.
 * @param {import("playwright-core").Page} page
 */
async function channel(page) {
  await page.addInitScript(() => {
    const original = RTCPeerConnection.prototype.createDataChannel;
    RTCPeerConnection.prototype.createDataChannel = function (...wishes) {
      const made = original.apply(this, wishes);
      /** @type {any} */ (window).channel = made;
      return made;
    };
  });
  return (/** @type {unknown} */ said) => page.evaluate((data) => {
    /** @type {any} */ (window).channel.dispatchEvent(new MessageEvent("message", { data }));
  }, JSON.stringify(said));
}

test("on hold and back; another microphone and speaker; muted all the while", async () => {
  const { page, complaints, button, status, context } = await widget({});
  const says = await channel(page);
  await page.reload();
  await button("Call").click();
  await status("Connected").waitFor();
  await button("Mute").click();
  await says({ type: "held", on: true });
  await page.getByRole("heading", { name: "You’re on hold" }).waitFor();
  await status("On hold").waitFor();
  await says({ type: "held", on: false });
  await status("Connected").waitFor();

  await button("Audio").click();
  const microphone = page.getByLabel("Microphone");
  const choices = await microphone.locator("option").evaluateAll((all) => all.map((it) => /** @type {HTMLOptionElement} */ (it).value));
  assert.ok(choices.length > 1, "Chromium pretends to have several microphones");
  assert.equal(await microphone.inputValue(), "default");
  await microphone.selectOption(choices.at(-1) ?? "");
  const sender = () => page.evaluate(() => {
    const { peers, tracks } = /** @type {any} */ (window);
    const { track } = peers.at(-1).getSenders()[0];
    return { is: track === tracks.at(-1), device: track.getSettings().deviceId, enabled: track.enabled };
  });
  assert.deepEqual(await until(sender, ({ device }) => device === choices.at(-1)), { is: true, device: choices.at(-1), enabled: false });
  await until(() => microphones(page), (all) => all.filter((it) => it === "live").length === 1);
  assert.equal(await microphone.inputValue(), choices.at(-1));
  const speaker = page.getByLabel("Speaker");
  const speakers = await speaker.locator("option").evaluateAll((all) => all.map((it) => /** @type {HTMLOptionElement} */ (it).value));
  await speaker.selectOption(speakers.at(-1) ?? "");
  await until(() => speaker.inputValue(), (value) => value === speakers.at(-1));
  await button("Hang up").click();
  await status("Call ended").waitFor();
  assert.ok((await microphones(page)).every((it) => it === "ended"));
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a browser that wants a tap before it plays sound gets one; the screen stays on while somebody talks", async () => {
  const { page, button, status, context } = await widget({});
  await page.addInitScript(() => {
    const all = /** @type {any} */ (window);
    all.locks = [];
    const original = HTMLMediaElement.prototype.play;
    let refused = false;
    HTMLMediaElement.prototype.play = function () {
      if (refused) return original.call(this);
      refused = true;
      return Promise.reject(new DOMException("…", "NotAllowedError"));
    };
    Object.defineProperty(navigator, "wakeLock", { value: {
      request: async (/** @type {string} */ kind) => {
        all.locks.push(kind);
        return { release: async () => void all.locks.push("released") };
      },
    } });
  });
  await page.reload();
  await button("Call").click();
  await status("Connected").waitFor();
  await button("Tap to hear the call").click();
  await button("Tap to hear the call").waitFor({ state: "detached" });
  const locks = () => page.evaluate(() => /** @type {any} */ (window).locks);
  assert.deepEqual(await until(locks, (all) => all.length === 1), ["screen"]);
  await button("Hang up").click();
  assert.deepEqual(await until(locks, (all) => all.length === 2), ["screen", "released"]);
  await context.close();
});
