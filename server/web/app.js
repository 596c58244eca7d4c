"use strict";

const element = (id) => document.getElementById(id);

function show(id, visible) {
  element(id).hidden = !visible;
}

/* Model text only ever becomes text nodes. */
function fillList(list, rows, makeRow) {
  list.replaceChildren(...rows.flatMap(makeRow));
}

function describe(name, text) {
  const box = document.createElement("div");
  const term = document.createElement("dt");
  const value = document.createElement("dd");
  term.textContent = name;
  value.textContent = text;
  box.append(term, value);
  return box;
}

function listItem(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

function requestBody() {
  const body = {
    prompt: element("prompt").value,
    length: element("length").valueAsNumber,
    temperature: element("temperature").valueAsNumber,
  };
  if (element("seed").value !== "") body.seed = element("seed").valueAsNumber;
  if (element("label").value !== "") body.label = element("label").value;
  return body;
}

function showAnswer(answer) {
  element("given").textContent = answer.text.slice(0, answer.text.length - answer.completion.length);
  element("written").textContent = answer.completion;
  const ends = { length: "length reached", eos: "end of text" };
  const time = answer.timings;
  fillList(element("facts"), [
    ["Ended by", ends[answer.finish_reason] || answer.finish_reason],
    ["Tokens", String(answer.usage.completion_tokens)],
    ["Tokens/s", Math.round(time.tokens_per_second).toLocaleString()],
    ["Server time", `${(time.queue_ms + time.prompt_ms + time.generate_ms).toFixed(1)} ms`],
    ["Seed", String(answer.seed)],
  ], ([name, text]) => [describe(name, text)]);
  fillList(element("warnings"), answer.warnings, (text) => [listItem(text)]);
  show("warnings", answer.warnings.length > 0);
  show("result", true);
}

function showProblem(problem) {
  const fields = (problem.errors || []).map((error) => `${error.field}: ${error.message}`);
  element("problem").replaceChildren(document.createTextNode(problem.detail || problem.title));
  if (fields.length > 0) {
    const list = document.createElement("ul");
    fillList(list, fields, (text) => [listItem(text)]);
    element("problem").append(list);
  }
  show("problem", true);
}

async function generate() {
  element("go").disabled = true;
  element("status").textContent = "Generating …";
  show("problem", false);
  try {
    const response = await fetch("/generate", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(requestBody()),
    });
    const document_ = await response.json();
    if (response.ok) showAnswer(document_);
    else showProblem(document_);
    element("status").textContent = response.ok ? "Done." : "";
  } catch (error) {
    showProblem({ detail: `The daemon cannot be reached (${error.message}).` });
    element("status").textContent = "";
  }
  element("go").disabled = false;
}

async function showModel() {
  const response = await fetch("/models");
  const model = (await response.json()).models.find((candidate) => candidate.default);
  element("model").textContent =
    `${model.name} · ${model.layers} × ${model.hidden_size} ${model.cell.toUpperCase()} · ` +
    `${model.parameters.toLocaleString()} parameters · ${model.vocabulary_size} tokens (${model.token_level})`;
  for (const name of model.labels) element("label").append(new Option(name, name));
  show("label-field", model.labels.length > 0);
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});

element("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("form").requestSubmit();
});

showModel().catch(() => { element("model").textContent = "The daemon cannot be reached."; });
