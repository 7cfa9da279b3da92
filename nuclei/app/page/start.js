// Starts the page: makes its parts and ties them together.

import { get, listen } from "./api.js";
import { COMMANDS } from "./commands.js";
import { ExportsPanel } from "./exports.js";
import { handleKeys } from "./keyboard.js";
import { LearnPanel } from "./learn.js";
import { ImageList } from "./list.js";
import { Pointers } from "./pointers.js";
import { Session } from "./session.js";
import { keyName, Toolbar } from "./toolbar.js";
import { sizeOfField, TOOLS } from "./tools.js";
import { Viewer } from "./viewer.js";
import { $, element, plural, say } from "./words.js";

const viewer = new Viewer($("viewer"));
export const session = new Session(viewer, askToRepeat);
export const desk = { viewer, session, hovered: () => hoveredId, setMode, changeRadius, cancel, openHelp };
const toolbar = (desk.toolbar = new Toolbar(desk));
let hoveredId = 0, hoveredPoint = null, isConnected = true, isSignedOut = false;

const pointers = (desk.pointers = new Pointers(viewer, {
  tool: () => TOOLS[toolbar.tool],
  click(point, adds) {
    const tool = TOOLS[toolbar.tool];
    (tool.click ? tool : TOOLS.select).click(session, point, adds);
  },
  drawn(points, adds) {
    const tool = TOOLS[toolbar.tool];
    (tool.drawn ? tool : TOOLS.box).drawn(session, points, adds, toolbar.options());
  },
  hover(point) {
    hoveredPoint = point;
    const id = point && session.nuclei ? session.nuclei.at(point) : 0;
    if (id !== hoveredId) { hoveredId = id; describeNucleus(); }
    if (hasBrush()) viewer.redraw();
  },
}));

const hasBrush = () => ["brush", "erase"].includes(toolbar.tool);

// What lies above the picture: the stroke in work, the circle of the brush, edits on their way.
viewer.shapes = () => {
  const shapes = [], radius = Number($("radius").value);
  for (const { edit } of session.unsent.of(session.current)) {
    if (edit.stroke) shapes.push({ kind: edit.kind === "brush" ? (edit.erase ? "erase" : "brush") : "line", points: edit.stroke, radius: edit.radius });
    else if (edit.outline) shapes.push({ kind: "loop", points: edit.outline });
    else if (edit.box) shapes.push({ kind: "box", points: edit.box });
    else if (edit.points) shapes.push({ kind: "dots", points: edit.points });
  }
  for (const box of toolbar.tool === "field" || session.image?.slide ? session.fields : []) shapes.push({ kind: "field", points: box });
  if (TOOLS.points.first) shapes.push({ kind: "dots", points: TOOLS.points.first });
  if (pointers.stroke) shapes.push({ ...pointers.stroke, radius, label: toolbar.tool === "field" ? sizeOfField(pointers.stroke.points, session.image) : "" });
  else if (hasBrush() && (viewer.hasCursor || hoveredPoint)) shapes.push({ kind: "circle", points: viewer.hasCursor ? [viewer.x, viewer.y] : hoveredPoint, radius });
  return shapes;
};

function describeNucleus() {
  const { selected, nuclei } = session;
  const id = hoveredId || (selected.size === 1 ? [...selected][0] : 0), nucleus = nuclei?.all.get(id);
  const confidence = nucleus?.confidence === null || nucleus?.confidence === undefined ? "" : `, confidence ${nucleus.confidence.toFixed(2)}`;
  $("nucleus").textContent = nucleus ? `Nucleus ${id}${confidence}` : selected.size > 1 ? `${selected.size.toLocaleString("en")} nuclei selected` : "";
}

function setMode(mode) {
  $("mode").querySelector(`[value=${mode}]`).checked = true;
  $("opacity").disabled = mode === "image";
  viewer.setMode(mode);
}

function changeRadius(factor) {
  const now = Number($("radius").value), next = factor > 1 ? Math.max(now + 1, now * factor) : Math.min(now - 1, now * factor);
  $("radius").value = Math.round(next);
  $("radius").dispatchEvent(new Event("input"));
}

function cancel() {
  const hadPoint = TOOLS.points.first !== null;
  TOOLS.points.first = null;
  if (!pointers.cancel() && !hadPoint) session.select([]);
}

// --- Connection and unsent edits ---

function showConnection() {
  const { items, trouble } = session.unsent;
  const waiting = items.length ? `${plural(items.length, "correction")} ${items.length === 1 ? "is" : "are"} kept in this browser and will be sent in order.` : "Corrections made now are kept in this browser.";
  const isLost = !isConnected || trouble;
  $("trouble").hidden = !isLost;
  $("trouble-text").textContent = !isLost ? "" : isSignedOut || trouble?.status === 401
    ? `The program does not know this page any more. Open the address that it prints. ${waiting}`
    : trouble?.status >= 500 ? `The program reports an error: ${trouble.message} ${waiting}`
    : `No connection to the program: is it still running? ${waiting}`;
  $("discard").hidden = !(trouble?.status >= 500);
  $("saved").textContent = isLost ? plural(items.length, "correction") + " not sent" : items.length ? "saving …" : "all corrections are on disk";
  $("saved").classList.toggle("flag", Boolean(isLost));
  viewer.redraw();
}

// Another browser changed the same nuclei.
function askToRepeat(message) {
  $("conflict-text").textContent = message;
  $("conflict").showModal();
  return new Promise((done) => {
    $("conflict").addEventListener("close", () => done($("conflict").returnValue === "repeat"), { once: true });
  });
}

function hear(event) {
  if (event.state) session.attempt(() => session.load());
  else if (event.job) learnPanel.setJob(event.job);
  else if (event.image) session.attempt(() => session.catchUp(event.image, event.revision, event.anew));
}

function connect() {
  listen(hear, async () => {
    const wasLost = !isConnected;
    isConnected = true;
    isSignedOut = false;
    showConnection();
    if (!wasLost) return;
    viewer.tiles?.retry();
    await session.unsent.send();
    await session.attempt(() => session.load());
    const { image } = session;
    if (image) await session.attempt(() => session.catchUp(image.id, image.revision));
  }, async (isRefused) => {
    isConnected = false;
    showConnection();
    if (!isRefused) return;
    isSignedOut = await get("/api/state").then(() => false, (error) => error.status === 401);
    showConnection();
  });
}

// --- Panels and help ---

function preparePanels() {
  const isNarrow = () => matchMedia("(max-width: 900px)").matches;
  const set = (name, isOpen) => {
    $(name).hidden = !isOpen;
    $(`${name}-toggle`).setAttribute("aria-expanded", String(isOpen));
  };
  const names = ["images", "learning", "exporting"];
  for (const name of names) {
    $(`${name}-toggle`).addEventListener("click", () => {
      const isOpen = $(name).hidden;
      for (const other of names) if (other !== name && (isNarrow() || other !== "images") && (isNarrow() || name !== "images")) set(other, false);
      set(name, isOpen);
    });
  }
  for (const name of names) {
    set(name, name === "images" && !isNarrow());
    $(name).addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      set(name, false);
      $(`${name}-toggle`).focus();
    });
  }
  imageList.onChosen = () => { set("images", false); viewer.canvas.focus(); };
}

function openHelp() {
  $("help").showModal();
}

function fillHelp() {
  const rows = COMMANDS.map(({ label, keys, tip }) => element("tr", {},
    element("th", { scope: "row" }, ...keys.flatMap((key, at) => [at ? " or " : "", element("kbd", { textContent: keyName(key) })])),
    element("td", { textContent: tip ? `${label}: ${tip[0].toLowerCase()}${tip.slice(1)}` : label })));
  $("key-rows").append(...rows);
}

const imageList = new ImageList(session);
const learnPanel = (desk.learnPanel = new LearnPanel(session));
new ExportsPanel(session);

async function start() {
  fillHelp();
  preparePanels();
  toolbar.prepareOptions(() => viewer.redraw());
  handleKeys({ viewer, pointers, toolbar });
  for (const name of ["image", "selection", "unsent", "state"]) session.addEventListener(name, () => { toolbar.refresh(); describeNucleus(); });
  session.addEventListener("unsent", showConnection);
  session.addEventListener("opened", () => { TOOLS.points.first = null; pointers.cancel(); }); // they are of the image before
  session.addEventListener("cut", () => toolbar.choose("select")); // in the new image, clicks are for its nuclei
  session.addEventListener("state", () => {
    const folder = session.state.folder ?? "", name = folder.split(/[\\/]/).filter(Boolean).pop() ?? "";
    $("folder").textContent = name;
    $("folder").title = folder;
    document.title = `${name} – correct nuclei`;
  });
  $("mode").addEventListener("change", (event) => setMode(event.target.value));
  $("opacity").addEventListener("input", (event) => { viewer.opacity = event.target.value / 100; viewer.redraw(); });
  $("closer").addEventListener("click", () => viewer.zoom(1.5));
  $("farther").addEventListener("click", () => viewer.zoom(1 / 1.5));
  $("whole").addEventListener("click", () => viewer.showWhole());
  $("previous").addEventListener("click", () => session.step(-1));
  $("next").addEventListener("click", () => session.step(1));
  $("help-open").addEventListener("click", openHelp);
  $("discard").addEventListener("click", () => { session.unsent.discard(); say("The unsent corrections were discarded."); });
  addEventListener("beforeunload", (event) => { if (session.unsent.items.length) event.preventDefault(); });
  connect();
  await session.load();
  if (session.state.threshold) $("threshold").value = session.state.threshold;
  if (session.state.model?.diameter_px) $("radius").value = Math.max(2, Math.round(session.state.model.diameter_px / 4));
  $("radius").dispatchEvent(new Event("input"));
  toolbar.refresh();
  await session.unsent.adopt();
  learnPanel.compare();
}

start().catch((error) => {
  $("trouble").hidden = false;
  $("trouble-text").textContent = error.status === 401 ? "The program does not know this page. Open the address that it prints." : `The page could not be opened: ${error.message}`;
  console.error(error);
});
