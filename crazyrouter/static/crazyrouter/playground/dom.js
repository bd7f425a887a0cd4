// Elements. Text goes in as text, always: what comes from the registry, a prompt or an answer is never read as HTML.
export const find = (id) => document.getElementById(id);

/** Attributes by name; children are elements and texts. */
export const make = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);

export const draw = (tag, attributes, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function build(element, attributes = {}, children) {
  setAttributes(element, attributes);
  element.append(...children);
  return element;
}

export function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
}

/** A button that copies `read()` and says so. */
export function makeCopyButton(what, read) {
  const button = make("button", { type: "button", class: "copy", "aria-label": `Copy: ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(read());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Please select it by hand";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}

/** For screen readers; the same words twice are said twice. */
export function announce(text) {
  const live = find("live");
  live.textContent = "";
  requestAnimationFrame(() => (live.textContent = text));
}

export function count(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}
