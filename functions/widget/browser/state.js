// The widget's state machine, pure: what is shown, and which event each step reports. Events leave through the steps
// alone, so one call can never report both an end and an error, and a start that fails never reports a start.
//
//   loading -> idle | closed | error          closed -> idle | closed          idle, rested -> form -> starting -> calling -> ended -> survey
//   starting -> idle (given up) | error       calling -> error           survey -> survey_submitted | ended (skipped)
//   `rested` is where a call can be begun anew: ended, survey_submitted, the error of a call
//
// `form` is the time of the questions before a call, and `starting` that between the tap and the answer of the media server;
// the outside sees both as idle. Given up while the media server is being asked, it waits for the answer (`leaving`): a call
// that began there is one that ended. tests/vectors/states.json holds what is promised; the server's rules read it too.
// A step that does not fit the state changes nothing: late answers of a call given up are harmless.

import { endId, startId, surveyId } from "./ids.js";

/**
 * @typedef {{message?: string, label?: string, opensAt?: string}} Closed
 * @typedef {"dialling" | "ringing" | "early" | "connected"} Phase `early`: it rings, and audio of the far side is heard
 * @typedef {{kind: "audioinput" | "audiooutput", id: string, label: string, used: boolean}} Device
 * @typedef {{lost: boolean, held: boolean, silent: boolean, muted: boolean, open: "" | "keypad" | "devices", pressed: string,
 *   level: number, devices: Device[]}} Shown of a call: the connection is lost for the moment; the far side put it on hold; the
 *   browser wants a tap before it plays sound; the visitor's mute, which tool is open, and digits; the quality, 1 to 4, 0
 *   while it is not known; microphones and speakers to choose from
 * @typedef {{name: "calling", callId: string, phase: Phase, since?: number, shown: Shown}} Calling `since` when somebody
 *   answered, in milliseconds
 * @typedef {{name: "ended", callId: string, duration: number, reason: "user_hangup" | "remote_hangup"}} Ended
 * @typedef {{name: "loading"} | {name: "idle"} | {name: "form"} | {name: "closed", closed: Closed}
 *   | {name: "starting", waiting: "microphone" | "line" | "leaving"} | Calling
 *   | Ended | {name: "survey", ended: Ended} | {name: "survey_submitted"}
 *   | {name: "error", code: string, at: "start" | "call", connected?: boolean, requestId?: string}} State `connected`: there
 *   was a conversation
 * @typedef {{type: "opened", open: boolean, closed?: Closed, isPreview: boolean, again: boolean}
 *   | {type: "refused", code: string, requestId?: string}
 *   | {type: "form"} | {type: "call"} | {type: "microphone"} | {type: "cancel"}
 *   | {type: "started", callId: string, destinationId?: string | null, routingKey?: string | null, hasFormValues?: boolean}
 *   | {type: "progress", phase: Phase, at: number} | {type: "shows", what: Partial<Shown>}
 *   | {type: "ended", duration: number, reason: "user_hangup" | "remote_hangup"}
 *   | {type: "failed", code: string, message?: string}
 *   | {type: "survey"} | {type: "skip"}
 *   | {type: "submitted", rating: number, answerCount: number, hasComment: boolean}
 *   | {type: "button", label: string, action: string}
 *   | {type: "back"} | {type: "reload"}} Input
 * @typedef {{name: string, data: Record<string, unknown>, id?: string, known?: boolean}} Report with an id of its own when it
 *   is about a call; `known` to the server, which is not told again
 */

/** @type {Phase[]} */
const PHASES = ["dialling", "ringing", "early", "connected"];
/** @type {Shown} */
const NOTHING_SHOWN = { lost: false, held: false, silent: false, muted: false, open: "", pressed: "", level: 0, devices: [] };

/**
 * Whether a call can be begun.
 * @param {State} state
 */
const isRested = (state) =>
  ["idle", "ended", "survey_submitted"].includes(state.name) || (state.name === "error" && state.at === "call");

/**
 * @param {State} state
 * @param {Input} input
 * @returns {{state: State, report?: Report}}
 */
export function step(state, input) {
  const at = state.name;
  switch (input.type) {
    case "opened": {
      // A closed widget asks again when it opens.
      if (at !== "loading" && !(at === "closed" && input.again)) break;
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
    case "form":
      if (!isRested(state)) break;
      return { state: { name: "form" } };
    case "call":
      if (!isRested(state) && at !== "form") break;
      return { state: { name: "starting", waiting: "microphone" } };
    case "microphone":
      if (at !== "starting" || state.waiting !== "microphone") break;
      return { state: { name: "starting", waiting: "line" } };
    case "cancel":
      if (at === "form") return { state: { name: "idle" } };
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
        state: { name: "ended", callId: state.callId, duration, reason },
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
    case "survey":
      if (at !== "ended") break;
      return { state: { name: "survey", ended: state } };
    case "skip":
      if (at !== "survey") break;
      return { state: state.ended };
    case "submitted": {
      if (at !== "survey") break;
      const { rating, answerCount, hasComment } = input;
      const id = surveyId(state.ended.callId);
      return {
        state: { name: "survey_submitted" },
        report: { name: "survey_submitted", data: { rating, answerCount, hasComment }, id, known: true },
      };
    }
    case "button": {
      if (at === "loading" || (at === "error" && state.at === "start")) break;
      const { label, action } = input;
      return { state, report: { name: "custom_button_clicked", data: { label, action } } };
    }
    case "back":
      if (!isRested(state)) break;
      return { state: { name: "idle" } };
    case "reload":
      return { state: { name: "loading" } };
  }
  return { state };
}
