// One request as code that sends exactly it. The key is never in it: the code reads it from the environment.
import { find, make, makeCopyButton } from "./dom.js";

const PATH = "/v1/images/generations";
const VARIABLE = "CRAZYROUTER_API_KEY";
/** What the openai package's method takes by name; the rest goes in its extra_body. */
const OPENAI = new Set(["model", "prompt", "size", "n", "response_format"]);
const LANGUAGES = [
  ["curl", writeCurl],
  ["Python", writePython],
  ["Node", writeNode],
];

export function writeCurl(baseUrl, body, idempotencyKey) {
  return [
    `curl ${baseUrl}${PATH} \\`,
    `  -H "Authorization: Bearer $${VARIABLE}" \\`,
    `  -H "Content-Type: application/json" \\`,
    `  -H "Idempotency-Key: ${idempotencyKey}" \\`,
    `  -d ${quoteShell(JSON.stringify(body, null, 2).replaceAll("\n", "\n  "))}`,
  ].join("\n");
}

export function writePython(baseUrl, body, idempotencyKey) {
  const own = Object.entries(body).filter(([name]) => OPENAI.has(name));
  const extra = Object.entries(body).filter(([name]) => !OPENAI.has(name));
  const pairs = extra.map(([name, value]) => `"${name}": ${writeLiteral(value)}`);
  const lines = [
    ...own.map(([name, value]) => `${name}=${writeLiteral(value)}`),
    ...(extra.length ? [`extra_body={${pairs.join(", ")}}`] : []),
    `extra_headers={"Idempotency-Key": "${idempotencyKey}"}`,
  ];
  const isData = body.response_format === "b64_json";
  return [
    ...(isData ? ["import base64"] : []),
    "import os",
    ...(isData ? ["from pathlib import Path"] : []),
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${baseUrl}/v1", api_key=os.environ["${VARIABLE}"])`,
    "answer = client.images.generate(",
    ...lines.map((line) => `    ${line},`),
    ")",
    ...(isData
      ? [
          "for number, image in enumerate(answer.data, start=1):",
          '    Path(f"image-{number}.png").write_bytes(base64.b64decode(image.b64_json))',
        ]
      : ["for image in answer.data:", "    print(image.url)"]),
  ].join("\n");
}

export function writeNode(baseUrl, body, idempotencyKey) {
  const isData = body.response_format === "b64_json";
  return [
    ...(isData ? ['import { writeFile } from "node:fs/promises";', ""] : []),
    `const answer = await fetch("${baseUrl}${PATH}", {`,
    '  method: "POST",',
    "  headers: {",
    `    Authorization: \`Bearer \${process.env.${VARIABLE}}\`,`,
    '    "Content-Type": "application/json",',
    `    "Idempotency-Key": "${idempotencyKey}",`,
    "  },",
    `  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),`,
    "});",
    "const { data, error } = await answer.json();",
    "if (error) throw new Error(`${error.code}: ${error.message}`);",
    ...(isData
      ? ['for (const [at, image] of data.entries()) await writeFile(`image-${at + 1}.png`, image.b64_json, "base64");']
      : ["for (const image of data) console.log(image.url);"]),
  ].join("\n");
}

/** Single quotes, which no shell looks into. */
function quoteShell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function writeLiteral(value) {
  return typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value);
}

/** The examples of the page; returns how to show another request in them. */
export function openSnippets(baseUrl) {
  const group = make("fieldset", { class: "examples" }, make("legend", { class: "visually-hidden" }, "Language of the example"));
  const figures = LANGUAGES.map(([name], at) => {
    const id = `request-${name.toLowerCase()}`;
    const input = make("input", { type: "radio", name: "request-language", id });
    input.checked = at === 0;
    group.append(input, make("label", { for: id }, name));
    return makeFigure(name);
  });
  group.append(...figures);
  find("request").append(group);
  return (body, idempotencyKey) => {
    for (const [at, [, write]] of LANGUAGES.entries()) {
      figures[at].querySelector("code").textContent = write(baseUrl, body, idempotencyKey);
    }
  };
}

export function makeFigure(name) {
  const code = make("code");
  const pre = make("pre", { tabindex: 0, role: "group", "aria-label": `The request with ${name}` }, code);
  return make("figure", { class: "example" }, make("figcaption", {}, name), pre, makeCopyButton(name, () => code.textContent));
}
