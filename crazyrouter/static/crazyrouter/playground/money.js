// Amounts in whole micro-units (10⁻⁶ CNY) as BigInt, so that no digit is ever a rounding error.
const MICROS = 1000000n;

/** "0.20" → 200000n; a sign is allowed. */
export function parseAmount(text) {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d{1,6}))?$/.exec(text);
  const micros = BigInt(whole) * MICROS + BigInt(fraction.padEnd(6, "0"));
  return sign ? -micros : micros;
}

/** 200000n → "¥0.20": two to six decimals. */
export function formatMicros(micros) {
  const size = micros < 0n ? -micros : micros;
  const fraction = (size % MICROS).toString().padStart(6, "0").replace(/0{1,4}$/, "");
  return `${micros < 0n ? "-" : ""}¥${(size / MICROS).toLocaleString("en")}.${fraction}`;
}
