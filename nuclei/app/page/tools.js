// Tools of the mouse, the finger and the pen: what a click or a stroke becomes.
//
// A tool has a `shape` that dragging draws (none: dragging moves the picture) and acts on its points, in pixels of the image.

import { number, say } from "./words.js";

const FIELD_PX = 512; // side of the field around a click
const MIN_FIELD_PX = 32, MAX_FIELD_PX = 4096; // as the program has them

const pairs = (points) => Array.from({ length: points.length / 2 }, (_, i) => [points[2 * i], points[2 * i + 1]]);

function boxOf(points) {
  const xs = pairs(points).map(([x]) => x), ys = pairs(points).map(([, y]) => y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

function clickSelects(session, point, adds) {
  const id = session.nuclei?.at(point) ?? 0;
  if (adds && id) session.toggle(id);
  else if (!adds) session.select(id ? [id] : []);
}

function selectInBox(session, points, adds) {
  const box = boxOf(points), ids = adds ? [...session.selected] : [];
  for (const { id, box: [x0, y0, x1, y1] } of session.nuclei?.within(box) ?? []) {
    const x = (x0 + x1) / 2, y = (y0 + y1) / 2;
    if (x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3]) ids.push(id);
  }
  session.select(ids);
}

// The nucleus for a stroke of the brush: the one below its start, else the only selected one.
function brushed(session, points) {
  const only = session.selected.size === 1 ? [...session.selected][0] : 0;
  return session.nuclei.at(points) || only || null;
}

// A field of a usual size around a point; `step` is px of the image for one px of the field.
function fieldAround([x, y], { width, height, step }) {
  const wide = Math.min(FIELD_PX * step, width), high = Math.min(FIELD_PX * step, height);
  const left = Math.round(Math.min(width - wide, Math.max(0, x - wide / 2))), top = Math.round(Math.min(height - high, Math.max(0, y - high / 2)));
  return [left, top, left + wide, top + high];
}

// The size of a field while it is drawn, in its own pixels, or why it cannot be cut.
export function sizeOfField(points, { width, height, step }) {
  const [x0, y0, x1, y1] = boxOf(points), clip = (value, end) => Math.min(end, Math.max(0, value));
  const wide = Math.round((clip(x1, width) - clip(x0, width)) / step), high = Math.round((clip(y1, height) - clip(y0, height)) / step);
  const fault = Math.max(wide, high) > MAX_FIELD_PX ? `, at most ${number(MAX_FIELD_PX)}` : Math.min(wide, high) < MIN_FIELD_PX ? `, at least ${MIN_FIELD_PX}` : "";
  return `${number(wide)} × ${number(high)} px${fault}`;
}

export const TOOLS = {
  select: {
    shape: null,
    hint: "Click a nucleus to select it, Shift + click to add it, Shift + drag for a box. Drag moves the picture.",
    touchHint: "Tap a nucleus to select it; with Box, taps add more. One finger moves the picture, two fingers zoom.",
    click: clickSelects,
    drawn: selectInBox, // with Shift
  },
  box: {
    shape: "box",
    hint: "Drag a box: the nuclei in it are selected. A click adds one nucleus, or takes it out.",
    click: (session, point) => clickSelects(session, point, true),
    drawn: selectInBox,
  },
  split: {
    shape: "line",
    hint: "Drag a line across a nucleus: it is split there.",
    drawn(session, points) {
      const id = session.nuclei?.mostCrossed(points);
      if (id) session.edit({ kind: "split", id, stroke: points });
      else say("The line crosses no nucleus.", true);
    },
  },
  points: {
    shape: null,
    hint: "Click the middle of one nucleus, then the middle of the other: the network proposes the border.",
    first: null,
    click(session, point) {
      if (!this.first) {
        if (session.nuclei?.at(point)) this.first = point;
        else say("There is no nucleus at this point.", true);
        return;
      }
      const id = session.nuclei.at(this.first);
      if (id && session.nuclei.at(point) === id) session.edit({ kind: "split", id, points: [...this.first, ...point] });
      else say("Both points must lie in the same nucleus.", true);
      this.first = null;
    },
  },
  draw: {
    shape: "loop",
    hint: "Drag around a nucleus: its outline becomes a new one. Pixels of other nuclei stay theirs.",
    drawn(session, points) {
      if (points.length >= 6) session.edit({ kind: "draw", outline: points });
    },
  },
  brush: {
    shape: "brush",
    hint: "Drag from inside a nucleus to add to it. On background: adds to the selected nucleus, or makes a new one.",
    drawn(session, points, _adds, options) {
      if (session.nuclei) session.edit({ kind: "brush", id: brushed(session, points), stroke: points, radius: options.radius, erase: false });
    },
  },
  erase: {
    shape: "erase",
    hint: "Drag to take away from the selected nucleus, or from the one where the stroke starts.",
    drawn(session, points, _adds, options) {
      const only = session.selected.size === 1 ? [...session.selected][0] : 0;
      const id = only || session.nuclei?.at(points) || session.nuclei?.mostCrossed(points);
      if (id) session.edit({ kind: "brush", id, stroke: points, radius: options.radius, erase: true });
      else say("There is no nucleus to erase from: start inside one.", true);
    },
  },
  field: {
    shape: "box",
    hint: `Drag a box, or click for ${FIELD_PX} × ${FIELD_PX} px: this part becomes an image of its own, to be corrected whole.`,
    touchHint: `Drag a box, or tap for ${FIELD_PX} × ${FIELD_PX} px: this part becomes an image of its own. Two fingers move and zoom.`,
    click: (session, point) => session.cutField(fieldAround(point, session.image)),
    drawn: (session, points) => session.cutField(boxOf(points)),
  },
  propose: {
    shape: "box",
    hint: "Drag a box: its nuclei are predicted anew with the threshold and the scale of the sliders.",
    region: null,
    drawn(session, points, _adds, options) {
      this.region = boxOf(points);
      return this.propose(session, options);
    },
    propose(session, { threshold, scale }) {
      this.image = session.current;
      return session.edit({ kind: "propose", box: this.region, threshold, scale });
    },
    // The sliders moved: the last proposal makes room for one with the new values.
    async again(session, options) {
      if (!this.region || this.image !== session.current) return;
      this.wanted = options;
      if (this.isBusy) return;
      this.isBusy = true;
      const { image } = this;
      const isOpen = () => session.current === image;
      try {
        while (this.wanted && isOpen()) {
          const latest = this.wanted;
          this.wanted = null;
          if (session.lastKind === "propose") await session.edit({ kind: "undo" });
          if (isOpen()) await this.propose(session, latest);
        }
      } finally {
        this.isBusy = false;
      }
      if (this.wanted) await this.again(session, this.wanted); // of a region on another image
    },
  },
};
