// Mouse, pen and fingers on the picture. Two fingers zoom and move with every tool.

const CLICK_PX = 4; // a press that moves less is a click
const STEP_PX = 2; // between points of a stroke, on the screen

export class Pointers {
  // on: {tool() -> the tool, click(point, adds), drawn(points, adds), hover(point or null)}
  constructor(viewer, on) {
    this.viewer = viewer;
    this.on = on;
    this.held = new Map(); // pointer id -> place in CSS pixels from the middle
    this.stroke = null; // {kind, points}
    this.isByKeys = false; // whether the stroke was begun by Enter
    this.hasSpace = false;
    const { canvas } = viewer;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => on.hover(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      viewer.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.06 : event.ctrlKey ? 0.01 : 0.002)), ...viewer.fromMiddle(event));
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => {
      if (!on.tool().shape && on.tool().first === undefined) viewer.zoom(2, ...viewer.fromMiddle(event));
    });
  }

  down(event) {
    if (!this.viewer.image) return;
    this.viewer.hasCursor = false;
    this.viewer.canvas.setPointerCapture(event.pointerId);
    this.held.set(event.pointerId, this.viewer.fromMiddle(event));
    if (this.held.size > 1) {
      this.cancel();
      this.moves = true;
      this.distance = Infinity;
      return;
    }
    this.distance = 0;
    this.adds = event.shiftKey;
    const { shape } = this.on.tool();
    this.moves = event.button !== 0 || this.hasSpace || !(shape || event.shiftKey);
    this.button = event.button;
    this.startShape = this.moves ? null : (shape ?? "box");
    this.start = this.viewer.pointAt(event);
    if (this.startShape && shape && shape !== "box") this.begin(this.start);
  }

  begin(point) {
    this.stroke = { kind: this.startShape, points: [...point] };
    this.viewer.redraw();
  }

  moved(event) {
    if (!this.held.has(event.pointerId)) {
      this.on.hover(this.viewer.image ? this.viewer.pointAt(event) : null);
      return;
    }
    const [x, y] = this.viewer.fromMiddle(event), [oldX, oldY] = this.held.get(event.pointerId);
    this.distance += Math.hypot(x - oldX, y - oldY);
    if (this.held.size === 2) this.pinch(event.pointerId, [x, y], [oldX, oldY]);
    else if (this.moves) {
      if (this.distance > CLICK_PX) {
        this.viewer.canvas.classList.add("moving");
        this.viewer.move(oldX - x, oldY - y);
      }
    } else if (this.stroke || this.distance > CLICK_PX) {
      if (!this.stroke) this.begin(this.start);
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) this.extend(this.viewer.pointAt(one));
      this.on.hover(this.viewer.pointAt(event));
    }
    this.held.set(event.pointerId, [x, y]);
  }

  pinch(pointer, [x, y], [oldX, oldY]) {
    const [otherX, otherY] = [...this.held].find(([id]) => id !== pointer)[1];
    const before = Math.hypot(oldX - otherX, oldY - otherY), after = Math.hypot(x - otherX, y - otherY);
    this.viewer.move((oldX - x) / 2, (oldY - y) / 2);
    if (before > 0) this.viewer.zoom(after / before, (x + otherX) / 2, (y + otherY) / 2);
  }

  extend(point) {
    const { points } = this.stroke, apart = Math.hypot(point[0] - points.at(-2), point[1] - points.at(-1));
    if (apart * this.viewer.scale >= STEP_PX) points.push(...point);
    this.viewer.redraw();
  }

  up(event) {
    if (!this.held.delete(event.pointerId)) return;
    this.viewer.canvas.classList.remove("moving");
    const isDone = event.type === "pointerup";
    if (this.stroke) {
      if (isDone && this.held.size === 0) this.finish();
      else this.cancel();
    } else if (isDone && this.distance <= CLICK_PX && this.button === 0 && !this.hasSpace) {
      this.on.click(this.viewer.pointAt(event), event.shiftKey);
    }
  }

  finish() {
    const { points, kind } = this.stroke;
    this.cancel();
    const isTiny = points.length < 4 && kind !== "brush" && kind !== "erase";
    if (isTiny) this.on.click(points, this.adds);
    else this.on.drawn(points.map((value) => Math.round(value * 100) / 100), this.adds);
  }

  // Returns whether there was a stroke.
  cancel() {
    const had = this.stroke !== null;
    this.stroke = null;
    this.isByKeys = false;
    this.viewer.redraw();
    return had;
  }

  // --- By keys: the middle of the picture is the pen, Enter sets it down and lifts it ---

  press(adds) {
    const { viewer } = this, middle = [viewer.x, viewer.y];
    this.adds = adds;
    if (this.stroke) {
      this.extend(middle);
      this.finish();
    } else if (this.on.tool().shape) {
      this.startShape = this.on.tool().shape;
      this.begin(middle);
      this.isByKeys = true;
    } else this.on.click(middle, adds);
  }

  follow() {
    if (this.isByKeys && this.stroke) this.extend([this.viewer.x, this.viewer.y]);
  }
}
