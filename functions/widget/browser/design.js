// What an app's operators made of their widget: read from the session's answer, each part with its default.

/**
 * @typedef {{kind: "text" | "disclosure", text: string} | {kind: "image", url: string, alt: string}} Block
 * @typedef {{id: string, kind: "text" | "email" | "phone" | "select" | "checkbox" | "rating" | "choice" | "comment", label: string,
 *   required?: boolean, options?: string[]}} Question of the form before a call and of the survey after it
 * @typedef {{id: string, label: string, action: "link" | "copy" | "call" | "email", value: string}} CustomButton
 * @typedef {{mode?: string, accent?: string, onAccent?: string, corner?: string}} Theme
 * @typedef {{lang: string, texts: Record<string, string>, theme: Theme, blocks: Block[], form: {fields: Question[]} | null,
 *   survey: {questions: Question[], comment?: boolean} | null, buttons: CustomButton[], customCode: boolean, codeOrigin: string,
 *   allowedOrigins: string[]}} Design
 */

/** @type {Design} */
const PLAIN = {
  lang: "auto", texts: {}, theme: {}, blocks: [], form: null, survey: null, buttons: [], customCode: false, codeOrigin: "",
  allowedOrigins: [],
};

/**
 * @param {Partial<Design>} [widget]
 * @returns {Design}
 */
export function readDesign(widget) {
  const design = { ...PLAIN, ...widget };
  if (!design.form?.fields.length) design.form = null;
  if (!design.survey?.questions.length) design.survey = null;
  return design;
}

const COLOUR = /^#[0-9a-f]{6}$/i;
/** Corners of buttons and of boxes. @type {Record<string, [string, string]>} */
const CORNERS = { round: ["1.625rem", "0.875rem"], soft: ["0.75rem", "0.5rem"], square: ["0", "0"] };

/**
 * Through the CSS object model: the document's policy forbids styles in markup. The style sheet makes the accent's shades.
 * @param {Theme} theme
 * @param {string} [asked] by the embed code
 */
export function dress({ mode, accent = "", onAccent = "", corner = "" }, asked) {
  const { dataset, style } = document.documentElement;
  const chosen = asked ?? mode;
  if (chosen === "light" || chosen === "dark") dataset.theme = chosen;
  else delete dataset.theme;
  /** @type {Record<string, string>} */
  const properties = {};
  if (COLOUR.test(accent) && COLOUR.test(onAccent)) {
    properties["--accent"] = accent;
    properties["--on-accent"] = onAccent;
  }
  if (Object.hasOwn(CORNERS, corner)) [properties["--corner"], properties["--box"]] = CORNERS[corner];
  for (const name in properties) style.setProperty(name, properties[name]);
}
