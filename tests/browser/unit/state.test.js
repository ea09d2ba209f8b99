// The state machine: which steps report which event, and that no order of steps breaks the contract's promises.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { step } from "../../../functions/widget/browser/state.js";

const opened = { type: "opened", open: true, isPreview: false, again: false };
const call = { type: "call" };
const microphone = { type: "microphone" };
const callId = "call_01jd3v9zk0abcdefghjkmnpqrs";
const started = { type: "started", callId, destinationId: "dest_1", routingKey: null, hasFormValues: false };
const cancel = { type: "cancel" };
const failed = { type: "failed", code: "mic_denied", message: "The microphone was refused." };
const ended = { type: "ended", duration: 12, reason: "user_hangup" };

const fields = [
  "isPreview", "destinationId", "routingKey", "hasFormValues", "duration", "reason", "errorCode", "errorMessage", "rating",
  "answerCount", "hasComment", "label", "action",
];

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

const vectors = JSON.parse(readFileSync(new URL("../../vectors/states.json", import.meta.url), "utf8"));
for (const { name, inputs, state: expected, events } of vectors) {
  test(`vector: ${name}`, () => {
    const { state, reports } = run(...inputs);
    assert.equal(state.name, expected);
    assert.deepEqual(JSON.parse(JSON.stringify(reports, ["name", "data", "id", ...fields])), events);
  });
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

test("a closed widget takes another answer, and is loaded no second time", () => {
  const shut = { ...opened, open: false, closed: {} };
  const { state, names } = run(shut, { ...shut, again: true, closed: { message: "Later" } }, { ...opened, again: true });
  assert.deepEqual([state.name, names], ["idle", ["widget_loaded"]]);
  assert.equal(run(shut, opened).state.name, "closed");
  assert.equal(run(shut, { type: "refused", code: "network_unreachable" }).state.name, "closed");
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
    { name: "call_error", data: { errorCode: "mic_denied", errorMessage: "The microphone was refused." }, id: undefined },
  ]);
});

test("a start given up reports nothing, and its late answers change nothing", () => {
  const { state, names } = run(opened, call, cancel, started, failed);
  assert.deepEqual([state.name, names], ["idle", ["widget_loaded"]]);
});

test("given up while the media server is being asked: what began there is reported and ends, what did not is forgotten", () => {
  const leaving = [opened, call, microphone, cancel];
  assert.deepEqual(run(...leaving, cancel).state, { name: "starting", waiting: "leaving" });
  assert.deepEqual(run(...leaving, started, { ...ended, duration: 0 }).names, ["widget_loaded", "call_started", "call_ended"]);
  const { state, names } = run(...leaving, failed);
  assert.deepEqual([state.name, names], ["idle", ["widget_loaded"]]);
});

test("a call that ends; its events' ids are made of its own", () => {
  const { state, names, reports } = run(opened, call, microphone, started, ended, failed);
  assert.deepEqual([state.name, names], ["ended", ["widget_loaded", "call_started", "call_ended"]]);
  assert.deepEqual(reports.slice(1).map(({ id }) => id), ["evt_01jd3v9zk0abcdefghjkmnpqrr", "evt_01jd3v9zk0abcdefghjkmnpqrs"]);
  assert.deepEqual(reports[1].data, { destinationId: "dest_1", routingKey: null, hasFormValues: false });
});

test("a call that breaks off reports the same id as its end would have", () => {
  const { state, reports } = run(opened, call, microphone, started, { ...failed, code: "no_answer" }, ended);
  assert.deepEqual([state.name, state.code, state.connected], ["error", "no_answer", false]);
  assert.deepEqual(reports.slice(2).map(({ name, id }) => [name, id]), [["call_error", "evt_01jd3v9zk0abcdefghjkmnpqrs"]]);
});

test("progress goes forward only, and the clock starts with the answer", () => {
  const phase = (/** @type {string} */ name) => ({ type: "progress", phase: name, at: 7 });
  const calling = [opened, call, microphone, started];
  for (const [phases, reached, since] of [
    [["ringing"], "ringing", undefined], [["early", "ringing"], "early", undefined], [["connected", "early"], "connected", 7],
  ]) {
    const { state, names } = run(...calling, ...phases.map(phase));
    assert.deepEqual([state.phase, state.since], [reached, since]);
    assert.deepEqual(names, ["widget_loaded", "call_started"]);
  }
  assert.ok(run(...calling, phase("connected"), failed).state.connected);
});

test("mute, hold, loss and quality are shown beside the phase and change nothing else", () => {
  const calling = [opened, call, microphone, started, { type: "progress", phase: "connected", at: 1 }];
  const { state, names } = run(...calling, { type: "shows", what: { muted: true } }, { type: "shows", what: { lost: true } });
  assert.deepEqual([state.phase, state.shown.muted, state.shown.lost, state.shown.held], ["connected", true, true, false]);
  assert.deepEqual(names, ["widget_loaded", "call_started"]);
  assert.equal(run(opened, { type: "shows", what: { muted: true } }).state.name, "idle");
});

test("after an error and after an end the next call starts from there, with nothing of the last", () => {
  const { state, names } = run(opened, call, failed, call, microphone, started);
  assert.deepEqual([state.name, names], ["calling", ["widget_loaded", "call_error", "call_started"]]);
  const muted = { type: "shows", what: { muted: true } };
  assert.equal(run(opened, call, microphone, started, muted, ended, call, microphone, started).state.shown.muted, false);
});

test("whatever the order of steps: each start has at most one end, and no end is without its own start", () => {
  const inputs = [
    opened, { type: "refused", code: "internal" }, call, microphone, cancel, started,
    { type: "progress", phase: "connected", at: 1 }, { type: "shows", what: { lost: true } }, ended, failed, { type: "back" }, { type: "reload" },
    { type: "form" }, { type: "survey" }, { type: "skip" }, { type: "submitted", rating: 4, answerCount: 1, hasComment: false },
    { type: "button", label: "Write to us", action: "email" },
  ];
  let seed = 1;
  for (let round = 0; round < 2_000; round++) {
    const chosen = Array.from({ length: 40 }, () => inputs[(seed = (seed * 48_271) % 2_147_483_647) % inputs.length]);
    let [live, asked] = [false, false];
    for (const name of run(...chosen).names) {
      if (name === "call_started") live = true;
      if (name === "call_ended") assert.ok(live);
      if (name === "survey_submitted") assert.ok(asked), (asked = false);
      if (name === "call_ended" || name === "call_error") [live, asked] = [false, name === "call_ended"];
    }
  }
});
