// A visitor who calls: a widget of their own, with what it sends and asks, and its connections and microphones, within reach.

import { house, manage, open, received, until, widgetAddress } from "./house.js";

/**
 * @param {import("playwright-core").Browser} browser
 * @param {Record<string, string>} [parameters] of the widget's address
 * @param {import("playwright-core").BrowserContextOptions & {of?: {appId: string, key: string}, origin?: string,
 *   before?: (page: import("playwright-core").Page) => Promise<unknown>}} [options] `of`: an app other than the demo's;
 *   `origin`: a house under another name; `before` it is loaded
 */
export async function visit(browser, parameters = {}, { of, origin = house.origin, before, ...rest } = {}) {
  const opened = await open(browser, { ownSession: true, ...rest });
  const { page } = opened;
  /** @type {any[]} */
  const events = [];
  /** @type {string[]} */
  const asked = [];
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (pathname === "/v1/events") events.push(request.postDataJSON());
    if (pathname.startsWith("/v1/calls")) asked.push(`${request.method()} ${pathname}`);
  });
  await page.addInitScript(() => {
    const all = /** @type {any} */ (window);
    [all.peers, all.tracks] = [[], []];
    const Peer = RTCPeerConnection;
    all.RTCPeerConnection = function (/** @type {any} */ wishes) {
      const peer = new Peer(wishes);
      all.peers.push(peer);
      return peer;
    };
    all.RTCPeerConnection.prototype = Peer.prototype;
    // Where the context is not secure there are no devices.
    const original = navigator.mediaDevices?.getUserMedia.bind(navigator.mediaDevices);
    if (!original) return;
    navigator.mediaDevices.getUserMedia = async (wishes) => {
      const stream = await original(wishes);
      all.tracks.push(...stream.getTracks());
      return stream;
    };
  });
  await before?.(page);
  const address = of ? widgetAddress({ key: of.key, ...parameters }, of.appId) : widgetAddress(parameters);
  await page.goto(address.replace(house.origin, origin));
  const button = (/** @type {string} */ name) => page.getByRole("button", { name, exact: true, disabled: false });
  const status = (/** @type {string} */ text) => page.getByRole("status").getByText(text, { exact: true });
  const focused = () => page.evaluate(() => document.activeElement?.textContent);
  return { ...opened, events, asked, button, status, focused };
}

/**
 * What the inbox has of these events, once the app's deliveries have come to rest.
 * @param {any[]} sent
 * @param {string} [app] its place in the management API
 */
export async function delivered(sent, app = `/api/v1/apps/${house.demo.appId}`) {
  const ids = new Set(sent.map(({ id }) => id));
  const ours = async () => (await received()).filter((/** @type {any} */ { id }) => ids.has(id));
  await until(ours, (all) => all.length >= ids.size);
  await until(() => manage("GET", `${app}/deliveries?limit=100`), (all) => all.every((/** @type {any} */ it) => it.status !== "pending"));
  return ours();
}

/** Of all that were opened: live, or ended. @param {import("playwright-core").Page} page @returns {Promise<string[]>} */
export const microphones = (page) => page.evaluate(() => /** @type {any} */ (window).tracks.map((/** @type {any} */ it) => it.readyState));
