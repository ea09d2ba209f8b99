// When a closed widget asks again whether it is open.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { whenDue } from "../../../functions/widget/browser/opening.js";

const DAY = 86_400_000;

/** A page that can be hidden, and two clocks that a test sets. */
function page() {
  const document = Object.assign(new EventTarget(), { hidden: false });
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 0 });
  let asleep = 0;
  mock.method(performance, "now", () => Date.now() - asleep);
  mock.method(Math, "random", () => 0.5);
  Object.assign(globalThis, { document });
  return {
    /** @param {boolean} hidden */
    hide(hidden) {
      document.hidden = hidden;
      document.dispatchEvent(new Event("visibilitychange"));
    },
    /** The computer sleeps: no timer runs, and one clock stands still. @param {number} ms */
    sleep(ms) {
      asleep += ms;
      mock.timers.setTime(Date.now() + ms);
    },
  };
}

test("once, when the time has passed, a little spread", () => {
  page();
  let acted = 0;
  whenDue(60_000, () => (acted += 1));
  mock.timers.tick(61_499);
  assert.equal(acted, 0);
  mock.timers.tick(1);
  assert.equal(acted, 1);
  mock.timers.tick(DAY);
  assert.equal(acted, 1);
});

test("also when it is further away than a timer can wait", () => {
  page();
  let acted = 0;
  whenDue(60 * DAY, () => (acted += 1));
  for (let day = 0; day < 60; day++) mock.timers.tick(DAY);
  assert.equal(acted, 0);
  mock.timers.tick(1_500);
  assert.equal(acted, 1);
});

test("hidden, it waits until it is seen", () => {
  const { hide } = page();
  let acted = 0;
  whenDue(60_000, () => (acted += 1));
  hide(true);
  mock.timers.tick(DAY);
  assert.equal(acted, 0);
  hide(false);
  hide(false);
  assert.equal(acted, 1);
});

test("asleep, it notices by the clock that went on", () => {
  const { hide, sleep } = page();
  let acted = 0;
  whenDue(8 * 3_600_000, () => (acted += 1));
  hide(true);
  sleep(8 * 3_600_000);
  hide(false);
  assert.equal(acted, 0);
  mock.timers.tick(1_500);
  assert.equal(acted, 1);
});
