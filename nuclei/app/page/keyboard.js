// Keys. They work wherever the focus is, but not in what takes keys itself: fields of text, lists, sliders.

import { COMMANDS } from "./commands.js";
import { $ } from "./words.js";

const STRIDE_PX = 60; // of an arrow key, on the screen
const SMALL_STRIDE_PX = 6; // with Shift, and while a stroke is drawn
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// "Ctrl+Shift+Z" of an event, as COMMANDS has it; a capital stands only beside Ctrl or Shift.
function nameOf(event) {
  const hasControl = event.ctrlKey || event.metaKey, isLetter = /^[a-z]$/i.test(event.key);
  const hasShift = event.shiftKey && (isLetter || event.key.length > 1);
  const key = isLetter ? (hasControl || hasShift ? event.key.toUpperCase() : event.key.toLowerCase()) : event.key;
  return (hasControl ? "Ctrl+" : "") + (hasShift ? "Shift+" : "") + key;
}

export function handleKeys({ viewer, pointers, toolbar }) {
  const byKey = new Map(COMMANDS.flatMap((command) => command.keys.map((key) => [key, command])));

  const inPicture = (event) => {
    const arrow = ARROWS[event.key], isFine = event.shiftKey || pointers.isByKeys;
    if (arrow) {
      viewer.hasCursor = true;
      const stride = isFine ? SMALL_STRIDE_PX : STRIDE_PX;
      viewer.move(arrow[0] * stride, arrow[1] * stride);
      pointers.follow();
    } else if (event.key === "Enter") {
      viewer.hasCursor = true;
      pointers.press(event.shiftKey);
    } else if (event.key === " ") pointers.hasSpace = true;
    else return false;
    return true;
  };

  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (document.querySelector("dialog[open]") || event.altKey) return;
    const isTyping = at.matches("select, textarea, input:not([type=checkbox], [type=radio])");
    if (isTyping && !(event.key === "Escape" || ((event.ctrlKey || event.metaKey) && at.type === "range"))) return;
    if (at === viewer.canvas && !event.ctrlKey && !event.metaKey && inPicture(event)) {
      event.preventDefault();
      return;
    }
    const command = byKey.get(nameOf(event)), isPlain = !event.ctrlKey && !event.metaKey;
    if (!command || (isPlain && at !== viewer.canvas && !$("hotkeys").checked)) return;
    event.preventDefault();
    toolbar.run(command);
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") pointers.hasSpace = false; });
  addEventListener("blur", () => { pointers.hasSpace = false; });
  viewer.canvas.addEventListener("blur", () => { viewer.hasCursor = false; viewer.redraw(); });
  viewer.canvas.addEventListener("focus", () => {
    viewer.hasCursor = viewer.canvas.matches(":focus-visible");
    viewer.redraw();
  });
}
