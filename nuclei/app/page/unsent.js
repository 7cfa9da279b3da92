// Edits on their way to the program: sent one after the other, kept until each is on disk there.
// They lie in the browser's storage too, so that a closed tab does not lose them: each tab has its own list there and holds
// a lock of the same name. The list of a tab that is gone has no lock, and another tab takes it over.

import { imagePath, post, Refused, Unreachable } from "./api.js";

const STORED = "nuclei-unsent-edits ";
const RETRY_MS = [500, 1000, 2000, 4000];

const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export class Unsent {
  // on: {answered(item, delta), refused(item, error), conflict(item, answer) -> Promise, changed()}
  constructor(on) {
    this.on = on;
    this.folder = null; // key of the folder that is open
    this.trouble = null; // the error of the last try, while nothing gets through
    this.failures = 0;
    this.sending = null; // the promise of `send` while it runs
    this.kept = []; // also edits of a folder that was open before
    this.name = STORED + randomKey();
    navigator.locks?.request(this.name, () => new Promise(() => {})); // until the tab is closed
  }

  // Take over what tabs that were closed could not send.
  async adopt() {
    for (const name of Object.keys(localStorage).filter((key) => key.startsWith(STORED) && key !== this.name)) {
      await navigator.locks?.request(name, { ifAvailable: true }, (lock) => {
        if (!lock) return; // that tab is open
        const stored = JSON.parse(localStorage.getItem(name));
        const others = stored.filter((item) => (item.folder ?? this.folder) !== this.folder); // they wait until their folder is open
        for (const item of stored) if (!others.includes(item)) this.kept.push({ ...item, folder: this.folder });
        if (others.length) localStorage.setItem(name, JSON.stringify(others));
        else localStorage.removeItem(name);
        this.store();
      });
    }
    return this.send();
  }

  // The edits of the folder that is open.
  get items() {
    return this.kept.filter((item) => item.folder === this.folder);
  }

  of(image) {
    return this.items.filter((item) => item.image === image);
  }

  // The key lets the program know an edit that it has already, when its answer was lost on the way.
  add(image, base, edit) {
    this.kept.push({ folder: this.folder, image, edit: { base, key: randomKey(), ...edit } });
    this.store();
    return this.send();
  }

  store() {
    try {
      if (this.kept.length) localStorage.setItem(this.name, JSON.stringify(this.kept));
      else localStorage.removeItem(this.name);
    } catch {
      // no storage in this browser: the edits are still in memory
    }
    this.on.changed();
  }

  drop(item) {
    this.kept = this.kept.filter((other) => other !== item);
    this.store();
  }

  discard() {
    this.kept = this.kept.filter((item) => item.folder !== this.folder);
    this.trouble = null;
    this.store();
  }

  // Ends when nothing is left to send, or when nothing gets through.
  send() {
    this.sending ??= this.sendAll().finally(() => { this.sending = null; });
    return this.sending;
  }

  async sendAll() {
    clearTimeout(this.timer);
    try {
      while (this.items.length) await this.sendFirst();
      this.failures = 0;
    } catch (error) {
      if (!(error instanceof Unreachable || error instanceof Refused)) throw error;
      this.trouble = error;
      this.timer = setTimeout(() => this.send(), RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)]);
      this.failures += 1;
      this.on.changed();
    }
  }

  async sendFirst() {
    const item = this.items[0];
    let delta;
    try {
      delta = await post(`${imagePath(item.image)}/edits`, item.edit, { "X-Folder": item.folder });
    } catch (error) {
      if (!(error instanceof Refused) || error.status === 401 || error.status >= 500) throw error; // try again later
      this.trouble = null;
      this.drop(item);
      if (error.status === 409) await this.on.conflict(item, error.answer);
      else this.on.refused(item, error);
      return;
    }
    this.trouble = null;
    // Later edits know of this one. Of an edit that another browser made in between they do not: theirs must be other nuclei.
    const isNext = delta.revision === item.edit.base + 1;
    const own = new Set([...(item.edit.ids ?? []), ...delta.made]);
    const foreign = new Set([...delta.changed.map(({ id }) => id), ...delta.removed].filter((id) => !own.has(id)));
    for (const { edit } of this.of(item.image)) {
      const isApart = edit.ids?.length && !edit.ids.some((id) => foreign.has(id));
      if (isNext || isApart) edit.base = Math.max(edit.base, delta.revision);
    }
    this.on.answered(item, delta);
    this.drop(item);
  }
}
