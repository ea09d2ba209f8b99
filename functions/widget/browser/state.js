// The widget's state machine, pure: what is shown, and which event each step reports. Events leave through the steps
// alone, so one call can never report both an end and an error, and a start that fails never reports a start.
//
//   loading -> idle | closed | error          idle, ended -> starting -> calling -> ended
//   starting -> idle (given up) | error       calling -> error          error, ended -> loading | idle | starting
//
// `starting` is the time between the tap and the answer of the media server; the outside sees it as idle. Given up while
// the media server is being asked, it waits for the answer (`leaving`): a call that began there is one that ended.
// A step that does not fit the state changes nothing: late answers of a call given up are harmless.

import { endId, startId } from "./ids.js";

/**
 * @typedef {{message?: string, label?: string, opensAt?: string}} Closed
 * @typedef {"dialling" | "ringing" | "early" | "connected"} Phase `early`: it rings, and audio of the far side is heard
 * @typedef {{lost: boolean, held: boolean, silent: boolean, muted: boolean, keypad: boolean, pressed: string,
 *   level: number}} Shown of a call: the connection is lost for the moment; the far side put it on hold; the browser wants
 *   a tap before it plays sound; the visitor's mute, keypad and digits; the quality, 1 to 4, 0 while it is not known
 * @typedef {{name: "calling", callId: string, phase: Phase, since?: number, shown: Shown}} Calling `since` when somebody
 *   answered, in milliseconds
 * @typedef {{name: "loading"} | {name: "idle"} | {name: "closed", closed: Closed}
 *   | {name: "starting", waiting: "microphone" | "line" | "leaving"} | Calling
 *   | {name: "ended", duration: number, reason: "user_hangup" | "remote_hangup"}
 *   | {name: "error", code: string, at: "start" | "call", connected?: boolean, requestId?: string}} State `connected`: there
 *   was a conversation
 * @typedef {{type: "opened", open: boolean, closed?: Closed, isPreview: boolean, again: boolean}
 *   | {type: "refused", code: string, requestId?: string}
 *   | {type: "call"} | {type: "microphone"} | {type: "cancel"}
 *   | {type: "started", callId: string, destinationId?: string | null, routingKey?: string | null, hasFormValues?: boolean}
 *   | {type: "progress", phase: Phase, at: number} | {type: "shows", what: Partial<Shown>}
 *   | {type: "ended", duration: number, reason: "user_hangup" | "remote_hangup"}
 *   | {type: "failed", code: string, message?: string}
 *   | {type: "back"} | {type: "reload"}} Input
 * @typedef {{name: string, data: Record<string, unknown>, id?: string}} Report with an id of its own when it is about a call
 */

/** @type {Phase[]} */
const PHASES = ["dialling", "ringing", "early", "connected"];
/** @type {Shown} */
const NOTHING_SHOWN = { lost: false, held: false, silent: false, muted: false, keypad: false, pressed: "", level: 0 };

/**
 * @param {State} state
 * @param {Input} input
 * @returns {{state: State, report?: Report}}
 */
export function step(state, input) {
  const at = state.name;
  switch (input.type) {
    case "opened": {
      if (at !== "loading") break;
      /** @type {State} */
      const next = input.open ? { name: "idle" } : { name: "closed", closed: input.closed ?? {} };
      // A page that comes back from the browser's history opens a session again, but was loaded once.
      return input.again
        ? { state: next }
        : { state: next, report: { name: "widget_loaded", data: { isPreview: input.isPreview } } };
    }
    case "refused":
      if (at !== "loading") break;
      return { state: { name: "error", code: input.code, at: "start", requestId: input.requestId } };
    case "call":
      if (at !== "idle" && at !== "ended" && !(at === "error" && state.at === "call")) break;
      return { state: { name: "starting", waiting: "microphone" } };
    case "microphone":
      if (at !== "starting" || state.waiting !== "microphone") break;
      return { state: { name: "starting", waiting: "line" } };
    case "cancel":
      if (at !== "starting") break;
      return { state: state.waiting === "microphone" ? { name: "idle" } : { name: "starting", waiting: "leaving" } };
    case "started": {
      if (at !== "starting" || state.waiting === "microphone") break;
      const { callId, destinationId = null, routingKey = null, hasFormValues = false } = input;
      const data = { destinationId, routingKey, hasFormValues };
      return {
        state: { name: "calling", callId, phase: "dialling", shown: NOTHING_SHOWN },
        report: { name: "call_started", data, id: startId(callId) },
      };
    }
    case "progress": {
      // Later word that says less, such as ringing after sound, changes nothing.
      if (at !== "calling" || PHASES.indexOf(input.phase) <= PHASES.indexOf(state.phase)) break;
      const since = input.phase === "connected" ? input.at : undefined;
      return { state: { ...state, phase: input.phase, since } };
    }
    case "shows":
      if (at !== "calling") break;
      return { state: { ...state, shown: { ...state.shown, ...input.what } } };
    case "ended": {
      if (at !== "calling") break;
      const { duration, reason } = input;
      return {
        state: { name: "ended", duration, reason },
        report: { name: "call_ended", data: { duration, reason }, id: endId(state.callId) },
      };
    }
    case "failed": {
      if (at !== "starting" && at !== "calling") break;
      // Who gave up is not bothered with why it would not have worked.
      if (at === "starting" && state.waiting === "leaving") return { state: { name: "idle" } };
      const id = at === "calling" ? endId(state.callId) : undefined;
      return {
        state: { name: "error", code: input.code, at: "call", connected: at === "calling" && state.phase === "connected" },
        report: { name: "call_error", data: { errorCode: input.code, errorMessage: input.message ?? "" }, id },
      };
    }
    case "back":
      if (at !== "ended" && !(at === "error" && state.at === "call")) break;
      return { state: { name: "idle" } };
    case "reload":
      return { state: { name: "loading" } };
  }
  return { state };
}
