// The order: its fields, what of them goes into the request, and what is wrong with them.
import { find, make } from "./dom.js";
import { nameVerification, readOption } from "./facts.js";
import { formatMicros } from "./money.js";
import { drawWall, offerSizes, readSize, watchSizes } from "./sizes.js";

const form = find("order-form");
const model = find("model");
const counts = find("counts");
const COUNTED = ["prompt", "negative_prompt"];
const FIELDS = ["key", "model", "prompt", "size", "n", "response_format", "negative_prompt", "seed", "prompt_extend", "watermark"];

/** Model id → facts, as the page shows them. */
const shown = new Map();
let isAgreed = false;
let tell = () => {};

/** `changed` is called after every change, with the body that would be sent. */
export function openForm(changed) {
  tell = changed;
  adoptList();
  model.addEventListener("change", chooseModel);
  model.addEventListener("change", () => history.replaceState(null, "", `?model=${encodeURIComponent(model.value)}`));
  form.addEventListener("input", refresh);
  form.addEventListener("change", refresh);
  watchSizes(getFacts, refresh);
}

export const getFacts = () => shown.get(model.value);
export const listShown = () => [...shown.values()];
export const readN = () => Number(new FormData(form).get("n"));

/** The body of the request: what has to be in it, and what was changed. */
export function readBody() {
  const facts = getFacts();
  const body = { model: model.value, prompt: find("prompt").value };
  const [size, n] = [readSize(), readN()];
  if (size !== facts.default_size) body.size = size;
  if (n !== 1) body.n = n;
  const format = new FormData(form).get("response_format");
  if (format !== "url") body.response_format = format;
  if (find("negative_prompt").value) body.negative_prompt = find("negative_prompt").value;
  const seed = find("seed").value.trim();
  // What is no number goes as it is, so that the API says what is wrong with it.
  if (seed) body.seed = /^-?\d{1,15}$/.test(seed) ? Number(seed) : seed;
  for (const name of ["prompt_extend", "watermark"]) {
    if (find(name).value) body[name] = find(name).value === "true";
  }
  return body;
}

// --- the models ---

/** List prices again, as the page came with them. */
export function adoptList() {
  isAgreed = false;
  for (const option of model.options) shown.set(option.value, readOption(option));
  show();
}

/** What a key's account pays. Models that are no longer there go; returns whether the chosen one did. */
export function adoptAgreed(found) {
  isAgreed = true;
  const chosen = model.value;
  for (const facts of listShown()) {
    const now = found.get(facts.id);
    if (now?.micros === null || now === undefined) removeModel(facts.id);
    else shown.set(facts.id, now);
  }
  show();
  return model.value !== chosen;
}

export function adopt(facts) {
  shown.set(facts.id, facts);
  show();
}

/** Take it off the list; the first of the others is chosen in its place. */
export function removeModel(id) {
  shown.delete(id);
  [...model.options].find((option) => option.value === id)?.remove();
  if (shown.size) show();
  else form.replaceChildren(make("p", { class: "note" }, "Nothing is on sale right now."));
}

function show() {
  if (!shown.size) return;
  for (const option of model.options) {
    const facts = shown.get(option.value);
    option.textContent = `${facts.id} (${formatMicros(facts.micros)})`;
  }
  chooseModel();
}

function chooseModel() {
  const facts = getFacts();
  find("model-badge").textContent = nameVerification(facts);
  find("model-badge").className = `badge ${facts.verification}`;
  find("model-words").textContent = facts.typical ? `${facts.capability}, usually ${facts.typical}` : facts.capability;
  find("model-link").href = `/models/${encodeURIComponent(facts.id)}`;
  offerSizes(facts);
  offerCounts(facts.max_n);
  refresh();
}

function offerCounts(most) {
  const chosen = Math.min(readN() || 1, most);
  const labels = Array.from({ length: most }, (_, at) => {
    const input = make("input", { type: "radio", name: "n", value: at + 1 });
    input.checked = at + 1 === chosen;
    return make("label", {}, input, make("span", {}, String(at + 1)));
  });
  counts.replaceChildren(...labels);
}

function refresh() {
  const facts = getFacts();
  for (const name of COUNTED) showCount(name, facts[`${name}_limit`]);
  const n = readN();
  const price = formatMicros(facts.micros);
  find("price").textContent = formatMicros(facts.micros * BigInt(n));
  find("sum").textContent = `${price} × ${n}, ${isAgreed ? "your price" : "list price"}`;
  drawWall(readSize() || facts.default_size, n);
  tell(readBody());
}

/** Code points, as the API counts. */
function showCount(name, limit) {
  const length = [...find(name).value].length;
  const counter = find(`${name}-count`);
  counter.textContent = `${length.toLocaleString("en")} / ${limit.toLocaleString("en")}`;
  counter.classList.toggle("over", length > limit);
}

// --- what is wrong ---

export function clearFaults(names = FIELDS) {
  for (const name of names.filter((one) => find(`error-${one}`))) {
    find(`error-${name}`).hidden = true;
    for (const control of findControls(name)) control.removeAttribute("aria-invalid");
  }
}

/** Says it beside the field and goes there, if there is such a field. */
export function showFault(name, message, { focus = true } = {}) {
  if (!FIELDS.includes(name) || !find(`error-${name}`)) return;
  const [control] = [...findControls(name)].sort((one, other) => Number(other.checked) - Number(one.checked));
  const words = find(`error-${name}`);
  words.textContent = message;
  words.hidden = false;
  for (const one of findControls(name)) one.setAttribute("aria-invalid", "true");
  control.closest("details")?.setAttribute("open", "");
  if (focus) focusFault(name === "size" && !control.value ? find("free-size") : control);
}

function focusFault(control) {
  control.focus({ preventScroll: true });
  control.scrollIntoView({ block: "center" });
}

function findControls(name) {
  const one = find(name);
  return one && name !== "n" ? [one] : form.querySelectorAll(`input[name="${name}"]`);
}
