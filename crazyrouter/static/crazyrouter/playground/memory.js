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
  if (run.isOpen) open.add(run);
  else open.delete(run);
  const orders = [...open].filter(({ order }) => order.key === key).map(describe);
  store((tab) => (orders.length ? tab.setItem(ORDERS, JSON.stringify(orders)) : tab.removeItem(ORDERS)));
}

function describe({ order, generationId, started }) {
  const facts = { ...order.facts, micros: String(order.facts.micros) };
  return { order: { ...order, facts }, generationId, since: Date.now() - performance.now() + started };
}

/** The orders of this key that the page was left with, oldest first: `since` is when each was sent, by the clock. */
export function recallOrders(key) {
  try {
    const orders = JSON.parse(store((tab) => tab.getItem(ORDERS))) ?? [];
    for (const { order } of orders) order.facts.micros = BigInt(order.facts.micros);
    return orders.filter(({ order }) => order.key === key);
  } catch {
    return [];
  }
}
