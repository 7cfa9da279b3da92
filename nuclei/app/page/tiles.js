// The pixels of one image, fetched as tiles of the level of detail that the screen shows.

import { imagePath } from "./api.js";

const TILE_PX = 512;
const MAX_TILES = 160; // of about 1 MB each
const MAX_REQUESTS = 6;

export class Tiles {
  constructor(image, onArrival) {
    this.image = image;
    this.onArrival = onArrival;
    this.top = Math.max(0, Math.ceil(Math.log2(Math.max(image.width, image.height) / TILE_PX))); // the level of one tile
    this.tiles = new Map(); // "level/column/row" -> ImageBitmap; the longest unused first
    this.running = new Map(); // the same -> AbortController
    this.failed = new Set();
    this.wanted = [];
  }

  close() {
    for (const controller of this.running.values()) controller.abort();
    this.wanted = [];
    for (const bitmap of this.tiles.values()) bitmap.close();
    this.tiles.clear();
    this.isClosed = true;
  }

  // The level that is just finer than the screen. While the user zooms, a level stays in use as long as it is near.
  levelFor(scale, isZooming) {
    const level = Math.min(this.top, Math.max(0, Math.floor(-Math.log2(scale) + 0.2)));
    if (!isZooming || this.level === undefined || level < this.level - 2 || level > this.level + 1) this.level = level;
    return this.level;
  }

  *inSight(level, [x0, y0, x1, y1]) {
    const side = TILE_PX * 2 ** level, { width, height } = this.image;
    for (let row = Math.max(0, Math.floor(y0 / side)); row * side < Math.min(y1, height); row += 1) {
      for (let column = Math.max(0, Math.floor(x0 / side)); column * side < Math.min(x1, width); column += 1) yield [column, row];
    }
  }

  // Draw what is here, coarse below fine, and ask for what is missing.
  paint(pen, { scale, left, top, sight, ratio, isZooming, isMoving }) {
    const level = this.levelFor(scale, isZooming);
    pen.imageSmoothingEnabled = scale / ratio < 4;
    pen.imageSmoothingQuality = isMoving ? "low" : "high"; // "high" takes several times longer
    this.wanted = [];
    const missing = [];
    for (const [column, row] of this.inSight(level, sight)) {
      const key = `${level}/${column}/${row}`;
      if (!this.tiles.has(key)) missing.push(key);
    }
    if (missing.length) {
      for (let coarse = this.top; coarse > level; coarse -= 1) {
        for (const [column, row] of this.inSight(coarse, sight)) this.paintTile(pen, `${coarse}/${column}/${row}`, scale, left, top);
      }
      this.wanted.push(`${this.top}/0/0`); // a coarse picture at once
    }
    for (const [column, row] of this.inSight(level, sight)) this.paintTile(pen, `${level}/${column}/${row}`, scale, left, top);
    this.wanted.push(...missing);
    for (const [key, controller] of this.running) if (!this.wanted.includes(key)) controller.abort();
    this.fetchNext();
  }

  paintTile(pen, key, scale, left, top) {
    const bitmap = this.tiles.get(key);
    if (!bitmap) return;
    this.tiles.delete(key); // to the end of the map
    this.tiles.set(key, bitmap);
    const [level, column, row] = key.split("/").map(Number), side = TILE_PX * 2 ** level;
    const x0 = Math.round(column * side * scale - left), y0 = Math.round(row * side * scale - top);
    const x1 = Math.round(Math.min(this.image.width, (column + 1) * side) * scale - left);
    const y1 = Math.round(Math.min(this.image.height, (row + 1) * side) * scale - top);
    pen.drawImage(bitmap, x0, y0, x1 - x0, y1 - y0);
  }

  fetchNext() {
    for (const key of this.wanted) {
      if (this.running.size >= MAX_REQUESTS) return;
      if (!this.tiles.has(key) && !this.running.has(key) && !this.failed.has(key)) this.fetchTile(key);
    }
  }

  async fetchTile(key) {
    const controller = new AbortController();
    this.running.set(key, controller);
    try {
      const response = await fetch(`${imagePath(this.image.id)}/tiles/${key}.jpg`, { signal: controller.signal });
      if (!response.ok) throw new Error(`status ${response.status}`);
      const bitmap = await createImageBitmap(await response.blob());
      if (this.isClosed) { bitmap.close(); return; }
      this.tiles.set(key, bitmap);
      while (this.tiles.size > MAX_TILES) {
        const [oldest, unused] = this.tiles.entries().next().value;
        this.tiles.delete(oldest);
        unused.close();
      }
    } catch {
      if (!controller.signal.aborted) this.failed.add(key); // asked for again by `retry`
    } finally {
      this.running.delete(key);
      this.onArrival();
    }
  }

  // After a lost connection.
  retry() {
    this.failed.clear();
    this.onArrival();
  }
}
