// One order on the wall: empty frames, how far it is, and what came of it. Frames have their final size from the
// beginning, so nothing moves when pictures arrive.
import { announce, count, make } from "./dom.js";
import { parseSize } from "./facts.js";
import { formatMicros } from "./money.js";
import { makeFigure, writeCurl } from "./snippets.js";

/** `order` is {body, facts, size, n, idempotencyKey, baseUrl}; `acts` are what its buttons do: {stop, resume}. */
export class Run {
  constructor(order, acts) {
    this.order = order;
    this.acts = acts;
    this.generationId = "";
    this.hasPictures = false;
    this.isOpen = false;
    this.status = make("p", { class: "status" });
    this.gauge = make("div", { class: "gauge" });
    this.frames = make("div", { class: "hung" });
    this.details = make("details", {}, make("summary", {}, "Details"));
    this.element = make("article", { class: "run" }, this.makeHead(), this.status, this.gauge, this.frames, this.details);
    this.hang();
    this.showDetails();
  }

  makeHead() {
    const { body, facts, size, n } = this.order;
    const words = `${facts.id} · ${size.replace(/[x*]/, " × ")} · ${count(n, "image", "images")}`;
    this.title = make("h3", { tabindex: -1 }, body.prompt.trim() || "Without a prompt");
    return make("header", {}, this.title, make("p", { class: "quiet small" }, words));
  }

  /** Empty frames in the proportion that was ordered. */
  hang() {
    const { size, n } = this.order;
    const [width, height] = parseSize(size) ?? [1, 1];
    this.keepFocus(this.frames);
    this.frames.className = `hung of-${Math.min(n, 3)}`;
    this.frames.style.setProperty("--ratio", width / height);
    this.frames.replaceChildren(
      ...Array.from({ length: n }, () => make("figure", {}, make("div", { class: "frame" }), make("figcaption"))),
    );
  }

  // --- while it runs ---

  showCheck() {
    this.say("Looking whether the price is still what you saw …");
    this.gauge.replaceChildren();
  }

  /** Seconds count up beside the usual time; without one, nobody pretends to know how far it is. */
  showProgress() {
    this.hang();
    this.showDetails();
    const usual = parseFloat(this.order.facts.typical) || 0;
    const bar = make("progress", { "aria-label": "Time against the usual time", max: usual || 1 });
    const seconds = make("span", { class: "seconds", "aria-hidden": "true" });
    const stop = make("button", { type: "button", class: "button small" }, "Stop waiting");
    stop.addEventListener("click", () => this.acts.stop());
    this.gauge.replaceChildren(bar, seconds, stop);
    this.element.classList.add("busy");
    this.say(usual ? `Drawing. Half of the orders that brought images took no longer than ${this.order.facts.typical}.` : "Drawing.");
    this.started ??= performance.now();
    this.isOpen = true;
    clearInterval(this.timer);
    this.timer = setInterval(() => this.tick(bar, seconds, usual), 200);
    this.tick(bar, seconds, usual);
  }

  tick(bar, seconds, usual) {
    const elapsed = this.readElapsed();
    seconds.textContent = `${Math.floor(elapsed)} s`;
    if (usual && elapsed < usual) bar.value = elapsed;
    else bar.removeAttribute("value");
  }

  readElapsed() {
    return (performance.now() - this.started) / 1000;
  }

  showCollecting(refused) {
    this.say(`${refused.message} Asking for it until it has ended.`);
  }

  // --- how it ended ---

  end(words) {
    clearInterval(this.timer);
    this.element.classList.remove("busy");
    this.keepFocus(this.gauge);
    this.gauge.replaceChildren();
    this.say(words);
  }

  /** `pictures` are {url} or {b64_json}, fewer than were ordered if the rest could not be made. */
  showPictures(pictures, { requestId, replayed }) {
    const { n, facts } = this.order;
    const charge = formatMicros(facts.micros * BigInt(pictures.length));
    const came = pictures.length === n ? count(n, "image is", "images are") : `${pictures.length} of ${n} images are`;
    const again = replayed ? " This is the answer to the first try: it was not bought twice." : "";
    this.hasPictures = true;
    this.isOpen = false;
    this.end(`${came} ready after ${this.readElapsed().toFixed(1)} s.${again}`);
    const product = `${formatMicros(facts.micros)} × ${pictures.length}`;
    this.charge = make("strong", {}, `${charge} charged`);
    [...this.frames.children].forEach((figure, at) => this.fill(figure, pictures[at], at));
    const request = make("span", { class: "quiet small" }, "Request ", make("code", {}, requestId));
    this.gauge.replaceChildren(make("span", {}, this.charge, ` (${product})`), request);
    this.showDetails(pictures);
    announce(`${came} ready. ${charge} charged.`);
  }

  /** What the books say, where that is known. */
  showCharge(amount) {
    this.charge.textContent = `${amount} charged`;
  }

  fill(figure, picture, at) {
    const { body, n } = this.order;
    const [frame, caption] = figure.children;
    if (!picture) {
      figure.classList.add("missing");
      caption.replaceChildren("Could not be made; not charged.");
      return;
    }
    const address = locate(picture);
    const name = `${this.order.facts.id}-${this.generationId || "image"}-${at + 1}.png`;
    const image = make("img", { alt: n === 1 ? body.prompt : `${at + 1} of ${n}: ${body.prompt}` });
    const real = make("span", { class: "real" });
    const which = `image ${at + 1}`;
    const download = make("a", { href: address, download: name, "aria-label": `Download ${which}` }, "Download");
    const open = make("a", { href: address, target: "_blank", rel: "noopener", "aria-label": `Open ${which}` }, "Open");
    image.addEventListener("load", () => (real.textContent = `${image.naturalWidth} × ${image.naturalHeight}`));
    image.addEventListener("error", () => (real.textContent = "It could not be loaded."));
    image.src = address;
    frame.replaceChildren(image);
    caption.replaceChildren(real, download, open);
  }

  /** The API's own words, and where they are explained. */
  showRefusal(refused) {
    this.isOpen = refused.isUncertain;
    this.end("No image came, and nothing was charged.");
    const code = refused.code && make("a", { href: `/docs/errors#error-${refused.code}` }, make("code", {}, refused.code));
    const status = [refused.status ? `HTTP ${refused.status}` : "", refused.requestId].filter(Boolean).join(" · ");
    const again = this.makeWait(refused.retryAfter);
    this.showNote(make("p", { class: "message" }, refused.message), make("p", { class: "row small quiet" }, code, status), again);
    if (refused.isUncertain) {
      this.end("It is not certain whether the order was taken.");
      this.offer("Ask again");
    }
    announce(refused.message);
  }

  makeWait(seconds) {
    if (seconds === null) return "";
    const words = make("p", { class: "retry" });
    const until = performance.now() + seconds * 1000;
    const tell = () => {
      const left = Math.ceil((until - performance.now()) / 1000);
      words.textContent = left > 0 ? `You can try again in ${left} s.` : "You can try again now.";
      if (left <= 0) clearInterval(timer);
    };
    const timer = setInterval(tell, 500);
    tell();
    return words;
  }

  showLost(message) {
    this.end("It is not certain whether the order was taken.");
    const words = "Asking again sends the same request under the same Idempotency-Key: whatever was taken the first time is not bought twice.";
    this.showNote(make("p", { class: "message" }, message), make("p", {}, words));
    this.offer("Ask again");
    announce(`${message} ${words}`);
  }

  showStopped() {
    this.end("You stopped waiting.");
    const words = "The order goes on without you, and is charged if the images come. They stay for you to collect.";
    this.showNote(make("p", { class: "message" }, words));
    this.offer("Collect it").focus();
    announce(words);
  }

  /** Asking again could cost more than it said: say so, and let them press once more. */
  showChange(words) {
    this.end("Nothing was sent again.");
    this.showNote(make("p", { class: "message" }, `${words} If your order was not taken the first time, asking again orders on these terms.`));
    this.offer("Ask again").focus();
  }

  showUnsent() {
    this.hang();
    this.isOpen = false;
    this.end("Nothing was sent.");
  }

  offer(words) {
    const button = make("button", { type: "button", class: "button" }, words);
    button.addEventListener("click", () => this.acts.resume());
    this.note.append(button);
    return button;
  }

  /** In the place of the frames, and no lower than they were. */
  showNote(...parts) {
    this.note = make("div", { class: "note" }, ...parts);
    this.frames.style.minHeight = `${this.frames.offsetHeight}px`;
    this.frames.className = "hung told";
    this.frames.replaceChildren(this.note);
  }

  /** The request as it was sent, and what the model made of the prompt where it says so. */
  showDetails(pictures = []) {
    const { baseUrl, body, idempotencyKey } = this.order;
    const figure = makeFigure("curl");
    figure.querySelector("code").textContent = writeCurl(baseUrl, body, idempotencyKey);
    const rewritten = pictures.flatMap(({ revised_prompt }, at) =>
      revised_prompt ? [make("p", { class: "small" }, `Image ${at + 1} was drawn from: ${revised_prompt}`)] : [],
    );
    this.details.replaceChildren(this.details.firstChild, ...rewritten, figure);
  }

  /** Whoever is on a button that goes does not have to start again at the top of the page. */
  keepFocus(part) {
    if (part.contains(document.activeElement)) this.title.focus({ preventScroll: true });
  }

  /** Into sight, where it begins out of it: on a phone it is below the form. */
  come() {
    const { top } = this.element.getBoundingClientRect();
    if (top < 0 || top > innerHeight * 0.6) this.element.scrollIntoView({ block: "start" });
  }

  say(words) {
    this.status.textContent = words;
  }
}

/** Pictures are asked for where this page comes from: another origin's could not be downloaded by a link. */
function locate(picture) {
  if (picture.url) return new URL(picture.url).pathname;
  const bytes = Uint8Array.from(atob(picture.b64_json), (sign) => sign.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
}
