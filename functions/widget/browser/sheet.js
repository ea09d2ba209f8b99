// Questions for the visitor: the form before a call and the survey after it. Loaded when an app asks any.
//
// A sheet is made once and stays as it is while its state lasts, so that what was typed is never lost. What is wrong stands at
// its field, tied to it, and the focus goes to the first such field.

/**
 * @typedef {import("./design.js").Question} Question
 * @typedef {import("./view.js").Kit} Kit
 * @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Field
 */

const LONGEST = 500;
const LONGEST_COMMENT = 2_000;
/** What browsers may fill in by themselves. @type {Record<string, Record<string, string>>} */
const INPUTS = {
  text: { type: "text" },
  email: { type: "email", autocomplete: "email" },
  phone: { type: "tel", autocomplete: "tel" },
};
const EMAIL = /^[^\s@]+@[^\s@]+\.[^\s@]+$/;
const PHONE = /^\+?[\d\s()./-]{3,40}$/;

export class Sheet {
  element;
  #kit;
  #questions;

  /**
   * @param {Kit} kit
   * @param {Question[]} questions
   * @param {(sheet: Sheet) => Promise<unknown>} send when all is filled in; rejects when it did not get through
   */
  constructor(kit, questions, send) {
    this.#kit = kit;
    this.#questions = questions;
    const { element } = kit;
    const trouble = element("p", { class: "wrong", role: "alert" });
    const form = element("form", { id: "sheet", novalidate: "" }, ...questions.map((question) => this.#draw(question)), trouble);
    this.element = form;
    let busy = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (busy || !this.#check()) return;
      busy = true;
      trouble.textContent = "";
      await send(this).catch((error) => this.#refused(error, trouble));
      busy = false;
    });
    // A mended field stops being called wrong at once. Not when it is left: what stands below would move away under the finger
    // or pointer that is just about to press it.
    form.addEventListener("input", ({ target }) => {
      const question = questions.find(({ id }) => /** @type {Field} */ (target).name === id);
      if (question && !this.#judge(question)) this.#say(question, "");
    });
  }

  /** What was filled in, by question. @returns {Record<string, string | boolean>} */
  get values() {
    /** @type {Record<string, string | boolean>} */
    const values = {};
    for (const question of this.#questions) {
      const value = this.#value(question);
      if (value !== "") values[question.id] = value;
    }
    return values;
  }

  /** @param {Question} question */
  #draw(question) {
    const { texts, element } = this.#kit;
    const { id, kind, label, required, options = [] } = question;
    const wrong = element("p", { id: `wrong-${id}`, class: "wrong" });
    const shared = { name: id, "aria-describedby": wrong.id, ...(required && { required: "" }) };
    const about = [element("span", { dir: "auto" }, label)];
    // Most are asked for; what need not be filled in is marked.
    if (!required && kind !== "checkbox") about.push(element("small", {}, ` (${texts.optional})`));
    if (kind === "rating" || kind === "choice") {
      const answers = kind === "rating" ? [..."12345"] : options;
      return element("fieldset", { class: "field" }, element("legend", {}, ...about), ...this.#choices(kind, answers, shared), wrong);
    }
    if (kind === "checkbox") {
      const box = element("input", { id: `field-${id}`, type: "checkbox", ...shared });
      return element("p", { class: "field" }, element("label", { class: "tick" }, box, ...about), wrong);
    }
    const field = this.#field(question, { id: `field-${id}`, dir: "auto", ...shared });
    return element("div", { class: "field" }, element("label", { for: `field-${id}` }, ...about), field, wrong);
  }

  /**
   * @param {"rating" | "choice"} kind
   * @param {string[]} answers
   * @param {Record<string, string>} shared
   */
  #choices(kind, answers, shared) {
    const { texts, element } = this.#kit;
    const radios = answers.map((answer) => {
      const radio = element("input", { type: "radio", value: answer, ...shared });
      return element("label", {}, radio, element("span", { dir: "auto" }, answer));
    });
    const group = element("div", { class: kind }, ...radios);
    if (kind === "choice") return [group];
    // What the ends of the scale mean: seen below it, and heard as a part of their names.
    const ends = [texts.worst, texts.best];
    ends.forEach((end, place) => radios[place && radios.length - 1].append(element("span", { class: "unseen" }, end)));
    const shown = ends.map((end, place) => element("span", {}, `${place ? 5 : 1} ${end}`));
    return [group, element("p", { class: "ends", "aria-hidden": "true" }, ...shown)];
  }

  /**
   * @param {Question} question
   * @param {Record<string, string>} attributes
   */
  #field({ id, kind, options = [] }, attributes) {
    const { texts, element } = this.#kit;
    if (kind === "comment") return element("textarea", { ...attributes, rows: "3", maxlength: String(LONGEST_COMMENT) });
    if (kind === "select") {
      const choices = ["", ...options].map((value) => element("option", { value }, value || texts.choose));
      return element("select", attributes, ...choices);
    }
    if (id === "name") attributes.autocomplete = "name";
    return element("input", { ...attributes, maxlength: String(LONGEST), ...INPUTS[kind] });
  }

  /** @param {Question} question */
  #fields({ id }) {
    return /** @type {Field[]} */ ([...this.element.querySelectorAll(`[name="${CSS.escape(id)}"]`)]);
  }

  /** @param {Question} question */
  #wrong({ id }) {
    return /** @type {HTMLElement} */ (this.element.querySelector(`#${CSS.escape(`wrong-${id}`)}`));
  }

  /** @param {Question} question */
  #value(question) {
    const fields = this.#fields(question);
    const checked = fields.find((field) => /** @type {HTMLInputElement} */ (field).checked);
    if (question.kind === "checkbox") return checked !== undefined;
    return (question.kind === "rating" || question.kind === "choice" ? checked?.value : fields[0].value.trim()) ?? "";
  }

  /**
   * What is wrong with an answer, in words.
   * @param {Question} question
   */
  #judge(question) {
    const { texts } = this.#kit;
    const { kind, required } = question;
    const value = this.#value(question);
    const given = kind === "checkbox" ? value : value !== "";
    if (!given) {
      if (!required) return "";
      return kind === "email" || kind === "phone" ? texts.missing : this.#hint(question);
    }
    const pattern = kind === "email" ? EMAIL : kind === "phone" ? PHONE : /./s;
    return kind === "checkbox" || pattern.test(String(value)) ? "" : this.#hint(question);
  }

  /** What an answer must be. @param {Question} question */
  #hint({ kind }) {
    const { texts } = this.#kit;
    if (kind === "checkbox") return texts.unticked;
    if (kind === "email") return texts.notEmail;
    if (kind === "phone") return texts.notPhone;
    return kind === "text" ? texts.missing : texts.unchosen;
  }

  /**
   * @param {Question} question
   * @param {string} what
   */
  #say(question, what) {
    this.#wrong(question).textContent = what;
    for (const field of this.#fields(question)) {
      if (what) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
  }

  #check() {
    for (const question of this.#questions) this.#say(question, this.#judge(question));
    return !this.#toFirst();
  }

  /** Leads to the first wrong field. */
  #toFirst() {
    const first = /** @type {HTMLElement | null} */ (this.element.querySelector("[aria-invalid]"));
    first?.focus();
    return first !== null;
  }

  /**
   * The server's word about single fields goes to them, in the visitor's language; any other to the end of the sheet.
   * @param {any} error
   * @param {HTMLElement} trouble
   */
  #refused(error, trouble) {
    for (const { field } of error?.details ?? []) {
      const question = this.#questions.find(({ id }) => field === `values.${id}`);
      if (question) this.#say(question, this.#hint(question));
    }
    if (!this.#toFirst()) trouble.textContent = this.#kit.texts.notSent;
  }
}

/**
 * What a survey's sheet says, as the server takes it, and as the event tells it.
 * @param {Question[]} questions
 * @param {Record<string, string | boolean>} values
 */
export function surveyOf(questions, values) {
  const answers = [];
  let sum = 0;
  let rated = 0;
  for (const { id, kind } of questions) {
    const value = values[id];
    if (value === undefined || kind === "comment") continue;
    if (kind === "rating") {
      sum += Number(value);
      rated++;
      answers.push({ questionId: id, rating: Number(value) });
    } else answers.push({ questionId: id, text: String(value) });
  }
  const comment = questions.find(({ kind }) => kind === "comment");
  const text = comment && values[comment.id];
  return {
    body: { answers, ...(text && { comment: String(text) }) },
    // The mean with one decimal, a half rounded up.
    told: { rating: Math.round((sum / rated) * 10) / 10, answerCount: answers.length, hasComment: Boolean(text) },
  };
}
