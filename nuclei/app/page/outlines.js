// Drawn nuclei, cached in squares: only squares that an edit touches are drawn anew.
//
// A square covers 256 · 2^level pixels of the image and is drawn for one scale. While the user zooms, the old squares are
// enlarged or reduced; when the scale rests, sharp ones are made within a time for each frame, and shown once all are ready.

const SQUARE_PX = 256; // least side of a square on the screen is half of it
const MAX_SQUARES = 160;
const MAX_STRETCH = 1.5; // octaves by which squares are enlarged or reduced while the user zooms
const MARGIN_PX = 4; // a line reaches so far beyond its nucleus, on the screen

class Sheet {
  constructor(scale) {
    this.scale = scale;
    this.side = SQUARE_PX * 2 ** Math.ceil(-Math.log2(scale)); // image px
    this.squares = new Map(); // "column,row" -> {canvas or null, isStale}; the longest unused first
  }

  *inSight([x0, y0, x1, y1]) {
    for (let row = Math.floor(y0 / this.side); row * this.side < y1; row += 1) {
      for (let column = Math.floor(x0 / this.side); column * this.side < x1; column += 1) yield [column, row];
    }
  }

  place(column, row) {
    const [left, top] = [column, row].map((at) => Math.floor(at * this.side * this.scale));
    const [right, bottom] = [column + 1, row + 1].map((at) => Math.floor(at * this.side * this.scale));
    return { left, top, width: right - left, height: bottom - top };
  }
}

export class Outlines {
  // nucleiIn(box) gives the nuclei to draw; draw(pen, nuclei, mode, place) draws them.
  constructor(nucleiIn, draw) {
    this.nucleiIn = nucleiIn;
    this.draw = draw;
    this.clear();
  }

  clear() {
    this.front = null;
    this.back = null;
  }

  // Nuclei in these boxes changed.
  spoil(boxes) {
    for (const sheet of [this.front, this.back]) {
      if (!sheet) continue;
      const margin = MARGIN_PX / sheet.scale;
      for (const [x0, y0, x1, y1] of boxes) {
        for (const [column, row] of sheet.inSight([x0 - margin, y0 - margin, x1 + margin, y1 + margin])) {
          const square = sheet.squares.get(`${column},${row}`);
          if (square) square.isStale = true;
        }
      }
    }
  }

  // Draw what is missing in sight until the time `end`. Returns whether something is left to do.
  prepare({ scale, ratio, sight, mode, isZooming }, end) {
    this.front ??= new Sheet(scale);
    const isNear = (sheet, octaves) => Math.abs(Math.log2(scale / sheet.scale)) < octaves;
    if (this.front.scale === scale || (isZooming && isNear(this.front, MAX_STRETCH))) this.back = null;
    else if (!this.back || (this.back.scale !== scale && !(isZooming && isNear(this.back, MAX_STRETCH / 2)))) this.back = new Sheet(scale);
    if (!this.back) return this.fill(this.front, ratio, sight, mode, end);
    if (this.fill(this.back, ratio, sight, mode, end)) return true;
    this.front = this.back;
    this.back = null;
    return this.front.scale !== scale;
  }

  fill(sheet, ratio, sight, mode, end) {
    for (const [column, row] of sheet.inSight(sight)) {
      const key = `${column},${row}`, square = sheet.squares.get(key);
      if (square && !square.isStale) {
        sheet.squares.delete(key); // to the end of the map
        sheet.squares.set(key, square);
        continue;
      }
      if (performance.now() > end) return true;
      sheet.squares.delete(key);
      sheet.squares.set(key, { canvas: this.drawn(sheet, column, row, ratio, mode, square?.canvas), isStale: false });
    }
    while (sheet.squares.size > MAX_SQUARES) sheet.squares.delete(sheet.squares.keys().next().value);
    return false;
  }

  drawn(sheet, column, row, ratio, mode, canvas) {
    const place = sheet.place(column, row), margin = MARGIN_PX / sheet.scale;
    const box = [column * sheet.side - margin, row * sheet.side - margin, (column + 1) * sheet.side + margin, (row + 1) * sheet.side + margin];
    const nuclei = [...this.nucleiIn(box)];
    if (!nuclei.length) return null;
    canvas ??= Object.assign(document.createElement("canvas"), { width: place.width, height: place.height });
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, place.width, place.height);
    this.draw(pen, nuclei, mode, { ...place, scale: sheet.scale, ratio });
    return canvas;
  }

  // Show the squares on the viewer's canvas, whose left upper pixel is (left, top) of the picture enlarged by `scale`.
  paint(pen, { scale, left, top, sight }) {
    const sheet = this.front;
    if (!sheet) return;
    const factor = scale / sheet.scale;
    pen.imageSmoothingEnabled = factor !== 1;
    for (const [column, row] of sheet.inSight(sight)) {
      const canvas = sheet.squares.get(`${column},${row}`)?.canvas;
      if (!canvas) continue;
      const place = sheet.place(column, row);
      pen.drawImage(canvas, place.left * factor - left, place.top * factor - top, place.width * factor, place.height * factor);
    }
  }
}
