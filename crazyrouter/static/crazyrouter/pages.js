// What the public pages do beyond HTML: every example can be copied. Without this file nothing else is missing.
import { makeCopyButton } from "./playground/dom.js";

for (const figure of document.querySelectorAll(".example")) {
  const what = figure.querySelector("figcaption").textContent;
  figure.append(makeCopyButton(what, () => figure.querySelector("code").textContent));
}
