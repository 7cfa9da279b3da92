// Buttons of the commands, and the sliders of the tool in use.

import { COMMANDS } from "./commands.js";
import { TOOLS } from "./tools.js";
import { $, element, say } from "./words.js";

export const keyName = (key) => key.replace("Escape", "Esc").replace("Delete", "Del").replace("Backspace", "⌫");

export class Toolbar {
  constructor(desk) {
    this.desk = desk;
    this.tool = "select";
    this.buttons = new Map();
    for (const group of ["tools", "edits", "image"]) {
      const commands = COMMANDS.filter((command) => command.group === group && !command.hidden);
      $(group).append(...commands.map((command) => this.button(command)));
    }
    this.choose("select");
  }

  button(command) {
    const key = keyName(command.keys[0]);
    const label = element("span", { textContent: command.label });
    const button = element("button", { type: "button", title: `${command.tip} (${key})` }, label, element("kbd", { textContent: key }));
    button.setAttribute("aria-keyshortcuts", command.keys.map((one) => one.replace("Ctrl", "Control")).join(" "));
    if (command.group === "image") button.id = "accept";
    button.addEventListener("click", () => this.run(command));
    this.buttons.set(command, button);
    return button;
  }

  run(command) {
    if (command.tool && !this.fits(command.tool)) say("A slide is not corrected itself: cut a field from it.", true);
    else if (command.tool) this.choose(command.tool);
    else return command.run(this.desk);
  }

  choose(name) {
    this.tool = name;
    this.desk.pointers?.cancel();
    TOOLS.points.first = null;
    for (const [command, button] of this.buttons) if (command.tool) button.setAttribute("aria-pressed", String(command.tool === name));
    $("viewer").dataset.tool = name;
    $("radius-label").hidden = !["brush", "erase"].includes(name);
    $("threshold-label").hidden = $("scale-label").hidden = name !== "propose";
    const isTouch = matchMedia("(pointer: coarse)").matches;
    $("hint").textContent = (isTouch && TOOLS[name].touchHint) || TOOLS[name].hint;
    say("");
    this.desk.session.changed("tool");
  }

  // A slide has no nuclei: it is looked at, and fields are cut from it.
  fits(tool) {
    return !this.desk.session.image?.slide || tool === "select" || tool === "field";
  }

  // Which buttons can act now. They keep the focus, so they are not disabled but say so.
  refresh() {
    const { session } = this.desk, isAccepted = session.image?.state === "accepted";
    if (!this.fits(this.tool)) this.choose("field");
    for (const [command, button] of this.buttons) {
      if (command.tool) button.setAttribute("aria-disabled", String(!this.fits(command.tool)));
      if (command.isReady) button.setAttribute("aria-disabled", String(!(session.canEdit && command.isReady(this.desk))));
    }
    const accept = $("accept");
    accept.firstChild.textContent = isAccepted ? "Accepted" : "Accept";
    accept.title = isAccepted ? "Open this image for corrections again (a)" : "All nuclei of this image are right: write its labels into the folder gt (a)";
    accept.setAttribute("aria-pressed", String(isAccepted));
    accept.setAttribute("aria-disabled", String(!session.canEdit));
  }

  options() {
    return { radius: Number($("radius").value), threshold: this.touched?.threshold ?? null, scale: this.touched?.scale ?? null };
  }

  // Sliders of `propose` count once they were moved; until then the program uses its own values.
  prepareOptions(onBrush) {
    this.touched = { threshold: null, scale: null };
    const show = () => {
      $("radius-value").textContent = `${$("radius").value} px`;
      $("threshold-value").textContent = Number($("threshold").value).toFixed(2);
      $("scale-value").textContent = `× ${(2 ** Number($("scale").value)).toFixed(2)}`;
    };
    for (const id of ["radius", "threshold", "scale"]) $(id).addEventListener("input", show);
    $("radius").addEventListener("input", onBrush);
    for (const id of ["threshold", "scale"]) {
      $(id).addEventListener("change", () => {
        const value = Number($(id).value);
        this.touched[id] = id === "scale" ? 2 ** value : value;
        TOOLS.propose.again(this.desk.session, this.options());
      });
    }
    show();
  }
}
