// The calculator: price times images.
import { formatMicros } from "./playground/money.js";

const model = document.getElementById("calc-model");
const images = document.getElementById("calc-images");
const result = document.getElementById("calc-result");

function calculate() {
  const option = model.selectedOptions[0];
  const wanted = images.value.trim();
  if (!option || !/^[1-9][0-9]{0,9}$/.test(wanted)) {
    result.textContent = "Enter a whole number of images, from 1 on.";
    return;
  }
  const count = BigInt(wanted);
  result.textContent = `${formatMicros(BigInt(option.dataset.micros) * count)} for ${count.toLocaleString("en")} delivered`;
}

document.getElementById("calculator-form").addEventListener("submit", (event) => event.preventDefault());
model.addEventListener("change", calculate);
images.addEventListener("input", calculate);
calculate();
