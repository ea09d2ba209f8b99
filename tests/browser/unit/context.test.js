// The context rules, by the vectors that the server's rules are tested with too, and the reading of an address.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { cleanContext, readAddress } from "../../../functions/widget/browser/context.js";

const vectors = JSON.parse(readFileSync(new URL("../../vectors/context.json", import.meta.url), "utf8"));

for (const { name, query, expected } of vectors) {
  test(`context: ${name}`, () => assert.deepEqual(cleanContext(new URLSearchParams(query)), expected));
}

test("context never reaches a prototype", () => {
  const { context } = cleanContext([["__proto__", "x"], ["toString", "y"]]);
  assert.equal(Object.getPrototypeOf(context), Object.prototype);
  assert.deepEqual(Object.keys(context), ["toString"]);
});

test("an address: reserved parameters by name, everything else context", () => {
  const address = new URL(
    "https://w.example/widget/app_1?key=wk&profile=dest_1&routingKey=sales&lang=de&theme=dark&preview=1&debug=true" +
      "&position=inline&key=again&orderId=A-1&1bad=x",
  );
  assert.deepEqual(readAddress(address), {
    appId: "app_1", key: "wk", profile: "dest_1", routingKey: "sales", lang: "de", theme: "dark", preview: true,
    debug: true, context: { orderId: "A-1" }, dropped: ["1bad"], cut: [],
  });
});

test("a preview is a flag, or the key of a draft as it stands", () => {
  for (const [text, preview] of [["1", true], ["true", true], ["0", false], ["false", false], ["", false], ["prv_0a", "prv_0a"], ["yes", "yes"]]) {
    assert.equal(readAddress(new URL(`https://w.example/widget/app_1?preview=${text}`)).preview, preview);
  }
});

test("an address with nothing in it", () => {
  assert.deepEqual(readAddress(new URL("https://w.example/widget/app_1?preview=0&profile=")), {
    appId: "app_1", key: "", profile: undefined, routingKey: undefined, lang: undefined, theme: undefined,
    preview: false, debug: false, context: {}, dropped: [], cut: [],
  });
});
