// Elements, numbers and plain words that the other modules share.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export const number = (value) => value.toLocaleString("en");
export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
export const nuclei = (count) => `${number(count)} ${count === 1 ? "nucleus" : "nuclei"}`;

export function duration(seconds) {
  if (seconds < 60) return plural(Math.max(1, Math.round(seconds)), "second");
  return seconds < 5400 ? plural(Math.round(seconds / 60), "minute") : `${(seconds / 3600).toFixed(1)} hours`;
}

// The message of something that the user did, read aloud by screen readers.
export function say(text, isTrouble = false) {
  $("said").textContent = text;
  $("said").classList.toggle("flag", isTrouble);
}
