// The public API as this page calls it: on the page's own origin, with the visitor's key and nothing else of theirs.

/** No answer, or none that can be read: what was sent may have arrived. */
export class Lost extends Error {}

/** An error as the API words it. `retryAfter` is in seconds, or null. */
export class Refused extends Error {
  constructor({ message, code, param, generation_id }, answer) {
    super(message);
    this.code = code ?? "";
    this.param = param ?? "";
    this.generationId = generation_id ?? "";
    this.status = answer?.status ?? 0;
    this.requestId = answer?.headers.get("x-request-id") ?? "";
    this.retryAfter = readSeconds(answer);
  }

  /** Faults of ours, in which the order may have been taken nevertheless. */
  get isUncertain() {
    return this.code === "server_error" || this.code === "service_unavailable";
  }
}

/** `{data, requestId, replayed, retryAfter}`. Raises Lost, Refused, and AbortError when the signal says so. */
export async function call(path, { key, body, idempotencyKey, signal } = {}) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  const { answer, text } = await exchange(path, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
    signal,
  });
  const data = parse(text);
  if (data?.error?.message && !answer.ok) throw new Refused(data.error, answer);
  if (!answer.ok || data === undefined) throw new Lost(`The answer could not be read (HTTP ${answer.status}).`);
  return {
    data,
    requestId: answer.headers.get("x-request-id") ?? "",
    replayed: answer.headers.get("idempotent-replayed") === "true",
    retryAfter: readSeconds(answer),
  };
}

async function exchange(path, options) {
  try {
    const answer = await fetch(path, options);
    return { answer, text: await answer.text() };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Lost("The connection was lost.");
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function readSeconds(answer) {
  const value = answer?.headers.get("retry-after");
  return /^\d+$/.test(value ?? "") ? Number(value) : null;
}

/** randomUUID is there only under https and on localhost. */
export function makeIdempotencyKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export function wait(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("Nobody waits any more.", "AbortError"));
    if (signal.aborted) return stop();
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), stop()), { once: true });
  });
}
