// How nuclei look: outlines with a dark halo, masks, and single pixels where the picture is shown much smaller than it is.

// As nuclei/results/pictures.py has them; a test compares.
const OUTLINE = "rgb(60, 255, 0)";
export const HIGHLIGHT = "#ffe100"; // selected nuclei; with a black border it is visible on purple, grey and black
export const ID_COLOURS = [
  "rgb(255, 221, 0)", "rgb(0, 229, 118)", "rgb(0, 214, 255)", "rgb(255, 112, 67)", "rgb(178, 255, 89)", "rgb(255, 64, 129)",
];
export const CONFIDENCE_COLOURS = [[0, "rgb(255, 0, 60)"], [0.5, "rgb(255, 255, 255)"], [0.8, OUTLINE]];

const HALO = "rgba(0, 0, 0, 0.6)";
const HALO_PIXEL = 0x99000000; // the same, as a pixel
const PIXELS_BELOW = 0.5; // screen pixels for one of the image; below it, outlines are set pixel by pixel
const HALO_FROM = 0.2; // below this scale nuclei are so small that a halo would hide them

const confidenceColour = ({ confidence }) =>
  CONFIDENCE_COLOURS.findLast(([least]) => (confidence ?? 1) >= least)[1];

// The nuclei of each colour.
function byColour(nuclei, mode) {
  if (mode === "overlay") return [[OUTLINE, nuclei]];
  const groups = new Map();
  for (const nucleus of nuclei) {
    const colour = mode === "masks" ? ID_COLOURS[nucleus.id % ID_COLOURS.length] : confidenceColour(nucleus);
    if (groups.has(colour)) groups.get(colour).push(nucleus);
    else groups.set(colour, [nucleus]);
  }
  return [...groups];
}

function trace(pen, nuclei) {
  pen.beginPath();
  for (const { rings } of nuclei) {
    for (const ring of rings) {
      pen.moveTo(ring[0], ring[1]);
      for (let i = 2; i < ring.length; i += 2) pen.lineTo(ring[i], ring[i + 1]);
      pen.closePath();
    }
  }
}

const numbersOf = (colour) => colour.match(/\d+/g).map(Number);

// Set the pixels along a ring to a value, or, for a halo, those beside it that are still empty. Of corners that lie within one
// pixel of the screen only some count.
function setRing(pixels, width, height, ring, { scale, left, top }, value, isHalo) {
  const stride = 2 * Math.max(1, Math.min(Math.floor(0.8 / scale), ring.length >> 4));
  let x0 = ring[0] * scale - left, y0 = ring[1] * scale - top;
  for (let i = stride; i < ring.length + stride; i += stride) {
    const from = i < ring.length ? i : 0; // back to the first corner
    const x1 = ring[from] * scale - left, y1 = ring[from + 1] * scale - top, dx = x1 - x0, dy = y1 - y0;
    const steps = Math.max(1, Math.ceil(Math.max(Math.abs(dx), Math.abs(dy))));
    for (let step = 0; step < steps; step += 1) {
      const x = Math.floor(x0 + (dx * step) / steps), y = Math.floor(y0 + (dy * step) / steps), at = y * width + x;
      if (x < 1 || y < 1 || x >= width - 1 || y >= height - 1) {
        if (!isHalo && x >= 0 && y >= 0 && x < width && y < height) pixels[at] = value;
      } else if (isHalo) {
        if (!pixels[at - 1]) pixels[at - 1] = value;
        if (!pixels[at + 1]) pixels[at + 1] = value;
        if (!pixels[at - width]) pixels[at - width] = value;
        if (!pixels[at + width]) pixels[at + width] = value;
      } else pixels[at] = value;
    }
    x0 = x1;
    y0 = y1;
  }
}

// Outlines as single pixels: many thousand nuclei in some milliseconds.
function setPixels(pen, nuclei, mode, place) {
  const { width, height } = pen.canvas, picture = new ImageData(width, height), pixels = new Uint32Array(picture.data.buffer);
  if (place.scale >= HALO_FROM) {
    for (const { rings } of nuclei) for (const ring of rings) setRing(pixels, width, height, ring, place, HALO_PIXEL, true);
  }
  for (const [colour, members] of byColour(nuclei, mode)) {
    const [red, green, blue] = numbersOf(colour), value = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    for (const { rings } of members) for (const ring of rings) setRing(pixels, width, height, ring, place, value, false);
  }
  pen.putImageData(picture, 0, 0);
}

// Draw nuclei on a canvas whose left upper pixel is (left, top) of the picture enlarged by `scale`.
export function drawNuclei(pen, nuclei, mode, place) {
  const { scale, left, top, ratio } = place;
  if (mode !== "masks" && scale < PIXELS_BELOW) {
    setPixels(pen, nuclei, mode, place);
    return;
  }
  pen.setTransform(scale, 0, 0, scale, -left, -top);
  if (mode === "masks") {
    for (const [colour, members] of byColour(nuclei, mode)) {
      trace(pen, members);
      pen.fillStyle = colour;
      pen.fill("evenodd");
    }
    return;
  }
  const thin = Math.min(2, 0.9 + (scale / ratio) * 0.35);
  pen.lineJoin = "bevel";
  for (const [colour, thick] of [[HALO, thin + 1.6], [null, thin]]) { // the halo is seen on white
    pen.lineWidth = (thick * ratio) / scale;
    for (const [own, members] of byColour(nuclei, mode)) {
      trace(pen, members);
      pen.strokeStyle = colour ?? own;
      pen.stroke();
    }
  }
}

// Selected nuclei: filled a little, and framed in yellow on black.
export function drawSelected(pen, nuclei, _mode, { scale, left, top, ratio }) {
  pen.setTransform(scale, 0, 0, scale, -left, -top);
  pen.lineJoin = "bevel";
  trace(pen, nuclei);
  pen.fillStyle = "rgba(255, 225, 0, 0.2)";
  pen.fill("evenodd");
  for (const [colour, thick] of [["#000", 4.5], [HIGHLIGHT, 2.2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = (thick * ratio) / scale;
    pen.stroke();
  }
}
