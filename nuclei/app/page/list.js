// The list of images, in order of need, and the facts of the open one.

import { imagePath, upload } from "./api.js";
import { $, element, nuclei, number, plural, say } from "./words.js";

const STATES = { waiting: "waiting", predicting: "predicting …", predicted: "to check", accepted: "accepted", failed: "failed", slide: "slide" };
const TILE_PX = 512;

export class ImageList {
  constructor(session) {
    this.session = session;
    this.cards = new Map(); // id -> button
    session.addEventListener("state", () => this.refresh());
    session.addEventListener("image", () => this.refresh());
    session.addEventListener("tool", () => this.describe());
    $("list").addEventListener("keydown", (event) => {
      const by = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      const next = by && event.target.closest("li")?.[by]?.firstChild;
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
    this.prepareAdding();
  }

  card(image) {
    const parts = Object.fromEntries(["name", "state", "facts"].map((part) => [part, element("span", { className: part })]));
    const picture = element("img", { alt: "", loading: "lazy", width: 56, height: 56 });
    picture.addEventListener("error", () => picture.removeAttribute("src")); // the file cannot be read
    const button = element("button", { type: "button" }, picture, element("span", { className: "text" }, parts.name, parts.state, parts.facts));
    button.addEventListener("click", () => {
      this.session.open(image.id);
      if (matchMedia("(max-width: 900px)").matches) this.onChosen?.();
    });
    return Object.assign(button, { parts, picture });
  }

  // Cards stay the same elements, so that none loses the focus.
  refresh() {
    const { images } = this.session.state, focused = document.activeElement;
    for (const image of images) {
      if (!this.cards.has(image.id)) this.cards.set(image.id, this.card(image));
      this.fill(this.cards.get(image.id), image);
    }
    const wanted = images.map(({ id }) => this.cards.get(id));
    const shown = [...$("list").children].map((item) => item.firstChild);
    if (wanted.length !== shown.length || wanted.some((card, at) => card !== shown[at])) {
      $("list").replaceChildren(...wanted.map((card) => element("li", {}, card)));
      if (wanted.includes(focused)) focused.focus();
    }
    const numAccepted = images.filter(({ state }) => state === "accepted").length, numImages = images.filter(({ slide }) => !slide).length;
    $("progress").textContent = numImages ? `${number(numAccepted)} of ${plural(numImages, "image")} accepted` : "no images yet";
    $("empty").hidden = images.length > 0;
    this.describe();
  }

  fill(card, image) {
    const { parts, picture } = card, level = Math.max(0, Math.ceil(Math.log2(Math.max(image.width, image.height) / TILE_PX)));
    const source = `${imagePath(image.id)}/tiles/${level}/0/0.jpg`;
    if (image.width && image.state !== "failed" && picture.getAttribute("src") !== source) picture.src = source;
    const facts = [];
    if (["predicted", "accepted"].includes(image.state)) facts.push(nuclei(image.nuclei));
    if (image.held_out) facts.push("held out");
    if (image.state === "slide") facts.push(plural(this.session.state.images.filter(({ source }) => source?.id === image.id).length, "field"));
    parts.name.textContent = image.name;
    parts.state.textContent = (image.state === "predicted" && image.note ? "to accept again" : STATES[image.state]) + (image.flagged ? ", out of distribution" : "");
    parts.facts.textContent = facts.join(", ");
    card.dataset.state = image.state;
    card.title = image.note || image.name;
    card.setAttribute("aria-current", String(image.id === this.session.current));
  }

  describe() {
    const { image } = this.session;
    $("name").textContent = image?.name ?? "";
    const facts = !image?.width ? [] : [`${image.width} × ${image.height} px`];
    if (image && ["predicted", "accepted"].includes(image.state)) {
      facts.push(nuclei(image.nuclei));
      if (image.uncertainty !== null && image.uncertainty !== undefined) facts.push(`uncertainty ${image.uncertainty.toFixed(2)}`);
    }
    $("facts").textContent = facts.join(" · ");
    $("flag").hidden = !image?.flagged;
    const waiting = { waiting: "This image waits to be predicted.", predicting: "The nuclei of this image are being predicted.", failed: `This image could not be read or predicted. ${image?.note ?? ""}` };
    if (image?.slide) Object.assign(waiting, { waiting: "The overview of this slide is read soon.", predicting: "The overview of this slide is being read.", slide: $("viewer").dataset.tool === "field" ? "" : "A slide: choose Field (f), then click where you want to correct nuclei." });
    const text = waiting[image?.state] ?? (image?.nuclei === 0 ? "No nuclei here. Draw them, or choose Propose and drag a box." : "");
    $("nothing").textContent = text;
    $("nothing").hidden = !text;
    $("viewer").setAttribute("aria-label", image ? `${image.name}, ${nuclei(image.nuclei ?? 0)}` : "no image");
  }

  // --- Adding images ---

  prepareAdding() {
    $("add").addEventListener("click", () => $("files").click());
    $("files").addEventListener("change", () => { this.add([...$("files").files]); $("files").value = ""; });
    let depth = 0; // of entered elements: leaving a child does not leave the page
    const isFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragenter", (event) => { if (isFiles(event)) { depth += 1; $("drop").hidden = false; } });
    document.addEventListener("dragleave", (event) => { if (isFiles(event)) { depth -= 1; $("drop").hidden = depth > 0 ? false : true; } });
    document.addEventListener("dragover", (event) => { if (isFiles(event)) event.preventDefault(); });
    document.addEventListener("drop", (event) => {
      if (!isFiles(event)) return;
      event.preventDefault();
      depth = 0;
      $("drop").hidden = true;
      this.add([...event.dataTransfer.files]);
    });
  }

  async add(files) {
    const refused = [];
    let first = null;
    for (const [at, file] of files.entries()) {
      say(`Adding ${file.name}: ${at + 1} of ${files.length} …`);
      try {
        const image = await upload(file);
        first ??= image.id;
      } catch (error) {
        refused.push(error.message.startsWith(file.name) ? error.message : `${file.name}: ${error.message}`);
      }
    }
    const numAdded = files.length - refused.length;
    await this.session.attempt(() => this.session.load());
    if (first) await this.session.attempt(() => this.session.open(first));
    say([numAdded ? `${plural(numAdded, "image")} added.` : "", ...refused].filter(Boolean).join(" "), refused.length > 0);
  }
}
