// What the page knows of a model, and what has become of it since.
import { formatMicros, parseAmount } from "./money.js";

const VERIFICATIONS = { verified: "verified", beta: "Beta" };

/** What the server wrote beside the option: list prices. `micros` is a BigInt, or null without a price. */
export function readOption(option) {
  const facts = JSON.parse(option.dataset.facts);
  return { ...facts, micros: facts.micros === null ? null : BigInt(facts.micros) };
}

/** The same as `GET /v1/models` says it for a key: prices agreed with its account. */
export function readAnswer(answer, known) {
  return {
    ...known,
    micros: answer.pricing ? parseAmount(answer.pricing.amount) : null,
    verification: answer.verification,
    capability: answer.capability,
    sizes: answer.sizes,
    default_size: answer.default_size,
    size_range: answer.size_range && { ...known.size_range, ...answer.size_range },
    max_n: answer.max_n,
  };
}

export function nameVerification(facts) {
  return VERIFICATIONS[facts.verification] ?? facts.verification;
}

/** Sentences about what differs; none where all is as it was shown. `size` and `n` are what is chosen. */
export function describeChanges(before, now, { size, n }) {
  const name = now.id;
  const said = [];
  if (before.micros !== now.micros) {
    said.push(`The price of ${name} is now ${formatMicros(now.micros)} (it was ${formatMicros(before.micros)}).`);
  }
  if (before.verification !== now.verification) {
    said.push(`${name} is now ${nameVerification(now)} (it was ${nameVerification(before)}).`);
  }
  if (describeSizes(before) !== describeSizes(now)) {
    const gone = !now.sizes.includes(size) && (before.sizes.includes(size) || !now.size_range);
    said.push(
      gone
        ? `${name} ${now.size_range ? "no longer lists" : "is no longer sold in"} ${size}; its default, ${now.default_size}, is chosen instead.`
        : `The sizes of ${name} have changed.`,
    );
  }
  if (before.max_n !== now.max_n) {
    const less = n > now.max_n ? `, and ${now.max_n} ${now.max_n === 1 ? "is" : "are"} chosen` : "";
    said.push(`${name} now makes at most ${now.max_n} a request${less}.`);
  }
  return said;
}

function describeSizes({ sizes, default_size, size_range }) {
  const range = size_range && [size_range.min_pixels, size_range.max_pixels, size_range.multiple];
  return JSON.stringify([sizes, default_size, range]);
}

/** In words, what a free size has to be. */
export function describeRule({ min_pixels, max_pixels, multiple, min_side, max_side }) {
  const sides = min_side ? ` from ${min_side} to ${max_side} pixels` : "";
  const least = min_pixels.toLocaleString("en");
  return `Sides are multiples of ${multiple}${sides}; ${least} to ${max_pixels.toLocaleString("en")} pixels in all.`;
}

/** "1664x928" → [1664, 928]; null where it is no size. */
export function parseSize(text) {
  const match = /^([1-9]\d{0,4})[x*]([1-9]\d{0,4})$/.exec(text);
  return match && [Number(match[1]), Number(match[2])];
}
