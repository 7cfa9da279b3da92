// The panel that writes the results in the formats of other programs.

import { post } from "./api.js";
import { $, element, plural } from "./words.js";

export class ExportsPanel {
  constructor(session) {
    this.session = session;
    session.addEventListener("state", () => this.refresh());
    $("export").addEventListener("submit", (event) => {
      event.preventDefault();
      this.write();
    });
  }

  refresh() {
    const formats = (this.session.state.exports ?? []).map((format) => (typeof format === "string" ? { name: format, label: format } : format));
    const key = formats.map(({ name }) => name).join(" ");
    if (this.shown === key) return;
    this.shown = key;
    $("formats").replaceChildren(...formats.map(({ name, label }) => {
      const box = element("input", { type: "checkbox", name: "format", value: name });
      return element("label", {}, box, ` ${label}`);
    }));
  }

  async write() {
    const formats = [...$("formats").querySelectorAll(":checked")].map(({ value }) => value);
    if (!formats.length) {
      $("written").textContent = "Choose at least one format.";
      return;
    }
    $("written").textContent = "Writing …";
    const answer = await this.session.attempt(() => post("/api/exports", { formats }));
    $("written").replaceChildren();
    if (!answer) return;
    $("written").append(answer.message || `${plural(answer.files, "file")} written.`, " Folder: ", element("code", { textContent: answer.folder }));
  }
}
