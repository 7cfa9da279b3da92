// The panel in which the model learns from accepted images, and the new model is compared with the old one.

import { get, post } from "./api.js";
import { $, duration, element, number, plural } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 280, HEIGHT = 110, PAD = 6;

const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// The losses of all epochs as two lines.
function drawCurve(curve) {
  const values = curve.flatMap(({ loss, val_loss }) => [loss, val_loss]).filter((value) => Number.isFinite(value));
  const top = Math.max(...values), bottom = Math.min(0, ...values);
  const x = (at) => PAD + (at / Math.max(1, curve.length - 1)) * (WIDTH - 2 * PAD);
  const y = (value) => HEIGHT - PAD - ((value - bottom) / (top - bottom || 1)) * (HEIGHT - 2 * PAD);
  const lines = ["loss", "val_loss"].flatMap((name) => {
    const points = curve.map((epoch, at) => [epoch[name], at]).filter(([value]) => Number.isFinite(value));
    const line = svg("polyline", { class: name, points: points.map(([value, at]) => `${x(at)},${y(value)}`).join(" ") });
    return [line, ...points.slice(-1).map(([value, at]) => svg("circle", { class: name, cx: x(at), cy: y(value), r: 3 }))];
  });
  $("curve").replaceChildren(...lines);
  const last = curve.at(-1);
  $("curve").setAttribute("aria-label", `Loss after ${plural(curve.length, "epoch")}: training ${score(last.loss)}, validation ${score(last.val_loss)}`);
}

export class LearnPanel {
  constructor(session) {
    this.session = session;
    session.addEventListener("state", () => this.refresh());
    $("learn").addEventListener("click", () => this.start());
    $("stop").addEventListener("click", () => this.tell(() => post("/api/learn/stop")));
    $("use-new").addEventListener("click", () => this.use("new"));
    $("use-old").addEventListener("click", () => this.use("old"));
    $("preview-picture").addEventListener("load", () => { $("preview").hidden = false; });
    $("preview-picture").addEventListener("error", () => { $("preview").hidden = true; }); // the first epoch has none yet
  }

  setJob(job) {
    const wasRunning = this.session.state.job?.state === "running";
    this.session.state.job = job;
    this.session.changed("state");
    if (wasRunning && job?.state === "done") this.compare();
  }

  async tell(act) {
    const job = await this.session.attempt(act);
    if (job) this.setJob(job);
  }

  start() {
    if ($("learn").getAttribute("aria-disabled") === "true") return;
    const epochs = $("epochs").value === "" ? null : Number($("epochs").value);
    this.tell(() => post("/api/learn", { epochs }));
  }

  refresh() {
    const { images, job, model } = this.session.state, numAccepted = images.filter(({ state }) => state === "accepted").length;
    const isRunning = job?.state === "running";
    $("accepted").textContent = numAccepted
      ? `${plural(numAccepted, "image")} accepted. The model in use learns from ${numAccepted === 1 ? "it" : "them"} and keeps what it knows.`
      : "No image is accepted yet. Correct one and accept it: the model learns from accepted images.";
    $("model-name").textContent = model?.name ?? "–";
    $("learn").setAttribute("aria-disabled", String(!numAccepted || isRunning));
    $("learn").firstChild.textContent = isRunning ? "Learning …" : `Learn from ${plural(numAccepted, "image")}`;
    $("stop").hidden = !isRunning;
    $("job").hidden = !job;
    if (job) this.showJob(job, isRunning);
  }

  showJob(job, isRunning) {
    const left = job.seconds_left === null || job.seconds_left === undefined ? "" : `, about ${duration(job.seconds_left)} left`;
    const epoch = isRunning && job.epoch ? `Epoch ${number(job.epoch)} of ${number(job.epochs)}${left}.` : "";
    const text = job.state === "done" ? "The new model is ready." : epoch;
    $("job-text").textContent = [text, job.message].filter(Boolean).join(" ");
    $("job-text").classList.toggle("flag", job.state === "failed");
    $("epochs-done").hidden = !isRunning;
    $("epochs-done").value = job.epochs ? job.epoch / job.epochs : 0;
    $("curve-figure").hidden = !job.curve?.length;
    if (job.curve?.length) drawCurve(job.curve);
    if (!job.curve?.length) $("preview").hidden = true;
    const source = `/api/learn/preview.jpg?epoch=${job.epoch}&state=${job.state}`;
    if (job.curve?.length && $("preview-picture").getAttribute("src") !== source) $("preview-picture").src = source;
  }

  // --- Before and after ---

  async compare() {
    const comparison = await this.session.attempt(() => get("/api/comparison"));
    $("comparison").hidden = !comparison;
    if (!comparison) return;
    const { old, new: learnt, images, held_out: isHeldOut, in_use: inUse } = comparison;
    $("compared").textContent = isHeldOut
      ? `Scores on ${plural(images.length, "accepted image")} from which the new model did not learn.`
      : "Scores on images from which the new model learned: they are too good. Accept more images to hold some out.";
    $("compared").classList.toggle("flag", !isHeldOut);
    const row = (heading, ...values) => element("tr", {}, element("th", { scope: "row", textContent: heading }), ...values.map((textContent) => element("td", { textContent })));
    const change = (before, after) => (Number.isFinite(before) && Number.isFinite(after) ? `${after >= before ? "+" : "−"}${Math.abs(after - before).toFixed(3)}` : "");
    const name = (id) => this.session.state.images.find((image) => image.id === id)?.name ?? id;
    const scores = [["AP@0.5", "ap50"], ["mAP", "map"], ["Dice", "dice"]];
    $("comparison-rows").replaceChildren(
      ...scores.map(([label, key]) => row(label, score(old[key]), score(learnt[key]), change(old[key], learnt[key]))),
      ...images.map(({ id, old_ap50: before, new_ap50: after }) => row(`AP@0.5, ${name(id)}`, score(before), score(after), change(before, after))),
    );
    $("use-new").firstChild.textContent = `${inUse === "new" ? "In use:" : "Use"} ${learnt.name}`;
    $("use-old").firstChild.textContent = `${inUse === "new" ? "Go back to" : "Keep"} ${old.name}`;
    $("use-new").setAttribute("aria-pressed", String(inUse === "new"));
    $("use-old").setAttribute("aria-pressed", String(inUse === "old"));
  }

  async use(which) {
    const before = this.session.state.model?.name;
    const state = await this.session.attempt(() => post("/api/model", { use: which }));
    if (!state) return;
    const isOther = state.model.name !== before;
    $("used").textContent = isOther ? `The ${which} model is in use. Images in which you changed nothing are predicted anew.` : `The ${which} model stays in use.`;
    await this.session.attempt(() => this.session.load());
    await this.compare();
  }
}
