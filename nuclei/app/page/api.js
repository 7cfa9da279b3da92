// Requests to the program on this machine. It answers JSON.

// The program answered, and the answer is no.
export class Refused extends Error {
  constructor(status, answer) {
    super(answer.message ?? `The program answered with status ${status}.`);
    this.status = status;
    this.answer = answer;
  }
}

// No answer came.
export class Unreachable extends Error {}

async function request(path, options) {
  let response, text;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
    text = await response.text();
  } catch (error) {
    throw new Unreachable(`The program does not answer: ${error.message}`);
  }
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = response.ok ? null : {};
  }
  if (!response.ok) throw new Refused(response.status, answer ?? {});
  return answer;
}

export const get = (path) => request(path, {});

export function post(path, body = {}, more = {}) {
  const headers = { "X-Nuclei": "1", "Content-Type": "application/json", ...more };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) });
}

export function upload(file) {
  const headers = {
    "X-Nuclei": "1", "X-Name": encodeURIComponent(file.name), "Content-Type": "application/octet-stream",
  };
  return request("/api/images", { method: "POST", headers, body: file });
}

export const imagePath = (id) => `/api/images/${encodeURIComponent(id)}`;

// What the program tells unasked: edits of other browsers, progress. The browser connects again by itself, unless the
// program refused; then we try again.
export function listen(onEvent, onOpen, onLost) {
  const source = new EventSource("/api/events");
  source.onmessage = (event) => onEvent(JSON.parse(event.data));
  source.onopen = onOpen;
  source.onerror = () => {
    const isRefused = source.readyState === EventSource.CLOSED;
    onLost(isRefused);
    if (isRefused) setTimeout(() => listen(onEvent, onOpen, onLost), 2000);
  };
}
