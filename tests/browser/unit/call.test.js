// How failures become the contract's error codes, that each code has its words, and what the control channel says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { answerCode, deleteCall, errorType, level, postOffer, readControl } from "../../../functions/widget/browser/line.js";
import { microphoneCode } from "../../../functions/widget/browser/microphone.js";
import { ERRORS, isErrorCode, reportText } from "../../../functions/widget/browser/texts.js";

test("the microphone's failures", () => {
  const expected = {
    NotAllowedError: "mic_denied", SecurityError: "mic_denied", NotFoundError: "mic_missing",
    OverconstrainedError: "mic_missing", NotReadableError: "mic_busy", AbortError: "mic_busy", TypeError: "internal",
  };
  for (const [name, code] of Object.entries(expected)) assert.equal(microphoneCode(name), code, name);
});

test("the media server's answers", () => {
  /** @type {[number, string, string][]} */
  const table = [
    [401, "unauthorized", "session_refused"], [403, "forbidden", "session_refused"],
    [409, "provider_inactive", "provider_inactive"], [409, "conflict", "media_failed"], [409, "closed", "closed"],
    [429, "rate_limit_exceeded", "call_limit"], [503, "unavailable", "media_failed"], [500, "server_error", "media_failed"],
    [404, "", "media_failed"], [200, "", "media_failed"],
  ];
  for (const [status, type, code] of table) assert.equal(answerCode(status, type), code, `${status} ${type}`);
});

test("outside business hours is told apart from a line that is busy", () => {
  const details = [{ field: "hours", message: "is closed at the moment", code: "closed" }];
  assert.equal(errorType(JSON.stringify({ error: { type: "conflict", details } })), "closed");
  assert.equal(errorType(JSON.stringify({ error: { type: "conflict" } })), "conflict");
  for (const text of ["", "null", "{}", "<html>"]) assert.equal(errorType(text), "", text);
});

test("every code of the contract has a title, a way on and a report", () => {
  const codes = [
    "mic_policy", "mic_denied", "mic_missing", "mic_busy", "insecure_context", "session_refused", "provider_inactive",
    "network_unreachable", "media_failed", "no_audio", "busy", "rejected", "no_answer", "destination_unavailable", "call_limit",
    "internal",
  ];
  for (const code of codes) {
    assert.ok(ERRORS[code].title && ERRORS[code].body, code);
    assert.ok(isErrorCode(code), code);
    assert.ok(reportText(code).length < 200, code);
  }
  for (const code of ["rate_limited", "toString", "undefined", ""]) assert.ok(!isErrorCode(code), code);
});

test("what the media server says on the control channel", () => {
  /** @type {[unknown, unknown][]} */
  const table = [
    ['{"type":"ringing"}', { type: "progress", phase: "ringing" }],
    ['{"type":"early"}', { type: "progress", phase: "early" }],
    ['{"type":"answered"}', { type: "progress", phase: "connected" }],
    ['{"type":"held","on":true}', { type: "shows", what: { held: true } }],
    ['{"type":"held","on":false}', { type: "shows", what: { held: false } }],
    ['{"type":"quality","mos":4.2,"rttMs":null,"jitterMs":2,"loss":0}', { type: "shows", what: { level: 4 } }],
    ['{"type":"ended","reason":"remote_hangup"}', { type: "ended", reason: "remote_hangup" }],
    ['{"type":"ended","reason":"user_hangup"}', { type: "ended", reason: "user_hangup" }],
    ['{"type":"ended","errorCode":"no_answer"}', { type: "failed", code: "no_answer" }],
    ['{"type":"ended"}', { type: "failed", code: "undefined" }],
    ['{"type":"of later servers"}', undefined], ['{"type":["ringing"]}', undefined], ["null", undefined], ['"ringing"', undefined],
    ["", undefined], ["{", undefined], [new ArrayBuffer(2), undefined],
  ];
  for (const [text, meant] of table) assert.deepEqual(readControl(text), meant, String(text));
});

test("a hang-up says what the widget noticed, and nothing of a visitor's own", async () => {
  /** @type {string[]} */
  const asked = [];
  globalThis.fetch = async (url, how) => {
    asked.push(`${how?.method} ${url}`);
    return new Response(null, { status: 204 });
  };
  const address = "https://media.example/v1/calls/call_1";
  await deleteCall(address, "token");
  await deleteCall(address, "token", "no_audio");
  assert.deepEqual(asked, [`DELETE ${address}`, `DELETE ${address}?errorCode=no_audio`]);
});

test("four levels of quality", () => {
  for (const [mos, expected] of [[4.5, 4], [4.03, 4], [4.02, 3], [3.6, 3], [3.1, 2], [3.09, 1], [1, 1], [NaN, 1]]) {
    assert.equal(level(mos), expected, String(mos));
  }
});

/** @param {[number, unknown, Record<string, string>?][]} answers the media server's, one after the other */
function serve(...answers) {
  let asked = 0;
  globalThis.fetch = async () => {
    const [status, body, headers] = answers[asked++] ?? assert.fail("asked too often");
    return new Response(typeof body === "string" ? body : JSON.stringify({ error: body }), { status, headers });
  };
  const offer = (isWanted = () => true) => postOffer("https://media.example/v1/calls", "v=0", "token", new AbortController().signal, isWanted);
  return { offer, asked: () => asked };
}

const begun = /** @type {[number, string, Record<string, string>]} */ ([201, "v=0 answer", { location: "/v1/calls/call_1" }]);
const full = /** @type {[number, unknown, Record<string, string>]} */ ([503, { type: "unavailable" }, { "retry-after": "0.01" }]);
const busy = /** @type {[number, unknown]} */ ([409, { type: "conflict" }]);

test("a full media server is asked once more, and no third time", async () => {
  const one = serve(full, begun);
  assert.deepEqual(await one.offer(), { address: "https://media.example/v1/calls/call_1", answer: "v=0 answer" });
  const two = serve(full, full, begun);
  await assert.rejects(two.offer(), { code: "media_failed" });
  assert.equal(two.asked(), 2);
  // A balancer without a server says the same without our words.
  await serve([503, "<html>", { "retry-after": "0.01" }], begun).offer();
});

test("a line that is busy and a full server are waited for apart; nobody who has hung up is called", async () => {
  const both = serve(busy, full, busy, begun);
  await both.offer();
  assert.equal(both.asked(), 4);
  const given = serve(full, begun);
  await assert.rejects(given.offer(() => false), { code: "media_failed" });
  assert.equal(given.asked(), 1);
  const closed = serve([409, { type: "conflict", details: [{ code: "closed" }] }], begun);
  await assert.rejects(closed.offer(), { code: "closed" });
});
