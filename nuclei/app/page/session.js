// What the user works on: the folder's state, the open image with its nuclei, the selection, edits on their way.

import { get, imagePath, post, Refused } from "./api.js";
import { Nuclei } from "./nuclei.js";
import { Unsent } from "./unsent.js";
import { nuclei as countNuclei, say } from "./words.js";

const SELECTS_RESULT = new Set(["merge", "split", "draw", "brush", "grow", "shrink"]);
const READY = new Set(["predicted", "accepted"]);

export class Session extends EventTarget {
  // viewer: a Viewer. askToRepeat(message) -> Promise of a truth value.
  constructor(viewer, askToRepeat) {
    super();
    this.viewer = viewer;
    this.askToRepeat = askToRepeat;
    this.state = { images: [], exports: [], job: null };
    this.current = null; // id of the open image
    this.nuclei = null;
    this.lastKind = null; // of the last edit of the open image that was answered
    this.unsent = new Unsent({
      answered: (item, delta) => this.answered(item, delta),
      refused: (item, error) => this.refused(item, error),
      conflict: (item, answer) => this.conflict(item, answer),
      changed: () => this.changed("unsent"),
    });
  }

  changed(name) {
    this.dispatchEvent(new Event(name));
  }

  get image() {
    return this.state.images.find(({ id }) => id === this.current) ?? null;
  }

  get canEdit() {
    return this.nuclei !== null;
  }

  // --- The folder ---

  async load() {
    const state = await get("/api/state");
    this.state = state;
    this.unsent.folder = state.folder_key;
    this.renewPicture();
    this.changed("state");
    if (!this.image) await this.open(state.images[0]?.id);
    else if (!this.nuclei && READY.has(this.image.state)) await this.loadNuclei();
    else this.changed("image");
  }

  // The size of a slide, and of some files, is known only after they were read.
  renewPicture() {
    const { image, viewer } = this;
    if (!image || !viewer.image) return;
    if (image.width === viewer.image.width && image.height === viewer.image.height) viewer.image = image;
    else viewer.open(image, this.nuclei);
  }

  replaceImage(image) {
    this.state.images = this.state.images.map((other) => (other.id === image.id ? { ...other, ...image } : other));
    this.changed("state");
    this.changed("image");
  }

  async open(id) {
    if (!id || id === this.current) return;
    this.current = id;
    this.nuclei = this.lastKind = null;
    say(""); // the last message was of the image before
    this.select([]);
    this.viewer.open(this.image, null);
    this.changed("opened");
    this.changed("image");
    await this.loadNuclei(); // an image that waits is predicted next
  }

  step(by) {
    const { images } = this.state, at = images.findIndex(({ id }) => id === this.current);
    if (images.length) return this.open(images[(at + by + images.length) % images.length].id);
  }

  async loadNuclei() {
    const id = this.current;
    const answer = await get(`${imagePath(id)}/nuclei`);
    if (id !== this.current || !READY.has(this.image.state)) return; // the user may have opened another image meanwhile
    this.nuclei = new Nuclei(id, answer);
    for (const { edit } of this.unsent.of(id)) this.hide(edit);
    this.viewer.nuclei = this.nuclei;
    this.viewer.outlines.clear();
    this.viewer.marks.clear();
    this.viewer.redraw();
    this.changed("image");
    document.documentElement.dataset.shown = this.image.name;
  }

  // A box of the open image or slide becomes an image, which is opened.
  async cutField(box) {
    const source = this.image;
    if (!source) return;
    const field = await this.attempt(() => post(`${imagePath(source.id)}/fields`, { box }));
    if (!field) return;
    await this.attempt(() => this.load());
    if (this.current !== source.id) return; // the user opened another image meanwhile
    await this.attempt(() => this.open(field.id));
    this.changed("cut");
    say(`${field.name} is an image of the folder now.`);
  }

  // Fields that were cut from the open image: boxes x0, y0, x1, y1.
  get fields() {
    const { image } = this;
    return this.state.images.filter(({ source }) => source && source.id === image?.id).map(({ source, width, height }) => {
      const [x, y] = source.corner;
      return [x, y, x + width * image.step, y + height * image.step];
    });
  }

  // --- Selection ---

  select(ids) {
    this.viewer.setSelected([...ids].filter((id) => this.nuclei?.all.has(id)));
    this.changed("selection");
  }

  get selected() {
    return this.viewer.selected;
  }

  toggle(id) {
    const ids = new Set(this.selected);
    if (!ids.delete(id)) ids.add(id);
    this.select(ids);
  }

  // The next nucleus in order of need, in the middle of the picture.
  stepNucleus(by) {
    if (!this.nuclei) return;
    const ids = this.nuclei.byNeed(), at = ids.indexOf([...this.selected][0]);
    if (!ids.length) return;
    const id = ids[at < 0 ? (by > 0 ? 0 : ids.length - 1) : (at + by + ids.length) % ids.length];
    this.select([id]);
    this.viewer.lookAt(this.nuclei.all.get(id).box);
  }

  // --- Edits ---

  // Returns a promise that ends when the edit is answered, or cannot be sent for now.
  edit(edit) {
    if (!this.canEdit) {
      say(this.image?.slide ? "A slide is not corrected itself: cut a field from it." : "This image has no nuclei yet: wait until it is predicted.", true);
      return Promise.resolve();
    }
    this.hide(edit);
    return this.unsent.add(this.current, this.nuclei.revision, edit);
  }

  // A deleted nucleus vanishes at once.
  hide({ kind, ids }) {
    if (kind !== "delete") return;
    const boxes = ids.flatMap((id) => (this.nuclei.all.has(id) ? [this.nuclei.all.get(id).box] : []));
    for (const id of ids) this.nuclei.hidden.add(id);
    this.viewer.spoil(boxes);
    this.select([...this.selected].filter((id) => !ids.includes(id)));
  }

  unhide({ kind, ids }) {
    if (kind !== "delete" || !this.nuclei) return;
    for (const id of ids) this.nuclei.hidden.delete(id);
    this.viewer.spoil(ids.flatMap((id) => (this.nuclei.all.has(id) ? [this.nuclei.all.get(id).box] : [])));
  }

  takeOver(image, delta) {
    const { undo, redo, state, note, revision } = delta;
    if (image === this.current && this.nuclei) {
      const boxes = this.nuclei.apply(delta);
      if (boxes) this.viewer.spoil(boxes);
      this.select(this.selected);
      this.replaceImage({ id: image, undo, redo, state, note, revision, nuclei: this.nuclei.all.size });
    } else {
      this.replaceImage({ id: image, undo, redo, state, note, revision });
    }
  }

  answered({ image, edit }, delta) {
    this.takeOver(image, delta);
    if (image !== this.current) return;
    if (SELECTS_RESULT.has(edit.kind)) this.select([...(edit.ids ?? [edit.id]), ...delta.made]);
    if (delta.message) say(delta.message);
    else if (edit.kind === "propose") say(`${countNuclei(delta.made.length)} proposed in this region. Ctrl + Z takes them back.`);
    else say("");
    this.lastKind = edit.kind;
  }

  refused({ image, edit }, error) {
    if (image === this.current) this.unhide(edit);
    say(error.message, true);
  }

  async conflict({ image, edit }, { delta, message }) {
    if (image === this.current) this.unhide(edit);
    if (delta) this.takeOver(image, delta);
    if (image === this.current && delta) this.select(delta.changed.map(({ id }) => id));
    const repeats = await this.askToRepeat(message);
    if (!repeats || image !== this.current) return;
    const ids = edit.ids?.filter((id) => this.nuclei.all.has(id));
    if (ids && !ids.length) say("The other browser removed these nuclei: there is nothing to repeat.", true);
    else this.edit({ ...withoutOrigin(edit), ...(ids ? { ids } : {}) });
  }

  // Another browser edited an image.
  async catchUp(image, revision, isAnew = false) {
    if (isAnew && image === this.current) { // it was predicted
      await this.load();
      await this.loadNuclei();
      return;
    }
    if (image !== this.current || !this.nuclei || revision <= this.nuclei.revision || this.unsent.of(image).length) return;
    const delta = await get(`${imagePath(image)}/nuclei?since=${this.nuclei.revision}`);
    if (image !== this.current || delta.revision <= this.nuclei.revision) return;
    this.takeOver(image, delta);
    say("This image was changed in another browser: the picture shows it.");
  }

  async accept(accepted) {
    const { current } = this;
    if (!this.canEdit) return;
    await this.unsent.send();
    if (this.unsent.of(current).length) {
      say("Some corrections of this image are not yet on disk. Accept it when the program answers again.", true);
      return;
    }
    const image = await this.attempt(() => post(`${imagePath(current)}/accept`, { accepted }));
    if (!image) return;
    this.replaceImage(image);
    say(accepted ? `${image.name} is accepted: its labels are in the folder gt.` : `${image.name} is open for corrections again.`);
  }

  // Do what needs the program; what it refuses is said.
  async attempt(act) {
    try {
      return await act();
    } catch (error) {
      if (error instanceof Refused) say(error.message, true);
      else say("The program does not answer. Try again when the connection is back.", true);
      return null;
    }
  }
}

function withoutOrigin({ base: _base, key: _key, ...edit }) {
  return edit;
}
