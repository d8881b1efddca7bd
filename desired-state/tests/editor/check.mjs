// Opens documents in the language server that editors use, and checks what people would see.
// Run: tests/editor

import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { dirname, join, resolve } from "node:path";

const require = createRequire(import.meta.url);
const rpc = require("vscode-jsonrpc/node");
const server = join(dirname(require.resolve("yaml-language-server/package.json")), "bin/yaml-language-server");
const root = resolve(import.meta.dirname, "../..");

const child = spawn(process.execPath, [server, "--stdio"], { stdio: ["pipe", "pipe", "inherit"] });
const connection = rpc.createMessageConnection(
  new rpc.StreamMessageReader(child.stdout),
  new rpc.StreamMessageWriter(child.stdin),
);
const waiting = new Map();
connection.onNotification("textDocument/publishDiagnostics", ({ uri, diagnostics }) => waiting.get(uri)?.(diagnostics));
connection.onRequest("workspace/configuration", ({ items }) =>
  items.map(({ section }) => (section === "yaml" ? { validate: true, completion: true, hover: true, yamlVersion: "1.2" } : {})));
connection.onRequest("client/registerCapability", () => null);
connection.listen();

await connection.sendRequest("initialize", {
  processId: process.pid,
  rootUri: pathToFileURL(root).href,
  capabilities: { textDocument: { completion: { completionItem: { documentationFormat: ["markdown"] } } }, workspace: { configuration: true } },
});
await connection.sendNotification("initialized", {});

/** Opens a text under a name beside the default document and returns its problems. */
async function open(name, text) {
  const uri = pathToFileURL(join(root, name)).href;
  const diagnostics = new Promise((seen) => waiting.set(uri, seen));
  await connection.sendNotification("textDocument/didOpen", {
    textDocument: { uri, languageId: "yaml", version: 1, text },
  });
  return { uri, diagnostics: await diagnostics };
}

let failures = 0;
function check(what, good, detail = "") {
  console.log(`${good ? "ok  " : "FAIL"} ${what}`);
  if (!good) {
    failures += 1;
    console.log(detail);
  }
}

const documents = ["desired-state.yaml", ...readdirSync(join(root, "examples")).map((name) => `examples/${name}`)];
for (const name of documents) {
  const { diagnostics } = await open(name, readFileSync(join(root, name), "utf8"));
  check(`${name} has no problems`, diagnostics.length === 0, JSON.stringify(diagnostics, null, 1));
}

const header = "# yaml-language-server: $schema=schema/desired-state.v1.json\nversion: 1\ndeployment: home\nusers: []\n";
const mistakes = [
  ["an unknown setting", "sessions: []\nsesion: []\n", 5, /sesion/],
  ["a reserved port", "sessions: [{ name: a, users: [b], port: 51820 }]\n", 4, /./],
  ["a long name", "sessions: [{ name: alice-in-virginia, users: [b] }]\n", 4, /15/],
  ["a bare number as a duration", "defaults: { idleTimeout: 10 }\nsessions: []\n", 4, /string/],
  ["a missing list", "", 1, /sessions/],
];
for (const [index, [what, text, line, message]] of mistakes.entries()) {
  const { diagnostics } = await open(`mistake-${index}.yaml`, header + text);
  const seen = diagnostics.some((problem) => problem.range.start.line === line && message.test(problem.message));
  check(`${what} is underlined`, seen, JSON.stringify(diagnostics, null, 1));
}

const { uri } = await open("completion.yaml", `${header}sessions:\n  - name: one\n    idle\n`);
const completion = await connection.sendRequest("textDocument/completion", {
  textDocument: { uri },
  position: { line: 6, character: 8 },
});
const labels = completion.items.map((item) => item.label);
check("settings are completed", ["idleTimeout", "idleSignal"].every((label) => labels.includes(label)), labels.join(" "));
const hover = await connection.sendRequest("textDocument/hover", { textDocument: { uri }, position: { line: 5, character: 5 } });
check("settings are explained", JSON.stringify(hover).includes("network interface"), JSON.stringify(hover));

connection.dispose();
child.kill();
process.exit(failures === 0 ? 0 : 1);
