// What pages do better with a script; they do without it as well.

/** A button that copies the text of the element it is `for`. */
customElements.define("c2c-copy", class extends HTMLElement {
  connectedCallback() {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet small";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy ${this.getAttribute("name")}`);
    const said = document.createElement("span");
    said.setAttribute("role", "status");
    said.className = "unseen";
    button.addEventListener("click", async () => {
      const text = document.getElementById(this.getAttribute("for"))?.textContent ?? "";
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = said.textContent = "Copied";
      } catch {
        button.textContent = said.textContent = "Please select and copy it";
      }
      setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 2_000);
    });
    this.append(button, said);
  }
});

/** How many bytes a text area holds, of how many. */
customElements.define("c2c-bytes", class extends HTMLElement {
  connectedCallback() {
    const area = document.getElementById(this.getAttribute("for"));
    const count = () => {
      this.textContent = `${new TextEncoder().encode(area.value).length.toLocaleString("en")} of ${this.getAttribute("most")} bytes`;
    };
    area?.addEventListener("input", count);
    if (area) count();
  }
});
