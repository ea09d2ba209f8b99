// The state machine: which steps report which event, and that no order of steps breaks the contract's promises.

import assert from "node:assert/strict";
import { test } from "node:test";
import { step } from "../../../functions/widget/browser/state.js";

const opened = { type: "opened", open: true, isPreview: false, again: false };
const started = { type: "started", destinationId: "dest_1", routingKey: null, hasFormValues: false };
const failed = { type: "failed", code: "mic_denied", message: "The microphone was refused." };
const ended = { type: "ended", duration: 12, reason: "user_hangup" };

/** @param {any[]} inputs */
function run(...inputs) {
  /** @type {any} */
  let state = { name: "loading" };
  const reports = [];
  for (const input of inputs) {
    const next = step(state, input);
    state = next.state;
    if (next.report) reports.push(next.report);
  }
  return { state, reports, names: reports.map(({ name }) => name) };
}

test("loading reports widget_loaded, once", () => {
  assert.deepEqual(run(opened, opened).reports, [{ name: "widget_loaded", data: { isPreview: false } }]);
  assert.deepEqual(run({ ...opened, isPreview: true }).reports[0].data, { isPreview: true });
});

test("a page back from the browser's history is loaded no second time", () => {
  const { state, names } = run(opened, { type: "reload" }, { ...opened, again: true });
  assert.deepEqual([state.name, names], ["idle", ["widget_loaded"]]);
});

test("outside business hours the widget is loaded and closed", () => {
  const { state, names } = run({ ...opened, open: false, closed: { message: "Back on Monday" } });
  assert.deepEqual(state, { name: "closed", closed: { message: "Back on Monday" } });
  assert.deepEqual(names, ["widget_loaded"]);
});

test("a refused session reports nothing and can be tried again", () => {
  const refused = { type: "refused", code: "network_unreachable" };
  assert.deepEqual(run(refused).state, { name: "error", code: "network_unreachable", at: "start", requestId: undefined });
  assert.deepEqual(run(refused, { type: "call" }).state.name, "error");
  assert.deepEqual(run(refused, { type: "reload" }, opened).names, ["widget_loaded"]);
});

test("a start that fails reports an error and no start", () => {
  const { state, reports } = run(opened, { type: "call" }, failed);
  assert.equal(state.name, "error");
  assert.deepEqual(reports.slice(1), [
    { name: "call_error", data: { errorCode: "mic_denied", errorMessage: "The microphone was refused." } },
  ]);
});

test("a start given up reports nothing, and its late answers change nothing", () => {
  const { state, names } = run(opened, { type: "call" }, { type: "cancel" }, started, failed);
  assert.deepEqual([state.name, names], ["idle", ["widget_loaded"]]);
});

test("a call that ends", () => {
  const { state, names } = run(opened, { type: "call" }, { type: "microphone" }, started, ended, failed);
  assert.deepEqual([state.name, names], ["ended", ["widget_loaded", "call_started", "call_ended"]]);
});

test("after an error the next call starts from there", () => {
  const { state, names } = run(opened, { type: "call" }, failed, { type: "call" }, started);
  assert.deepEqual([state.name, names], ["calling", ["widget_loaded", "call_error", "call_started"]]);
});

test("whatever the order of steps: each start has at most one end, and no end is without its own start", () => {
  const inputs = [
    opened, { type: "refused", code: "internal" }, { type: "call" }, { type: "microphone" }, { type: "cancel" }, started,
    { type: "progress", phase: "connected" }, ended, failed, { type: "back" }, { type: "reload" },
  ];
  let seed = 1;
  for (let round = 0; round < 2_000; round++) {
    const chosen = Array.from({ length: 40 }, () => inputs[(seed = (seed * 48_271) % 2_147_483_647) % inputs.length]);
    let live = false;
    for (const name of run(...chosen).names) {
      if (name === "call_started") live = true;
      if (name === "call_ended") assert.ok(live);
      if (name === "call_ended" || name === "call_error") live = false;
    }
  }
});
