// The picture: what part of the image is shown, and its frames.

import { drawNuclei, drawSelected, HIGHLIGHT } from "./drawing.js";
import { Outlines } from "./outlines.js";
import { Tiles } from "./tiles.js";

const MAX_SCALE = 40; // CSS pixels for one pixel of the image
const FRAME_MS = 8; // of a frame may go into drawing outlines
const REST_MS = 120; // after this time without zooming or moving, all is drawn sharp

export class Viewer {
  // canvas: where to draw. nothing is shown before `open`.
  constructor(canvas) {
    this.canvas = canvas;
    this.image = null; // {id, width, height, mpp}
    this.nuclei = null;
    this.tiles = null;
    this.x = this.y = 0; // the pixel of the image in the middle
    this.scale = 1;
    this.mode = "overlay"; // or image, masks, confidence
    this.opacity = 1;
    this.selected = new Set();
    this.shapes = () => []; // strokes and boxes to draw above: {kind, points, radius, closed}
    this.hasCursor = false; // whether keys were used last: the middle of the picture is marked
    this.isWaiting = false;
    this.zoomedAt = this.movedAt = -Infinity; // in ms, as performance.now()
    this.zoomed = this.moved = false; // since the last frame
    this.outlines = new Outlines((box) => this.nuclei?.within(box) ?? [], drawNuclei);
    this.marks = new Outlines((box) => [...this.nuclei.within(box)].filter(({ id }) => this.selected.has(id)), drawSelected);
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  open(image, nuclei) {
    this.tiles?.close();
    this.image = image;
    this.nuclei = nuclei;
    this.tiles = new Tiles(image, () => this.redraw());
    this.outlines.clear();
    this.marks.clear();
    this.showWhole();
  }

  redraw() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.frame();
    });
  }

  // Nuclei in these boxes of the image changed.
  spoil(boxes) {
    this.outlines.spoil(boxes);
    this.marks.spoil(boxes);
    this.redraw();
  }

  setSelected(ids) {
    const boxes = [...this.selected, ...ids].flatMap((id) => this.nuclei?.all.get(id)?.box ? [this.nuclei.all.get(id).box] : []);
    this.selected = new Set(ids);
    this.marks.spoil(boxes);
    this.redraw();
  }

  setMode(mode) {
    this.mode = mode;
    this.outlines.clear();
    this.redraw();
  }

  // --- What part is shown ---

  fitting() {
    const { clientWidth, clientHeight } = this.canvas;
    return Math.min(MAX_SCALE, clientWidth / this.image.width, clientHeight / this.image.height) || 1;
  }

  isWhole() {
    return !this.image || this.scale <= this.fitting() * 1.001;
  }

  showWhole() {
    if (!this.image) return;
    this.scale = this.fitting();
    this.x = this.image.width / 2;
    this.y = this.image.height / 2;
    this.settle();
  }

  resized() {
    if (!this.image) return;
    if (this.wasWhole) this.showWhole();
    this.settle();
  }

  settle() {
    const clip = (value, end) => Math.min(end, Math.max(0, value));
    this.scale = Math.min(MAX_SCALE, Math.max(this.fitting(), this.scale));
    this.x = clip(this.x, this.image.width);
    this.y = clip(this.y, this.image.height);
    this.wasWhole = this.isWhole();
    this.movedAt = performance.now();
    this.moved = true;
    this.redraw();
  }

  // Zoom about a point of the canvas, in CSS pixels from its middle.
  zoom(factor, dx = 0, dy = 0) {
    if (!this.image) return;
    const before = this.scale, wasWhole = this.isWhole();
    this.scale = Math.min(MAX_SCALE, Math.max(this.fitting(), before * factor));
    this.x += dx / before - dx / this.scale;
    this.y += dy / before - dy / this.scale;
    if (factor < 1 && this.isWhole() && !wasWhole) { this.x = this.image.width / 2; this.y = this.image.height / 2; }
    this.zoomedAt = performance.now();
    this.zoomed = true;
    this.settle();
  }

  // Move by CSS pixels.
  move(dx, dy) {
    if (!this.image) return;
    this.x += dx / this.scale;
    this.y += dy / this.scale;
    this.settle();
  }

  // Show a box of the image: moved to its middle, and enlarged if it would be small.
  lookAt([x0, y0, x1, y1]) {
    this.x = (x0 + x1) / 2;
    this.y = (y0 + y1) / 2;
    const side = Math.max(x1 - x0, y1 - y0, 1);
    this.scale = Math.max(this.scale, Math.min(5, 50 / side));
    this.settle();
  }

  // The point of the image below a mouse or a finger.
  pointAt(event) {
    const [dx, dy] = this.fromMiddle(event);
    return [this.x + dx / this.scale, this.y + dy / this.scale];
  }

  fromMiddle(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  }

  // --- Frames ---

  // Device pixels: the scale, and where the canvas lies on the enlarged picture. Whole pixels, so that nothing blurs.
  place() {
    const ratio = window.devicePixelRatio || 1, { canvas } = this;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    const scale = this.scale * ratio;
    const left = Math.round(this.x * scale - width / 2), top = Math.round(this.y * scale - height / 2);
    const sight = [left / scale, top / scale, (left + width) / scale, (top + height) / scale];
    return { ratio, width, height, scale, left, top, sight };
  }

  frame() {
    const { canvas } = this, pen = canvas.getContext("2d"), place = this.place();
    const { ratio, width, height, scale, left, top } = place;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!this.image || !width) return;
    const now = performance.now(), isZooming = this.zoomed || now - this.zoomedAt < REST_MS, isMoving = this.moved || now - this.movedAt < REST_MS;
    this.zoomed = this.moved = false; // a slow machine rests no sooner than a frame later
    this.tiles.paint(pen, { ...place, isZooming, isMoving });
    let isUnfinished = isMoving;
    const { image } = this;
    if (this.nuclei && this.mode !== "image") {
      const sight = [Math.max(0, place.sight[0]), Math.max(0, place.sight[1]), Math.min(image.width, place.sight[2]), Math.min(image.height, place.sight[3])];
      const cut = { ...place, sight, mode: this.mode, isZooming }, end = performance.now() + FRAME_MS;
      isUnfinished = this.outlines.prepare(cut, end) || isUnfinished;
      pen.globalAlpha = this.opacity * (this.mode === "masks" ? 0.55 : 1);
      this.outlines.paint(pen, cut);
      pen.globalAlpha = 1;
      if (this.selected.size) {
        isUnfinished = this.marks.prepare(cut, end) || isUnfinished;
        this.marks.paint(pen, cut);
      }
    }
    pen.setTransform(scale, 0, 0, scale, -left, -top);
    for (const shape of this.shapes()) drawShape(pen, shape, ratio / scale);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    if (this.hasCursor) drawCursor(pen, width, height, ratio);
    drawScaleBar(pen, height, scale, ratio, image.mpp);
    if (isUnfinished) this.redraw();
  }
}

// A stroke, a loop or a box that the user draws. One unit is a CSS pixel.
function drawShape(pen, { kind, points, radius, label }, unit) {
  pen.beginPath();
  if (kind === "box" || kind === "field") {
    const [x0, y0] = points, [x1, y1] = points.slice(-2);
    pen.rect(Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0));
  } else if (kind === "dots") {
    for (let i = 0; i < points.length; i += 2) {
      pen.moveTo(points[i] + 4 * unit, points[i + 1]);
      pen.arc(points[i], points[i + 1], 4 * unit, 0, 7);
    }
  } else if (kind === "circle") {
    pen.arc(points[0], points[1], radius, 0, 7);
  } else {
    pen.moveTo(points[0], points[1]);
    for (let i = 2; i < points.length; i += 2) pen.lineTo(points[i], points[i + 1]);
    if (kind === "loop") pen.closePath();
    if (points.length === 2) pen.lineTo(points[0], points[1]);
  }
  pen.lineJoin = pen.lineCap = "round";
  if (kind === "brush" || kind === "erase") {
    pen.lineWidth = 2 * radius;
    pen.strokeStyle = kind === "brush" ? "rgba(255, 225, 0, 0.4)" : "rgba(255, 80, 80, 0.45)";
    pen.stroke();
    return;
  }
  if (kind === "loop") {
    pen.fillStyle = "rgba(255, 225, 0, 0.15)";
    pen.fill();
  }
  if (kind === "box") pen.setLineDash([6 * unit, 4 * unit]);
  for (const [colour, thick] of [["#000", 4], [HIGHLIGHT, 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick * unit;
    pen.stroke();
  }
  pen.setLineDash([]);
  if (label) drawLabel(pen, label, points.slice(-2), unit);
}

// Words beside a point.
function drawLabel(pen, text, [x, y], unit) {
  pen.font = `${13 * unit}px system-ui, sans-serif`;
  const width = pen.measureText(text).width;
  pen.fillStyle = "rgba(0, 0, 0, .75)";
  pen.fillRect(x + 8 * unit, y + 8 * unit, width + 12 * unit, 22 * unit);
  pen.fillStyle = "#fff";
  pen.fillText(text, x + 14 * unit, y + 24 * unit);
}

// The place where keys act: a cross in the middle.
function drawCursor(pen, width, height, ratio) {
  const x = Math.round(width / 2) + 0.5, y = Math.round(height / 2) + 0.5, arm = 12 * ratio, gap = 3 * ratio;
  pen.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    pen.moveTo(x + dx * gap, y + dy * gap);
    pen.lineTo(x + dx * arm, y + dy * arm);
  }
  pen.lineCap = "butt";
  for (const [colour, thick] of [["#000", 4], ["#fff", 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick * ratio;
    pen.stroke();
  }
}

// mpp: µm for one pixel of the image, or nothing where it is not known.
function drawScaleBar(pen, height, scale, ratio, mpp) {
  const rough = ((90 * ratio) / scale) * (mpp ?? 1), power = 10 ** Math.floor(Math.log10(rough));
  const length = [5, 2, 1].map((step) => step * power).find((step) => step <= rough);
  const size = (length / (mpp ?? 1)) * scale, x = 14 * ratio, y = height - 14 * ratio;
  pen.font = `${12 * ratio}px system-ui, sans-serif`;
  const label = `${Number(length.toPrecision(1))} ${mpp ? "µm" : "px"}`;
  pen.fillStyle = "rgba(0, 0, 0, .6)";
  pen.fillRect(x - 7 * ratio, y - 24 * ratio, Math.max(size, pen.measureText(label).width) + 14 * ratio, 31 * ratio);
  pen.fillStyle = "#fff";
  pen.fillRect(x, y - 3 * ratio, size, 3 * ratio);
  pen.fillText(label, x, y - 9 * ratio);
}
