/* A request as a command or a program that gets the same text. A token is never in it. */
import { daemon } from "./daemon.js";

function shellText(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/* JSON, but for the names of Python's constants. */
function pythonText(value) {
  if (Array.isArray(value)) return `[${value.map(pythonText).join(", ")}]`;
  if (value === true) return "True";
  if (value === false) return "False";
  return JSON.stringify(value);
}

function curlOf(url, body) {
  const token = daemon.token ? ' \\\n  -H "Authorization: Bearer $LSTMD_TOKEN"' : "";
  return `curl -s ${shellText(url)} -H 'Content-Type: application/json'${token} \\\n  -d ${shellText(JSON.stringify(body))}`;
}

function fetchOf(url, body) {
  const token = daemon.token ? ', Authorization: "Bearer YOUR_TOKEN"' : "";
  return `const response = await fetch(${JSON.stringify(url)}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${token} },
  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),
});
const { text } = await response.json();
console.log(text);`;
}

function pythonOf(url, body) {
  const token = daemon.token ? ', "Authorization": "Bearer " + os.environ["LSTMD_TOKEN"]' : "";
  const fields = Object.entries(body).map(([name, value]) => `    ${JSON.stringify(name)}: ${pythonText(value)},\n`);
  return `import json${daemon.token ? "\nimport os" : ""}
import urllib.request

body = {
${fields.join("")}}
request = urllib.request.Request(
    ${JSON.stringify(url)},
    data=json.dumps(body).encode(),
    headers={"Content-Type": "application/json"${token}},
)
with urllib.request.urlopen(request) as answer:
    print(json.load(answer)["text"])`;
}

export const languages = { curl: curlOf, fetch: fetchOf, Python: pythonOf };

export function codeOf(language, body) {
  return languages[language](`${daemon.baseURL}generate`, body);
}
