// The nuclei of one image: their outlines, and where they are.

const BUCKET_PX = 128; // side of the squares of the index

// The outline along pixel edges, made smoother: through the middles of the edges, as the report draws it.
function throughMiddles(corners) {
  const points = [];
  for (let i = 0; i < corners.length; i += 2) {
    const x = corners[i], y = corners[i + 1];
    const dx = corners[(i + 2) % corners.length] - x, dy = corners[(i + 3) % corners.length] - y;
    const length = Math.abs(dx) + Math.abs(dy);
    if (dx && dy) return Float32Array.from(corners); // no outline along pixel edges: drawn as it is
    if (!length) continue;
    const ux = dx / length / 2, uy = dy / length / 2; // half a pixel along the edge
    points.push(x + ux, y + uy);
    if (length > 1) points.push(x + dx - ux, y + dy - uy);
  }
  return Float32Array.from(points);
}

// Whether a point is inside the rings: counts the sides that a ray to the right crosses.
function isInside(rings, x, y) {
  let inside = false;
  for (const ring of rings) {
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
      const y0 = ring[i + 1], y1 = ring[j + 1];
      if (y0 > y !== y1 > y && x < ((ring[j] - ring[i]) * (y - y0)) / (y1 - y0) + ring[i]) inside = !inside;
    }
  }
  return inside;
}

const overlap = (a, b) => a[0] <= b[2] && a[2] >= b[0] && a[1] <= b[3] && a[3] >= b[1];

export class Nuclei {
  constructor(image, answer) {
    this.image = image; // its id
    this.revision = answer.revision;
    this.all = new Map(); // id -> {id, box, rings, confidence}
    this.buckets = new Map(); // "column,row" -> set of nuclei
    this.hidden = new Set(); // ids whose deletion is on its way
    for (const nucleus of answer.nuclei) this.put(nucleus);
  }

  keysOf([x0, y0, x1, y1]) {
    const keys = [];
    for (let row = Math.floor(y0 / BUCKET_PX); row <= Math.floor(y1 / BUCKET_PX); row += 1) {
      for (let column = Math.floor(x0 / BUCKET_PX); column <= Math.floor(x1 / BUCKET_PX); column += 1) keys.push(`${column},${row}`);
    }
    return keys;
  }

  put({ id, box, outline, more = [], confidence = null }) { // more: outlines of further parts
    this.remove(id);
    const nucleus = { id, box, confidence, rings: [outline, ...more].map(throughMiddles) };
    this.all.set(id, nucleus);
    for (const key of this.keysOf(box)) {
      const bucket = this.buckets.get(key);
      if (bucket) bucket.add(nucleus);
      else this.buckets.set(key, new Set([nucleus]));
    }
  }

  remove(id) {
    const nucleus = this.all.get(id);
    if (!nucleus) return;
    this.all.delete(id);
    this.hidden.delete(id);
    for (const key of this.keysOf(nucleus.box)) this.buckets.get(key).delete(nucleus);
  }

  // Take over what changed. Returns the boxes to draw anew, or null if the delta is older than what is here.
  apply(delta) {
    if (delta.revision <= this.revision) return null;
    const boxes = [];
    const note = (id) => { if (this.all.has(id)) boxes.push(this.all.get(id).box); };
    for (const id of delta.removed) { note(id); this.remove(id); }
    for (const nucleus of delta.changed) { note(nucleus.id); this.put(nucleus); boxes.push(nucleus.box); }
    this.revision = delta.revision;
    return boxes;
  }

  // Nuclei that reach into a box, without those that are hidden.
  within(box) {
    const hits = new Set();
    for (const key of this.keysOf(box)) {
      for (const nucleus of this.buckets.get(key) ?? []) {
        if (overlap(nucleus.box, box) && !this.hidden.has(nucleus.id)) hits.add(nucleus);
      }
    }
    return hits;
  }

  // The id of the nucleus at a point, or 0.
  at([x, y]) {
    for (const nucleus of this.within([x, y, x, y])) if (isInside(nucleus.rings, x, y)) return nucleus.id;
    return 0;
  }

  // The nucleus of which a line crosses most, or 0.
  mostCrossed(line) {
    const counts = new Map();
    for (let i = 0; i + 3 < line.length; i += 2) {
      const dx = line[i + 2] - line[i], dy = line[i + 3] - line[i + 1], steps = Math.ceil(Math.hypot(dx, dy)) || 1;
      for (let step = 0; step < steps; step += 1) {
        const id = this.at([line[i] + (dx * step) / steps, line[i + 1] + (dy * step) / steps]);
        if (id) counts.set(id, (counts.get(id) ?? 0) + 1);
      }
    }
    return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 0;
  }

  // Ids from the least to the most certain nucleus; nuclei drawn by hand have no confidence and come last.
  byNeed() {
    const value = ({ confidence }) => confidence ?? 2;
    return [...this.all.values()].filter(({ id }) => !this.hidden.has(id)).sort((a, b) => value(a) - value(b) || a.id - b.id).map(({ id }) => id);
  }
}
