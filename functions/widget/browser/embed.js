// The loader: `<script async src="https://…/embed.js" data-app-id="app_…" data-key="…"></script>`.
//
// Attributes (only the first two are needed):
//   data-app-id, data-key                           the app and its widget key
//   data-profile, data-routing-key, data-lang, data-theme, data-preview, data-debug     parameters of the widget
//   data-context-order-id="A-1"                     context; the key is made as `dataset` makes it: orderId
//   data-context='{"order-id": "A-1", "vip": true}' context with keys exactly as written; these come before the
//                                                   others, and of two equal keys the first counts; a key named
//                                                   like a parameter is dropped
//   data-position="bottom-right" | "bottom-left" | "inline" (where the script stands)   data-label="Call us"
//   data-accent="#0b57d0" data-on-accent="#ffffff"  colours of the button and of what stands on it
// No other attribute is passed on: consent and tag managers put theirs on script elements too.
//
// It costs the page nothing while that loads: it waits for `load`, 1.5 s and an idle moment, and then draws one button
// of fixed size in a shadow root, styled by a constructed sheet (which a strict Content-Security-Policy allows). Aiming
// at the button prefetches the document; the first press makes the frame. The panel is no dialog: focus is never
// trapped, Escape closes it, focus returns to the button. Closing hides the frame, so that a call goes on.
// Whatever goes wrong here, the host page never sees a throw: every way in goes through `quietly`.
(() => {
  /** @param {() => unknown} act */
  const quietly = (act) => () => {
    try {
      act();
    } catch (error) {
      console.warn("click-to-call:", error);
    }
  };

  /** @param {HTMLScriptElement} script */
  const start = (script) => {
    const data = script.dataset;
    if (!data.appId) throw "no app id";
    const address = new URL("/widget/" + encodeURIComponent(data.appId), script.src);
    /** @type {string[]} */
    const own = [];
    /**
     * Context comes last, and never sets a parameter of the widget's own.
     * @param {string} name
     * @param {any} value
     */
    const put = (name, value) => {
      if (value != null && !own.includes(name)) address.searchParams.append(name, value);
    };
    for (const name of ["key", "profile", "routingKey", "lang", "theme", "preview", "debug"]) {
      put(name, data[name]);
      own.push(name);
    }
    quietly(() => {
      const context = JSON.parse(data.context ?? "{}");
      for (const name in context) put(name, context[name]);
    })();
    for (const name in data) {
      if (/^context[A-Z]/.test(name)) put(name[7].toLowerCase() + name.slice(8), data[name]);
    }

    const idle = window.requestIdleCallback ?? setTimeout;
    const soon = () => setTimeout(() => idle(quietly(() => draw(script, address)), { timeout: 2000 }), 1500);
    if (document.readyState === "complete") soon();
    else addEventListener("load", soon);
  };

  /**
   * @param {HTMLScriptElement} script
   * @param {URL} address
   */
  const draw = (script, address) => {
    // Tag managers like to run a script twice.
    /** @type {any} */
    const page = window;
    const drawn = (page.clickToCall ??= {});
    if (drawn[address.href]) return;
    drawn[address.href] = true;

    const { position, label = "Call us", accent = "#0b57d0", onAccent = "white" } = script.dataset;
    const inline = position === "inline";
    const side = position === "bottom-left" ? "left" : "right";
    const host = document.createElement("div");
    const root = host.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(`
:host{all:initial;z-index:99999999;${inline ? "display:inline-block;position:relative" : `position:fixed;bottom:20px;${side}:20px`}}
button{all:unset;display:flex;align-items:center;justify-content:center;gap:10px;width:144px;height:56px;overflow:hidden;border:1px solid #0000;border-radius:28px;background:${accent};color:${onAccent};font:600 17px system-ui;cursor:pointer;box-shadow:0 4px 20px #0004}
button:focus-visible{outline:3px solid #000;box-shadow:0 0 0 6px #fff}
button::before{content:"";border:12px solid;clip-path:path("M7 3h2l2 4-2 2a12 12 0 0 0 6 6l2-2 4 2v2a3 3 0 0 1-3 3A17 17 0 0 1 4 6a3 3 0 0 1 3-3Z")}
[aria-expanded=true]::before{clip-path:path("M4 8h16l-8 9Z")}
iframe{box-sizing:border-box;position:fixed;bottom:88px;${side}:20px;width:min(360px,100vw - 40px);height:min(500px,100vh - 108px);border:1px solid #8883;border-radius:20px;box-shadow:0 4px 20px #0004}
@media(max-height:440px){
iframe{inset:0;width:100vw;height:100vh;border-radius:0}
[aria-expanded=true]{position:fixed;z-index:1;top:8px;${side}:8px;width:44px;height:44px;gap:0;font-size:0}
}`);
    root.adoptedStyleSheets = [sheet];

    const button = document.createElement("button");
    button.append(label);
    root.append(button);

    let shown = true;
    /** @type {HTMLIFrameElement | undefined} */
    let frame;
    const toggle = quietly(() => {
      shown = !shown;
      if (shown && !frame) {
        frame = document.createElement("iframe");
        frame.title = "Click to call";
        frame.allow = "microphone; autoplay; speaker-selection; screen-wake-lock";
        frame.src = address.href;
        // Keys pressed inside the frame are not heard out here; this port brings back "close", and nothing else.
        frame.onload = quietly(() => {
          const { port1, port2 } = new MessageChannel();
          port1.onmessage = close;
          /** @type {any} */
          const inner = frame;
          inner.contentWindow.postMessage("click-to-call:loader", address.origin, [port2]);
          // Only now can the focus go inside, unless the visitor has taken it elsewhere meanwhile.
          if (root.activeElement) inner.contentWindow.focus();
        });
        root.append(frame);
      }
      if (frame) {
        frame.hidden = !shown;
        (shown ? frame : button).focus();
      }
      button.setAttribute("aria-expanded", String(shown));
    });
    const close = () => shown && toggle();
    close();

    button.onclick = toggle;
    // Only while the focus is here: Escape elsewhere on the page belongs to the page.
    host.onkeydown = (event) => {
      if (event.key === "Escape") close();
    };
    // Hover, focus and touch (a finger enters, too) wake the server. Browsers that keep a frame's cache apart from its
    // page's fetch the document again.
    button.onpointerenter = button.onfocus = quietly(() => {
      button.onpointerenter = button.onfocus = null;
      const hint = document.createElement("link");
      hint.rel = "prefetch";
      hint.href = address.href;
      document.head.append(hint);
    });

    if (inline && document.body.contains(script)) script.after(host);
    else document.body.append(host);
  };

  /** @type {any} */
  const self = document.currentScript ?? document.querySelector('script[src*="/embed.js"]');
  quietly(() => start(self))();
})();
