// `window.c2c`, for the customer's code in its own document: classic, inline, before anything of theirs.
//   on(name, handler), once(name, handler)  hear events, "*" all; those of before, up to 50, come at once
//   off(name, handler)
//   emit(name, data)                        says `custom.<name>` to the page around the widget; false when over a cap
//   context                                 what the page told the widget
(() => {
  /** @type {{name: string, handler: (event: any) => void, once?: boolean}[]} */
  let list = [];
  /** @type {any[]} */
  const past = [];
  /** @type {number[]} */
  let sent = [];
  /** @type {MessagePort | undefined} */
  let port;
  /** @type {[string, string][]} */
  let early = [];
  let context = {};
  try {
    context = JSON.parse(window.name);
  } catch {}
  /** @type {(entry: typeof list[0], event: any) => void} */
  const give = (entry, event) => {
    if (!list.includes(entry) || (entry.name != "*" && entry.name != event.name)) return;
    if (entry.once) list = list.filter((other) => other != entry);
    try {
      entry.handler(event);
    } catch (error) {
      console.error(error);
    }
  };
  /** @type {(name: string, handler: (event: any) => void, once?: boolean) => void} */
  const on = (name, handler, once) => {
    const entry = { name, handler, once };
    list.push(entry);
    for (const event of [...past]) give(entry, event);
  };
  /** @type {any} */
  const page = window;
  page.c2c = {
    context,
    on: (/** @type {string} */ name, /** @type {() => void} */ handler) => on(name, handler),
    once: (/** @type {string} */ name, /** @type {() => void} */ handler) => on(name, handler, true),
    off(/** @type {string} */ name, /** @type {() => void} */ handler) {
      list = list.filter((entry) => entry.name != name || entry.handler != handler);
    },
    emit(/** @type {string} */ name, data = {}) {
      const text = JSON.stringify(data);
      const now = Date.now();
      sent = sent.filter((at) => now - at < 1000);
      if (!/^[a-z][a-z0-9_]{0,39}$/.test(name) || text?.[0] != "{" || sent.length > 9) return false;
      if (new TextEncoder().encode(text).length > 4096) return false;
      sent.push(now);
      if (port) port.postMessage([name, text]);
      else early.push([name, text]);
      return true;
    },
  };
  addEventListener("message", function first({ source, data, ports }) {
    if (source != parent || data != "click-to-call:code") return;
    removeEventListener("message", first);
    port = ports[0];
    port.onmessage = ({ data: event }) => {
      event.context = event.data.context;
      past.push(event);
      if (past.length > 50) past.shift();
      for (const entry of [...list]) give(entry, event);
    };
    for (const said of early) port.postMessage(said);
  });
})();
