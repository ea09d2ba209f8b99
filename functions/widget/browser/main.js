// The widget, put together: reads its address, opens a session, draws the state, reports events.
//
// The modules of the first paint (this one and what it imports) are served as one file, so that a usable widget costs
// four requests: document, style sheet, this file, session. build.rs makes that file by a rule short enough to check by
// eye: the modules one after the other, imports between them and lines of pure comment left out. It refuses a
// top-level name that two of them share. Modules outside that file are imported when needed, and import none of it.

import { Refusal } from "./api.js";
import { readAddress } from "./context.js";
import { sendEvent } from "./events.js";
import { Session } from "./session.js";
import { step } from "./state.js";
import { reportText } from "./texts.js";
import { render } from "./view.js";

const embed = readAddress(location);
const session = new Session({
  appId: embed.appId,
  widgetKey: embed.key,
  profileId: embed.profile,
  routingKey: embed.routingKey,
  context: embed.context,
  preview: embed.preview,
});
/** @type {import("./state.js").State} */
let state = { name: "loading" };
/** @type {import("./api.js").SessionAnswer | undefined} */
let opened;
/** @type {AbortController | undefined} */
let calling;

/** @param {import("./state.js").Input} input */
function take(input) {
  const { state: next, report } = step(state, input);
  const changed = next !== state;
  state = next;
  if (changed) render(state, { call, cancel, retry });
  if (report) void sendEvent(session, report);
}

/** @param {boolean} again whether this document has had a session before */
async function start(again) {
  try {
    opened = await session.open();
    take({ type: "opened", open: opened.open, closed: opened.closed, isPreview: embed.preview, again });
  } catch (error) {
    const refusal = error instanceof Refusal ? error : new Refusal(500, "unknown");
    take({ type: "refused", code: startCode(refusal), requestId: refusal.requestId });
  }
}

/**
 * Which start-up screen a refused session gets.
 * @param {Refusal} refusal
 */
function startCode({ status, type }) {
  if (status === 0) return "network_unreachable";
  if (type === "app_not_found" || type === "provider_inactive") return type;
  if (status === 401) return "wrong_key";
  if (status === 403) return "forbidden";
  if (status === 429) return "rate_limited";
  return status >= 400 && status < 500 ? "wrong_settings" : "internal";
}

async function call() {
  take({ type: "call" });
  if (state.name !== "starting") return;
  const attempt = new AbortController();
  calling = attempt;
  try {
    const { placeCall } = await import("./call.js").catch(() => {
      throw new Refusal(0, "network");
    });
    await placeCall({
      mediaUrl: opened?.media?.url,
      iceServers: opened?.media?.iceServers,
      token: () => session.token(),
      signal: attempt.signal,
      heard: () => take({ type: "microphone" }),
    });
  } catch (error) {
    // Given up by the visitor or by leaving the page: the state has moved on already.
    if (attempt.signal.aborted) return;
    const code = callCode(error);
    take({ type: "failed", code, message: reportText(code) });
  }
}

/** @param {unknown} error */
function callCode(error) {
  if (error instanceof Refusal) {
    if (error.status === 0) return "network_unreachable";
    if (error.type === "provider_inactive") return error.type;
    return error.status === 429 ? "call_limit" : "session_refused";
  }
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : "internal";
}

function cancel() {
  calling?.abort();
  take({ type: "cancel" });
}

function retry() {
  if (state.name === "error" && state.at === "call") return void call();
  take({ type: "reload" });
  void start(false);
}

// A page put aside for the back/forward cache keeps no call, no microphone and no token; when it comes back, it asks
// for a session again.
addEventListener("pagehide", () => {
  calling?.abort();
  session.forget();
});
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  take({ type: "reload" });
  void start(true);
});

// The loader hands over a port, so that Escape inside the frame can close the panel outside it. The port says "close"
// and nothing else; a page that is not the loader gains no more than that.
/** @type {MessagePort | undefined} */
let loader;
addEventListener("message", (event) => {
  if (event.source === parent && event.data === "click-to-call:loader") loader = event.ports[0];
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.defaultPrevented) loader?.postMessage("close");
});

// Once somebody aims at the widget, the module that places calls is fetched, so that the tap does not wait for it.
const warm = () => void import("./call.js").catch(() => undefined);
addEventListener("pointerover", warm, { once: true });
addEventListener("focusin", warm, { once: true });

if (embed.theme === "light" || embed.theme === "dark") document.documentElement.dataset.theme = embed.theme;
if (embed.debug) console.debug("Click to Call: context", embed.context, { dropped: embed.dropped, cut: embed.cut });
render(state, { call, cancel, retry });
void start(false);
