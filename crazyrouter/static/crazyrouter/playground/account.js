// The visitor's key: in this tab's session storage and nowhere else; and what its account pays and has.
import { call } from "./api.js";
import { find } from "./dom.js";
import { readAnswer } from "./facts.js";
import { adoptAgreed, adoptList, clearFaults, listShown, showFault } from "./form.js";
import { forgetKey, recallKey, rememberKey } from "./memory.js";
import { formatMicros, parseAmount } from "./money.js";

const input = find("key");
const words = find("account");
let asked = 0;

export const readKey = () => input.value.trim();

export function openAccount() {
  // Who was quicker than this script has entered one already.
  input.value ||= recallKey();
  find("key-form").addEventListener("submit", (event) => (event.preventDefault(), load()));
  input.addEventListener("change", load);
  find("key-show").addEventListener("click", toggle);
  find("key-forget").addEventListener("click", forget);
  if (readKey()) load();
}

function toggle() {
  const isShown = input.type === "password";
  input.type = isShown ? "text" : "password";
  find("key-show").textContent = isShown ? "Hide" : "Show";
  find("key-show").setAttribute("aria-pressed", String(isShown));
}

function forget() {
  input.value = "";
  forgetKey();
  load();
  input.focus();
  words.textContent = "Forgotten: list prices are shown.";
}

/** Keeps the key, and shows what its account pays. Of several at a time the last one counts. */
async function load() {
  const key = readKey();
  const turn = (asked += 1);
  clearFaults(["key"]);
  if (!key) {
    forgetKey();
    words.textContent = "No key yet: list prices are shown.";
    return adoptList();
  }
  if (!canBeKey(key)) return refuse("An API key is made of plain letters, digits and signs.");
  keepKey();
  words.textContent = "Asking what this key pays …";
  try {
    const [models, balance] = await Promise.all([call("/v1/models", { key }), call("/v1/balance", { key })]);
    if (turn !== asked) return;
    const known = new Map(models.data.data.map((model) => [model.id, model]));
    const found = listShown().filter((facts) => known.has(facts.id));
    const gone = adoptAgreed(new Map(found.map((facts) => [facts.id, readAnswer(known.get(facts.id), facts)])));
    showBalance(balance.data);
    if (gone) showFault("model", "The model that was chosen is not on sale any more.");
  } catch (error) {
    if (turn === asked) refuse(error.message);
  }
}

function refuse(message) {
  adoptList();
  words.textContent = "Without a valid key, list prices are shown.";
  showFault("key", message, { focus: false });
}

/** A header cannot carry anything else. */
export const canBeKey = (text) => /^[\x21-\x7e]+$/.test(text);

export function keepKey() {
  rememberKey(readKey());
}

export async function refreshBalance(key) {
  try {
    const { data } = await call("/v1/balance", { key });
    if (key === readKey()) showBalance(data);
  } catch {
    words.textContent = "";
  }
}

function showBalance({ available }) {
  words.textContent = `${formatMicros(parseAmount(available))} available · your prices`;
}
