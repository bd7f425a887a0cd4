// Sizes as frames in true proportion: the picker, and the empty wall before anything hangs on it.
import { draw, find, make, setAttributes } from "./dom.js";
import { describeRule, parseSize } from "./facts.js";

const LONGEST = 46;
const WALL = { width: 640, height: 320, gap: 28 };

const picker = find("sizes");
const free = find("free-size");

/** What is chosen: a size of the list, or whatever was typed. */
export function readSize() {
  const chosen = picker.querySelector("input:checked");
  return chosen?.value || free.value.trim();
}

/** The listed sizes, and before them the default where a range of sizes alone allows it. */
const listSizes = ({ sizes, default_size }) => (sizes.includes(default_size) ? sizes : [default_size, ...sizes]);

const findLongest = (facts) => Math.max(...listSizes(facts).flatMap((size) => parseSize(size)));

/** Offer these; what was chosen stays chosen while it is sold, else it is the default. */
export function offerSizes(facts) {
  const sizes = listSizes(facts);
  const longest = findLongest(facts);
  const wanted = readSize();
  const wasFree = picker.querySelector(".other input")?.checked;
  const isFree = Boolean(facts.size_range && wasFree);
  const chosen = sizes.includes(wanted) ? wanted : facts.default_size;
  const labels = sizes.map((size) => makeChoice(size, longest, { checked: !isFree && size === chosen }));
  if (facts.size_range) labels.push(makeChoice("", longest, { checked: isFree }));
  picker.replaceChildren(...labels);
  find("free").hidden = !facts.size_range;
  find("free-rule").textContent = facts.size_range ? describeRule(facts.size_range) : "";
}

function makeChoice(size, longest, { checked }) {
  const input = make("input", { type: "radio", name: "size", value: size });
  input.checked = checked;
  const frame = draw("svg", { "aria-hidden": "true" }, draw("rect"));
  drawFrame(frame, size ? parseSize(size) : [longest * 0.8, longest * 0.8], longest);
  return make("label", { class: size ? "size" : "size other" }, input, frame, make("span", {}, size || "other"));
}

function drawFrame(svg, [width, height], longest) {
  const [w, h] = [width, height].map((side) => Math.max(6, Math.min(LONGEST, (side * LONGEST) / longest)));
  setAttributes(svg, { width: w, height: h, viewBox: `0 0 ${w} ${h}` });
  setAttributes(svg.querySelector("rect"), { x: 1, y: 1, width: w - 2, height: h - 2 });
}

/** Who types a size means it: "other" is chosen. */
export function watchSizes(facts, changed) {
  free.addEventListener("input", () => {
    const other = picker.querySelector(".other");
    if (!other) return;
    other.querySelector("input").checked = true;
    const size = parseSize(free.value.trim());
    if (size) drawFrame(other.querySelector("svg"), size, Math.max(findLongest(facts()), ...size));
    changed();
  });
  picker.addEventListener("change", () => {
    if (picker.querySelector(".other input")?.checked) free.focus();
  });
}

/** The empty wall: n frames of this size, as large as there is room. */
export function drawWall(size, n) {
  const [width, height] = parseSize(size) ?? [1, 1];
  const { columns, rows, x: roomX, y: roomY } = arrange(width / height, n);
  const scale = Math.min(roomX / width, roomY / height);
  const [w, h] = [width * scale, height * scale];
  const frames = Array.from({ length: n }, (_, at) => {
    const inRow = at < columns * (rows - 1) ? columns : n - columns * (rows - 1);
    const left = (WALL.width - inRow * w - (inRow - 1) * WALL.gap) / 2;
    const top = (WALL.height - rows * h - (rows - 1) * WALL.gap) / 2;
    const x = left + (at % columns) * (w + WALL.gap);
    return draw("rect", { x, y: top + Math.floor(at / columns) * (h + WALL.gap), width: w, height: h });
  });
  const svg = find("preview");
  if (!svg) return;
  svg.setAttribute("viewBox", `0 0 ${WALL.width} ${WALL.height}`);
  svg.replaceChildren(...frames);
  find("preview-words").textContent = `${n === 1 ? "One picture" : `${n} pictures`}, ${size.replace(/[x*]/, " × ")}`;
}

/** The columns and rows that leave the largest frames, and the room for each. */
function arrange(ratio, n) {
  const fit = ({ x, y }) => Math.min(x, y * ratio);
  const ways = Array.from({ length: n }, (_, at) => divide(at + 1, Math.ceil(n / (at + 1))));
  return ways.reduce((best, one) => (fit(one) > fit(best) ? one : best));
}

function divide(columns, rows) {
  const share = (length, parts) => (length - WALL.gap * (parts + 1)) / parts;
  return { columns, rows, x: share(WALL.width, columns), y: share(WALL.height, rows) };
}
