// All that the user can do with the open image: one table, from which the buttons, the keys and the help are made.

import { say } from "./words.js";

const accepts = ({ session }) => session.accept(session.image?.state !== "accepted");

// Ids that a command acts on: the selected nuclei, else the one below the mouse.
function targets({ session, hovered }) {
  if (session.selected.size) return [...session.selected];
  return hovered() ? [hovered()] : [];
}

function onTargets(least, make) {
  return (desk) => {
    const ids = targets(desk);
    if (ids.length < least) say(least > 1 ? "Select at least two nuclei first: Shift + click adds one, and so does the tool Box." : "Select a nucleus first.", true);
    else desk.session.edit(make(ids));
  };
}

const hasSelection = ({ session }) => session.selected.size > 0;

// A command: group (its place), label, tip, keys, and a tool to choose or what to run(desk).
// isReady(desk): whether it can act now; without it, always.
export const COMMANDS = [
  { group: "tools", label: "Select", tool: "select", keys: ["v"], tip: "Click to select, Shift + click to add, Shift + drag for a box" },
  { group: "tools", label: "Box", tool: "box", keys: ["x"], tip: "Select all nuclei in a box; a click adds one" },
  { group: "tools", label: "Split", tool: "split", keys: ["s"], tip: "Split a nucleus by a line across it" },
  { group: "tools", label: "Split at 2 points", tool: "points", keys: ["t"], tip: "Click both halves: the network proposes the border" },
  { group: "tools", label: "Draw", tool: "draw", keys: ["d"], tip: "Draw the outline of a new nucleus" },
  { group: "tools", label: "Brush", tool: "brush", keys: ["b"], tip: "Add to a nucleus, or make a new one" },
  { group: "tools", label: "Erase", tool: "erase", keys: ["e"], tip: "Take away from a nucleus" },
  { group: "tools", label: "Propose", tool: "propose", keys: ["r"], tip: "Predict a region anew, with another threshold and scale" },
  { group: "tools", label: "Field", tool: "field", keys: ["f"], tip: "Make an image of a part of this one, or of a slide" },

  { group: "edits", label: "Delete", keys: ["Delete", "Backspace"], tip: "Delete the selected nuclei, or the one below the mouse", isReady: hasSelection, run: onTargets(1, (ids) => ({ kind: "delete", ids })) },
  { group: "edits", label: "Merge", keys: ["m"], tip: "Make one nucleus of the selected ones", isReady: ({ session }) => session.selected.size > 1, run: onTargets(2, (ids) => ({ kind: "merge", ids })) },
  { group: "edits", label: "Grow", keys: ["g"], tip: "Move the edge of the selected nuclei out by one pixel", isReady: hasSelection, run: onTargets(1, (ids) => ({ kind: "grow", ids, by: 1 })) },
  { group: "edits", label: "Shrink", keys: ["Shift+G"], tip: "Move the edge of the selected nuclei in by one pixel", isReady: hasSelection, run: onTargets(1, (ids) => ({ kind: "shrink", ids, by: 1 })) },
  { group: "edits", label: "Undo", keys: ["Ctrl+Z"], tip: "Take back the last correction of this image", isReady: ({ session }) => session.image?.undo > 0, run: ({ session }) => session.edit({ kind: "undo" }) },
  { group: "edits", label: "Redo", keys: ["Ctrl+Shift+Z", "Ctrl+Y"], tip: "Do again what was taken back", isReady: ({ session }) => session.image?.redo > 0, run: ({ session }) => session.edit({ kind: "redo" }) },

  { group: "image", label: "Accept", keys: ["a"], tip: "All nuclei of this image are right: write its labels into the folder gt", run: accepts },
  { group: "image", label: "Accept and go on", keys: ["Shift+A"], tip: "Accept this image and open the next one", hidden: true, run: async (desk) => {
    if (desk.session.image?.state !== "accepted") await accepts(desk);
    const { image } = desk.session;
    if (image?.state !== "accepted") return;
    await desk.session.step(1);
    say(`${image.name} is accepted.`);
  } },

  { group: "moves", label: "Next image", keys: ["n"], run: ({ session }) => session.step(1) },
  { group: "moves", label: "Previous image", keys: ["p"], run: ({ session }) => session.step(-1) },
  { group: "moves", label: "Next nucleus, least certain first", keys: ["."], run: ({ session }) => session.stepNucleus(1) },
  { group: "moves", label: "Previous nucleus", keys: [","], run: ({ session }) => session.stepNucleus(-1) },
  { group: "moves", label: "Zoom in", keys: ["+", "="], run: ({ viewer }) => viewer.zoom(1.4) },
  { group: "moves", label: "Zoom out", keys: ["-"], run: ({ viewer }) => viewer.zoom(1 / 1.4) },
  { group: "moves", label: "Whole image", keys: ["0"], run: ({ viewer }) => viewer.showWhole() },
  { group: "moves", label: "Image only", keys: ["1"], run: ({ setMode }) => setMode("image") },
  { group: "moves", label: "Masks", keys: ["2"], run: ({ setMode }) => setMode("masks") },
  { group: "moves", label: "Overlay", keys: ["3"], run: ({ setMode }) => setMode("overlay") },
  { group: "moves", label: "Outlines coloured by confidence", keys: ["4"], run: ({ setMode }) => setMode("confidence") },
  { group: "moves", label: "Smaller brush", keys: ["["], run: ({ changeRadius }) => changeRadius(1 / 1.25) },
  { group: "moves", label: "Larger brush", keys: ["]"], run: ({ changeRadius }) => changeRadius(1.25) },
  { group: "moves", label: "Select all nuclei", keys: ["Ctrl+A"], run: ({ session }) => session.select(session.nuclei?.all.keys() ?? []) },
  { group: "moves", label: "Cancel the stroke, or clear the selection", keys: ["Escape"], run: ({ cancel }) => cancel() },
  { group: "moves", label: "This help", keys: ["?"], run: ({ openHelp }) => openHelp() },
];
