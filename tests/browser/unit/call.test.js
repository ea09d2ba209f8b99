// How failures of a start become the contract's error codes, and that each code has its words.

import assert from "node:assert/strict";
import { test } from "node:test";
import { answerCode, microphoneCode } from "../../../functions/widget/browser/call.js";
import { ERRORS, reportText } from "../../../functions/widget/browser/texts.js";

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
    [409, "provider_inactive", "provider_inactive"], [409, "conflict", "media_failed"],
    [429, "rate_limit_exceeded", "call_limit"], [503, "unavailable", "media_failed"], [500, "server_error", "media_failed"],
    [404, "", "media_failed"], [200, "", "media_failed"],
  ];
  for (const [status, type, code] of table) assert.equal(answerCode(status, type), code, `${status} ${type}`);
});

test("every code a start can end with has a title, a way on and a report", () => {
  const codes = [
    "mic_policy", "mic_denied", "mic_missing", "mic_busy", "insecure_context", "session_refused", "provider_inactive",
    "network_unreachable", "media_failed", "call_limit", "internal",
  ];
  for (const code of codes) {
    assert.ok(ERRORS[code].title && ERRORS[code].body, code);
    assert.ok(reportText(code).length < 200, code);
  }
});
