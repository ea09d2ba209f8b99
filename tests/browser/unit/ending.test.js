// How a call ends after a failure: what is closed when, though nobody answers any more.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Call } from "../../../functions/widget/browser/call.js";

/** A call whose answer came and is not yet taken in; nothing asked of the media server later is answered. */
async function call() {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  const track = { stop() {}, enabled: true, getSettings: () => ({}) };
  const microphone = { getTracks: () => [track], getAudioTracks: () => [track] };
  const audio = { srcObject: /** @type {unknown} */ (null), play: async () => undefined };
  const channel = { readyState: "connecting", send() {}, onclose() {} };
  /** @type {any} */
  const peer = {
    closed: false,
    localDescription: { sdp: "v=0" },
    addTransceiver() {},
    createDataChannel: () => channel,
    setLocalDescription: async () => undefined,
    setRemoteDescription: () => new Promise(() => undefined),
    close: () => void (peer.closed = true),
  };
  /** @type {string[]} */
  const asked = [];
  const page = {
    isSecureContext: true,
    document: {},
    navigator: { mediaDevices: Object.assign(new EventTarget(), { getUserMedia: async () => microphone, enumerateDevices: async () => [] }) },
    addEventListener: () => undefined,
    Audio: function () { return audio; },
    MediaStream: class {},
    RTCPeerConnection: function () { return peer; },
    /** @param {string} _ @param {any} request */
    fetch: (_, { method }) => {
      asked.push(method);
      if (method !== "POST") return new Promise(() => undefined);
      return Promise.resolve(new Response("v=0", { status: 201, headers: { location: "/v1/calls/call_1" } }));
    },
  };
  for (const [name, value] of Object.entries(page)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  let report = () => {};
  const tell = (/** @type {{type: string}} */ { type }) =>
    type === "failed" ? new Promise((resolve) => (report = () => resolve(true))) : undefined;
  const one = new Call({ mediaUrl: "https://media.example", token: async () => "token", bearer: () => "token", tell });
  void one.start();
  await settle();
  assert.deepEqual(asked, ["POST"]);
  return { peer, audio, asked, fail: () => channel.onclose(), reported: () => report() };
}

async function settle() {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test("two seconds after a failure the connection is closed, however slow the report and the hang-up are", async () => {
  const it = await call();
  it.fail();
  await settle();
  assert.deepEqual(it.asked, ["POST"], "the report goes first");
  mock.timers.tick(1_500);
  it.reported();
  await settle();
  assert.deepEqual([it.asked, it.peer.closed], [["POST", "DELETE"], false], "the hang-up goes before the connection");
  mock.timers.tick(500);
  await settle();
  assert.ok(it.peer.closed);
});

test("a report that is never answered keeps no connection open", async () => {
  const it = await call();
  it.fail();
  mock.timers.tick(2_000);
  await settle();
  assert.deepEqual([it.asked, it.peer.closed], [["POST", "DELETE"], true]);
});

test("sound that comes after the end is not played", async () => {
  const it = await call();
  it.peer.ontrack({ track: {} });
  assert.ok(it.audio.srcObject);
  it.fail();
  it.peer.ontrack({ track: {} });
  assert.equal(it.audio.srcObject, null);
});
