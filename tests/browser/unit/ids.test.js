// Event ids: their form, their order, their chance; those of a call by the vectors that the server is tested with too.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { endId, eventId, startId, surveyId } from "../../../functions/widget/browser/ids.js";

test("the form the server asks for", () => {
  for (let i = 0; i < 100; i++) assert.match(eventId(), /^evt_[0-7][0-9abcdefghjkmnpqrstvwxyz]{25}$/);
});

test("time in the first ten digits, beyond 32 bits too", () => {
  const none = new Uint8Array(16);
  assert.equal(eventId(0, none), "evt_" + "0".repeat(26));
  assert.equal(eventId(31, none).slice(4, 14), "000000000z");
  assert.equal(eventId(1469918176385, none).slice(4, 14), "01aryz6s41");
  assert.equal(eventId(2 ** 48 - 1, none).slice(4, 14), "7zzzzzzzzz");
  assert.ok(eventId(1_000) < eventId(2_000));
});

test("every digit of chance can be every digit", () => {
  assert.equal(eventId(0, Uint8Array.from({ length: 16 }, (_, i) => i)).slice(14), "0123456789abcdef");
  assert.equal(eventId(0, new Uint8Array(16).fill(255)).slice(14), "z".repeat(16));
  assert.equal(new Set(Array.from({ length: 1000 }, () => eventId(1))).size, 1000);
});

test("the ids of a call's events are made of the call's", () => {
  const vectors = JSON.parse(readFileSync(new URL("../../vectors/call-events.json", import.meta.url), "utf8"));
  assert.ok(vectors.length > 0);
  for (const { call, started, ended, surveyed } of vectors) {
    assert.deepEqual([startId(call), endId(call), surveyId(call)], [started, ended, surveyed]);
  }
});
