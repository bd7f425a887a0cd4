// What this tab remembers until it is closed: the key, and the orders whose end it has not seen. Nobody else does.
const KEY = "crazyrouter.key";
const ORDERS = "crazyrouter.orders";
/** Runs whose end is not known. */
const open = new Set();

/** A browser that stores nothing refuses to be asked; then all of it lives in the page alone. */
function store(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null;
  }
}

export const recallKey = () => store((tab) => tab.getItem(KEY)) ?? "";

export function rememberKey(key) {
  store((tab) => tab.setItem(KEY, key));
}

/** With the key goes what was ordered under it. */
export function forgetKey() {
  open.clear();
  store((tab) => (tab.removeItem(KEY), tab.removeItem(ORDERS)));
}

/** Before an order is sent, and when it has ended: `run.isOpen` says which. Only those of the key in use are kept. */
export function rememberOrder(run, key) {
  if (run.isOpen && run.order.key === key) open.add(run);
  else open.delete(run);
  const orders = [...open].filter(({ order }) => order.key === key).map(write);
  store((tab) => (orders.length ? tab.setItem(ORDERS, JSON.stringify(orders)) : tab.removeItem(ORDERS)));
}

/** The orders of this key that the page was left with, oldest first: {order, generationId, elapsed} in milliseconds. */
export function recallOrders(key) {
  try {
    const orders = JSON.parse(store((tab) => tab.getItem(ORDERS)) ?? "[]");
    return orders.filter(({ order }) => order.key === key).map(read);
  } catch {
    return [];
  }
}

function write({ order, generationId, started }) {
  const facts = { ...order.facts, micros: String(order.facts.micros) };
  return { order: { ...order, facts }, generationId, since: Date.now() - (performance.now() - started) };
}

function read({ order, generationId, since }) {
  const facts = { ...order.facts, micros: BigInt(order.facts.micros) };
  return { order: { ...order, facts }, generationId, elapsed: Date.now() - since };
}
