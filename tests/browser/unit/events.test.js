// Reports that do not get through: kept, sent again in time, each once as far as the server can tell.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Reports } from "../../../functions/widget/browser/events.js";

/** A page, its session, and a network that answers with the status at hand; 0: not at all. */
function page() {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  const [window, document] = [new EventTarget(), new EventTarget()];
  /** @type {{id: string, session: string}[]} */
  const sent = [];
  /** @type {{status: number, retryAfter?: string}} */
  const network = { status: 0 };
  const session = {
    id: "ses_1",
    /** @type {string | undefined} */
    bearer: "ses_1",
    token: async () => session.bearer ?? session.open(),
    /** A new one. */
    open: () => (session.bearer = session.id = `ses_${Number(session.id.slice(4)) + 1}`),
    forget: () => void (session.bearer = undefined),
  };
  Object.assign(globalThis, {
    document,
    addEventListener: window.addEventListener.bind(window),
    /** @param {string} _ @param {any} request */
    fetch: async (_, { body, headers, keepalive }) => {
      assert.ok(keepalive, "it outlives the page");
      sent.push({ id: JSON.parse(body).id, session: headers.authorization.slice("Bearer ".length) });
      const { status, retryAfter } = network;
      if (status === 0) throw new TypeError("no network");
      return new Response(JSON.stringify(status < 300 ? { data: {} } : { error: { type: "…" } }), {
        status, headers: retryAfter ? { "retry-after": retryAfter } : {},
      });
    },
  });
  const reports = new Reports(/** @type {any} */ (session));
  return {
    sent, session, network,
    leave: () => reports.sendKept(),
    /** @param {string} id @param {boolean} [ofCall] */
    report: (id, ofCall = false) => reports.send({ id, name: "call_error", data: { context: {} }, timestamp: "…" }, ofCall),
    online: () => window.dispatchEvent(new Event("online")),
    hide: () => document.dispatchEvent(new Event("visibilitychange")),
    /** What is under way gets its answer. */
    async settle() {
      for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    },
    ids: () => sent.map(({ id }) => id),
  };
}

/** Both tries of a report come to nothing. @param {ReturnType<typeof page>} it @param {string} id @param {boolean} [ofCall] */
async function lose(it, id, ofCall) {
  const reported = it.report(id, ofCall);
  await it.settle();
  mock.timers.tick(1_000);
  assert.equal(await reported, false);
}

for (const [what, ofCall] of /** @type {const} */ ([["a call", true], ["no call", false]])) {
  test(`what was lost of ${what} while offline goes when the network is back, once`, async () => {
    const it = page();
    await lose(it, "a", ofCall);
    await lose(it, "b", ofCall);
    it.hide();
    await it.settle();
    assert.deepEqual(it.ids(), ["a", "a", "b", "b", "a", "b"], "still offline");
    it.network.status = 202;
    it.sent.length = 0;
    it.online();
    it.hide();
    it.leave();
    await it.settle();
    it.online();
    await it.settle();
    assert.deepEqual(it.sent, [{ id: "a", session: "ses_1" }, { id: "b", session: "ses_1" }]);
  });
}

test("at the latest it goes when the page is left, at once, also out of the pause between two tries", async () => {
  const it = page();
  await lose(it, "a");
  const paused = it.report("b");
  await it.settle();
  it.network.status = 202;
  it.sent.length = 0;
  it.leave();
  it.session.forget();
  // Nothing can be waited for where a page goes.
  assert.deepEqual(it.ids(), ["a", "b"]);
  mock.timers.tick(1_000);
  assert.equal(await paused, false);
  assert.equal(it.sent.length, 2, "nothing twice");
});

test("never after the session's end, and never to another session", async () => {
  const it = page();
  await lose(it, "a");
  await lose(it, "b", true);
  it.network.status = 202;
  it.sent.length = 0;
  it.session.forget();
  it.session.open();
  it.online();
  await it.settle();
  assert.deepEqual(it.sent, []);
});

test("nothing that may have arrived opens a session", async () => {
  const it = page();
  await lose(it, "a");
  it.network.status = 202;
  it.sent.length = 0;
  it.session.forget();
  it.online();
  await it.settle();
  assert.deepEqual([it.sent, it.session.bearer], [[], undefined]);
});

test("what never had a session waits for one", async () => {
  const it = page();
  it.session.forget();
  mock.method(it.session, "token", async () => Promise.reject(new Error("offline")), { times: 2 });
  await lose(it, "a");
  assert.deepEqual(it.sent, []);
  it.network.status = 202;
  it.online();
  await it.settle();
  assert.deepEqual(it.sent, [{ id: "a", session: "ses_2" }]);
});

test("a refused token: a new session takes the report, once; one about a call stays where it belongs", async () => {
  const it = page();
  it.network.status = 401;
  assert.equal(await it.report("a", true), false);
  assert.equal(it.session.bearer, "ses_1");
  await lose(it, "b");
  it.network.status = 202;
  it.online();
  await it.settle();
  assert.deepEqual(it.sent, [["a", 1], ["b", 1], ["b", 2]].map(([id, number]) => ({ id, session: `ses_${number}` })));
});

test("what the server will not have is not kept, and of the rest the newest twenty", async () => {
  const it = page();
  it.network.status = 400;
  assert.equal(await it.report("a"), false);
  it.network.status = 503;
  for (let number = 0; number < 25; number++) await lose(it, `b${number}`);
  it.network.status = 202;
  it.sent.length = 0;
  it.leave();
  await it.settle();
  assert.deepEqual(it.ids(), Array.from({ length: 20 }, (_, number) => `b${number + 5}`));
});

for (const [status, retryAfter, ms] of /** @type {const} */ ([[429, "30", 30_000], [503, undefined, 1_000]])) {
  test(`a server that answers ${status} is left alone for ${ms} ms, also by many changes of tab, but not where the page goes`, async (t) => {
    let now = 0;
    t.mock.method(performance, "now", () => now);
    const it = page();
    for (const id of ["a", "b", "c"]) await lose(it, id);
    it.network.status = status;
    it.network.retryAfter = retryAfter;
    it.sent.length = 0;
    const hide = async () => {
      it.hide();
      await it.settle();
    };
    await hide();
    assert.deepEqual(it.ids(), ["a"], "the first refusal ends the round");
    for (now of [1, ms / 2, ms - 1]) await hide();
    assert.deepEqual(it.ids(), ["a"]);
    now = ms;
    await hide();
    assert.deepEqual(it.ids(), ["a", "b"], "patience has its end");
    it.leave();
    assert.deepEqual(it.ids(), ["a", "b", "c", "a", "b"], "nothing waits where the page goes");
  });
}
