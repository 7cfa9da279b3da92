// The panel that writes the results in the formats of other programs.

import { post } from "./api.js";
import { $, element, plural } from "./words.js";

const USES = { // of each format of nuclei/formats/registry.py; a test compares
  geojson: "QuPath",
  "geojson.zip": "QuPath, compressed",
  "geojson.gz": "QuPath, compressed",
  imagej: "ImageJ and Fiji",
  coco: "COCO",
  ometiff: "label images, OME-TIFF",
  omezarr: "label images, OME-Zarr",
  csv: "table of measurements",
  parquet: "table of measurements",
};

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
    const names = this.session.state.exports ?? [];
    if (this.shown === names.join(" ")) return;
    this.shown = names.join(" ");
    $("formats").replaceChildren(...names.map((name) => {
      const box = element("input", { type: "checkbox", name: "format", value: name });
      return element("label", {}, box, ` ${name} `, element("span", { className: "quiet", textContent: USES[name] ?? "" }));
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
