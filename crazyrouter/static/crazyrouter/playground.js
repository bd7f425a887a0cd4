// The playground: what Generate does. Nothing is sent that is not what the page said a moment ago.
import { canBeKey, keepKey, openAccount, readKey, refreshBalance } from "./playground/account.js";
import { call, Lost, makeIdempotencyKey, Refused, wait } from "./playground/api.js";
import { find } from "./playground/dom.js";
import { describeChanges, readAnswer } from "./playground/facts.js";
import { adopt, clearFaults, getFacts, openForm, readBody, readN, removeModel, showFault } from "./playground/form.js";
import { recallOrders, rememberOrder } from "./playground/memory.js";
import { formatMicros, parseAmount } from "./playground/money.js";
import { Run } from "./playground/run.js";
import { readSize } from "./playground/sizes.js";
import { openSnippets } from "./playground/snippets.js";

const PATH = "/v1/images/generations";
const LISTED = 20;
const baseUrl = find("playground").dataset.baseUrl;
const stage = find("stage");
const button = find("generate");
const notice = find("notice");
const showSnippets = openSnippets(baseUrl);

let idempotencyKey = makeIdempotencyKey();
/** The run on the stage, and the one that is being waited for. */
let staged = null;
let waiting = null;

// --- pressing Generate ---

async function generate(event) {
  event.preventDefault();
  if (waiting) return;
  clearFaults();
  notice.textContent = "";
  const key = readKey();
  if (!canBeKey(key)) return void showFault("key", "Enter your API key: an order is made under it.");
  keepKey();
  const order = { body: readBody(), facts: getFacts(), size: readSize() || getFacts().default_size, n: readN(), key };
  const run = makeRun({ ...order, idempotencyKey, baseUrl });
  putOnStage(run);
  await pursue(run);
}

function makeRun(order) {
  const run = new Run(order, { stop, resume: () => pursue(run) });
  return run;
}

/** What came before goes below if there is anything to keep of it. */
function putOnStage(run) {
  if (staged && (staged.hasPictures || staged.isOpen)) {
    find("earlier").hidden = false;
    find("runs").prepend(staged.element);
  }
  staged = run;
  stage.replaceChildren(run.element);
}

/** Ask until it has ended or nobody waits any more; may be called again for one that was left open. */
async function pursue(run) {
  if (waiting) return tell("One order is waited for at a time. Ask for this one when the other has ended.");
  waiting = { run, controller: new AbortController() };
  button.setAttribute("aria-disabled", "true");
  button.textContent = "Working …";
  try {
    if (run.generationId || (await confirmTerms(run))) await finish(run, await obtain(run, waiting.controller.signal));
  } catch (error) {
    showEnd(run, error);
  } finally {
    waiting = null;
    rememberOrder(run, readKey());
    button.removeAttribute("aria-disabled");
    button.textContent = "Generate";
  }
}

function stop() {
  waiting?.controller.abort();
}

// --- before anything is sent ---

/** Whether the model is still what the page shows; if not, the page says what is different and nothing is sent. */
async function confirmTerms(run) {
  const { facts, key } = run.order;
  const wasSent = run.isOpen;
  run.showCheck();
  const now = await ask(run, wasSent);
  if (now === null) return false;
  const changes = describeChanges(facts, now, run.order);
  if (!changes.length || (wasSent && now.micros === facts.micros)) return true;
  if (key === readKey()) adopt(now);
  const words = changes.join(" ");
  if (wasSent) {
    run.order.facts = now;
    run.showChange(words);
  } else {
    run.showUnsent();
    tell(`${words} Nothing was sent; press Generate again to order ${describeTerms(facts, now)}.`);
  }
  return false;
}

function describeTerms(before, now) {
  return before.micros === now.micros ? "like this" : "at the new price";
}

/** The model as the API has it for this key; null where it was said that there is no ordering it. */
async function ask(run, wasSent) {
  const { facts, key } = run.order;
  try {
    const { data } = await call(`/v1/models/${encodeURIComponent(facts.id)}`, { key, signal: waiting.controller.signal });
    const now = readAnswer(data, facts);
    if (now.micros !== null || wasSent) return now.micros === null ? facts : now;
    leaveOut(run, `${facts.id} has no price in force any more.`);
  } catch (error) {
    // An order that was taken is collected whatever has become of its model.
    if (wasSent && error instanceof Refused && error.code === "model_not_found") return facts;
    if (wasSent || error.name === "AbortError") throw error;
    if (error.code === "model_not_found") leaveOut(run, error.message);
    else refuseUnsent(run, error);
  }
  return null;
}

function leaveOut(run, message) {
  run.showUnsent();
  removeModel(run.order.facts.id);
  tell(`${message} Nothing was sent; another model is chosen.`);
  showFault("model", message);
}

function refuseUnsent(run, error) {
  if (error instanceof Refused) {
    run.showRefusal(error);
    run.isOpen = false;
    point(error);
  } else {
    run.showUnsent();
    tell(`${error.message} Nothing was sent.`);
  }
}

function tell(words) {
  notice.textContent = words;
  notice.scrollIntoView({ block: "nearest" });
}

// --- the order itself ---

/** {pictures, requestId, replayed}. Raises Lost, Refused, AbortError. */
async function obtain(run, signal) {
  run.showProgress();
  run.come();
  rememberOrder(run, readKey());
  if (run.generationId) return await collect(run, signal);
  const { key, body } = run.order;
  if (run.order.idempotencyKey === idempotencyKey) {
    // This one is taken: the next order has one of its own.
    idempotencyKey = makeIdempotencyKey();
    showSnippets(readBody(), idempotencyKey);
  }
  try {
    const answer = await call(PATH, { key, body, idempotencyKey: run.order.idempotencyKey, signal });
    run.generationId = answer.requestId;
    return { pictures: answer.data.data, requestId: answer.requestId, replayed: answer.replayed };
  } catch (error) {
    if (!(error instanceof Refused) || !error.generationId) throw error;
    run.generationId = error.generationId;
    run.showCollecting(error);
    return await collect(run, signal, error.retryAfter);
  }
}

/** Read it back until it has ended. */
async function collect(run, signal, first = null) {
  await wait(first ?? 0, signal);
  for (;;) {
    const { data, retryAfter } = await call(`${PATH}/${run.generationId}`, { key: run.order.key, signal });
    if (data.status === "succeeded") return { pictures: data.data, requestId: data.id, replayed: false };
    if (data.status === "failed") throw Object.assign(new Refused(data.error), { requestId: data.id });
    await wait(retryAfter ?? 2, signal);
  }
}

async function finish(run, { pictures, requestId, replayed }) {
  run.showPictures(pictures, { requestId, replayed });
  const { key } = run.order;
  await Promise.all([showCharge(run, requestId), refreshBalance(key)]);
}

/** From the list, which has no picture in it, however the images were ordered. */
async function showCharge(run, requestId) {
  try {
    const { data } = await call(`${PATH}?limit=${LISTED}`, { key: run.order.key });
    const record = data.data.find((one) => one.id === requestId);
    if (record) run.showCharge(formatMicros(parseAmount(record.charged.amount)));
  } catch {
    // What is shown already is price × images: right unless the price changed within that second.
  }
}

function showEnd(run, error) {
  if (error.name === "AbortError") return run.started === undefined ? run.showUnsent() : run.showStopped();
  if (error instanceof Refused) {
    run.showRefusal(error);
    return point(error);
  }
  if (error instanceof Lost) return run.showLost(error.message);
  run.showLost("Something went wrong in this page.");
  throw error;
}

/** What the page was left with is asked for again when its visitor says so: nothing is sent by itself. */
function resumeLeft() {
  for (const { order, generationId, since } of recallOrders(readKey())) {
    const run = makeRun({ ...order, baseUrl });
    Object.assign(run, { generationId, isOpen: true, started: performance.now() - Date.now() + since });
    putOnStage(run);
    run.showLost("This page was left before the answer came.");
    rememberOrder(run, readKey());
    notice.textContent = "This page was left before an order was answered: ask for it again.";
  }
}

/** To the field that the error is about. */
function point(error) {
  showFault(error.code === "invalid_api_key" ? "key" : error.param, error.message);
}

openForm((body) => showSnippets(body, idempotencyKey));
openAccount();
resumeLeft();
find("order-form").addEventListener("submit", generate);
