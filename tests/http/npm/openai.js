// Asks a daemon with the official client and prints what came as one JSON document: node openai.js BASE_URL MODEL [LENGTH]
"use strict";

const OpenAI = require("openai");

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0 });
const fields = { model, prompt: "Today ", max_tokens: 40, seed: 5, temperature: 0.8 };

async function collect(stream) {
  const texts = {};
  const finish = {};
  let usage = null;
  let chunks = 0;
  for await (const chunk of stream) {
    chunks += 1;
    if (chunk.usage) usage = chunk.usage;
    for (const choice of chunk.choices) {
      texts[choice.index] = (texts[choice.index] || "") + choice.text;
      if (choice.finish_reason) finish[choice.index] = choice.finish_reason;
    }
  }
  return { texts, finish, usage, chunks };
}

async function failure(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, param: error.param, code: error.code, message: error.message };
  }
}

/* What a client with its own idea of retries makes of a text that cannot be finished. */
async function patient() {
  const client = new OpenAI({ baseURL, apiKey: "unused" });
  console.log(JSON.stringify(await failure(client.completions.create({ model, prompt: "a", max_tokens: Number(process.argv[4]) }))));
}

async function main() {
  const out = {};
  out.models = [];
  for await (const one of client.models.list()) out.models.push(one.id);
  out.model = await client.models.retrieve(model);
  out.whole = await client.completions.create(fields);
  out.several = await client.completions.create({ ...fields, n: 3, logprobs: 2, stop: ["e"] });
  out.echo = await client.completions.create({ ...fields, echo: true });
  const prompts = ["Today ", "the end"];
  out.prompts = await client.completions.create({ ...fields, prompt: prompts, n: 2 });
  out.ids = await client.completions.create({ ...fields, prompt: JSON.parse(process.env.IDS), n: 2 });
  out.best = await client.completions.create({ ...fields, best_of: 4, user: "somebody" });
  out.scored = await client.completions.create({ ...fields, prompt: prompts, max_tokens: 0, echo: true, logprobs: 1 });
  out.promptStreams = await collect(await client.completions.create({ ...fields, prompt: prompts, n: 2, stream: true }));
  out.wrongPrompt = await failure(client.completions.create({ ...fields, prompt: ["a", []].concat([[-1]]) }));
  out.stream = await collect(
    await client.completions.create({ ...fields, stream: true, stream_options: { include_usage: true } }));
  out.streams = await collect(await client.completions.create({ ...fields, stream: true, n: 3, echo: true }));
  out.wrong = await failure(client.completions.create({ ...fields, top_p: 7 }));
  out.none = await failure(client.completions.create({ ...fields, model: "none" }));
  out.lost = await failure(client.models.retrieve("none"));
  console.log(JSON.stringify(out));
}

(process.argv[4] ? patient() : main()).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
