// The widget's state machine, pure: what is shown, and which event each step reports. Events leave through the steps
// alone, so one call can never report both an end and an error, and a start that fails never reports a start.
//
//   loading -> idle | closed | error          idle -> starting -> calling -> ended
//   starting -> idle (given up) | error       calling -> error          error, ended -> loading | idle
//
// `starting` is the time between the tap and the answer of the media server; the outside sees it as idle.
// A step that does not fit the state changes nothing: late answers of a call given up are harmless.

/**
 * @typedef {{message?: string, label?: string, opensAt?: string}} Closed
 * @typedef {{name: "loading"} | {name: "idle"} | {name: "closed", closed: Closed}
 *   | {name: "starting", waiting: "microphone" | "line"}
 *   | {name: "calling", phase: "dialling" | "ringing" | "connected" | "reconnecting"}
 *   | {name: "ended", duration: number, reason: "user_hangup" | "remote_hangup"}
 *   | {name: "error", code: string, at: "start" | "call", requestId?: string}} State
 * @typedef {{type: "opened", open: boolean, closed?: Closed, isPreview: boolean, again: boolean}
 *   | {type: "refused", code: string, requestId?: string}
 *   | {type: "call"} | {type: "microphone"} | {type: "cancel"}
 *   | {type: "started", destinationId: string | null, routingKey: string | null, hasFormValues: boolean}
 *   | {type: "progress", phase: "dialling" | "ringing" | "connected" | "reconnecting"}
 *   | {type: "ended", duration: number, reason: "user_hangup" | "remote_hangup"}
 *   | {type: "failed", code: string, message: string}
 *   | {type: "back"} | {type: "reload"}} Input
 * @typedef {{name: string, data: Record<string, unknown>}} Report
 */

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
      if (at !== "idle" && !(at === "error" && state.at === "call")) break;
      return { state: { name: "starting", waiting: "microphone" } };
    case "microphone":
      if (at !== "starting") break;
      return { state: { name: "starting", waiting: "line" } };
    case "cancel":
      if (at !== "starting") break;
      return { state: { name: "idle" } };
    case "started": {
      if (at !== "starting") break;
      const { destinationId, routingKey, hasFormValues } = input;
      const data = { destinationId, routingKey, hasFormValues };
      return { state: { name: "calling", phase: "dialling" }, report: { name: "call_started", data } };
    }
    case "progress":
      if (at !== "calling") break;
      return { state: { name: "calling", phase: input.phase } };
    case "ended": {
      if (at !== "calling") break;
      const { duration, reason } = input;
      return { state: { name: "ended", duration, reason }, report: { name: "call_ended", data: { duration, reason } } };
    }
    case "failed":
      if (at !== "starting" && at !== "calling") break;
      return {
        state: { name: "error", code: input.code, at: "call" },
        report: { name: "call_error", data: { errorCode: input.code, errorMessage: input.message } },
      };
    case "back":
      if (at !== "ended" && !(at === "error" && state.at === "call")) break;
      return { state: { name: "idle" } };
    case "reload":
      return { state: { name: "loading" } };
  }
  return { state };
}
