"""client.js in node and in Chromium. In Chromium the page has another origin than the daemon."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import warnings

import pytest
import yaml

from browser import FAILED_REQUEST, PageError
from conftest import ADMIN, DEADLINE, ROOT, Daemon
from test_npm import node

TOKEN = "generate-token-of-the-tests"
FOREVER = 10_000_000
ONE_SLOT = {"engine.threads": 1, "engine.max_batch": 1, "limits.queue": 0, "limits.max_length": FOREVER}
SCHEMAS = yaml.safe_load((ROOT / "openapi.yaml").read_text())["components"]["schemas"]
TYPES = (ROOT / "server/web/client.d.ts").read_text()

# The tests' scripts use this besides the module's exports. caught(promise) returns what the promise threw.
TOOLS = """
const { Lstmd, LstmdError, ProblemError, ConnectionError, TextStream, Writer } = client;
const lstmd = new Lstmd(OPTIONS);
const caught = async (promise) => {
  try { await promise; return null; } catch (error) {
    const { name, message, status, fields, requestId, retryAfter } = error;
    return { name, message, status, fields, requestId, retryAfter, ours: error instanceof LstmdError };
  }
};
const collect = async (stream) => { const parts = []; for await (const part of stream) parts.push(part); return parts; };
"""


def script(daemon, code, options):
    options = {"baseURL": f"http://{daemon.address}:{daemon.port}", **options}
    return TOOLS.replace("OPTIONS", json.dumps(options)) + code


class Node:
    """Runs a script in node. The script imports modules from files."""

    def __init__(self, directory):
        self.directory = directory

    def __call__(self, daemon, code, **options):
        (self.directory / "client.mjs").write_bytes(daemon.get("/client.js").body)
        run = f"const run = async () => {{ {script(daemon, code, options)} }};"
        (self.directory / "run.mjs").write_text(
            f'import * as client from "./client.mjs"; {run} console.log(JSON.stringify(await run()) ?? "null");')
        result = node(self.directory, "node", "run.mjs")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


class Page:
    """Runs a script in a page. The page imports the module from the daemon, and the client asks that daemon."""

    def __init__(self, chromium, pages):
        self.chromium, self.pages = chromium, pages

    def __call__(self, daemon, code, **options):
        url = f"http://{daemon.address}:{daemon.port}/client.js"
        code = script(daemon, code, {"baseURL": None, **options}).replace('"baseURL": null', '"baseURL": undefined')
        # Scripts provoke refusals and broken connections, and Chromium writes a line for each.
        with self.chromium.page(self.pages.origin + "/", allow=[FAILED_REQUEST, "CORS policy"]) as page:
            return page.evaluate(f'(async () => {{ const client = await import("{url}"); {code} }})()')


@pytest.fixture(params=["node", "chromium"])
def js(request, tmp_path):
    if request.param == "chromium":
        return Page(request.getfixturevalue("chromium"), request.getfixturevalue("pages"))
    if not shutil.which("node"):
        warnings.warn("client.js is NOT tested in node: it is not installed")
        pytest.skip("node is not installed")
    return Node(tmp_path)


@pytest.fixture(scope="module")
def daemon(models, pages):
    """The tests' pages may read this daemon's answers."""
    running = Daemon(models["tiny"], {"server.cors_origins": pages.origin, "limits.max_length": FOREVER})
    yield running
    running.close()


@pytest.fixture
def start_open(start, pages):
    """Like start(), but the tests' pages may read the answers."""
    return lambda model="tiny", settings=(): start(model, {"server.cors_origins": pages.origin, **dict(settings)})


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end


def sequences(daemon):
    return int(re.search(r"^lstmd_sequences{.*} (\d+)", daemon.get("/metrics").body.decode(), re.M)[1])


def lasting(answer):
    """Returns the part of an answer that depends on the request only."""
    usage = {key: value for key, value in answer["usage"].items() if key != "cached_tokens"}
    return {**{key: value for key, value in answer.items() if key not in ("id", "timings")}, "usage": usage}


def served(daemon, status, route="/generate"):
    """Counts in the log the requests of a route that got this status."""
    return sum(f"route={route} " in line and f"status={status}" in line for line in daemon.lines)


# --- Answers ---


def test_every_call_gives_what_the_daemon_answers(daemon, js):
    fields = {"prompt": "Today ", "length": 30, "seed": 3, "logprobs": 2}
    got = js(daemon, f"""return {{
      generate: await lstmd.generate({json.dumps(fields)}),
      nothing: await lstmd.generate(),
      score: await lstmd.score({{ text: "abc" }}),
      state: await lstmd.state({{ text: "abc", as: "numbers" }}),
      tokenize: await lstmd.tokenize({{ text: "abc" }}),
      detokenize: await lstmd.detokenize({{ ids: [1, 2] }}),
      models: await lstmd.models(),
      model: await lstmd.model("tiny"),
      call: await lstmd.call("v1/models"),
      baseURL: lstmd.baseURL,
    }};""")
    assert lasting(got["generate"]) == lasting(daemon.generate(**fields))
    assert got["nothing"]["usage"]["completion_tokens"] == 100
    assert got["score"] == daemon.post("/score", {"text": "abc"}).json()
    assert got["state"] == daemon.post("/state", {"text": "abc", "as": "numbers"}).json()
    assert got["tokenize"] == daemon.post("/tokenize", {"text": "abc"}).json()
    assert got["detokenize"] == daemon.post("/detokenize", {"ids": [1, 2]}).json()
    assert got["models"] == daemon.get("/models").json()["models"]
    assert got["model"] == daemon.get("/models/tiny").json()
    assert got["call"] == daemon.get("/v1/models").json()
    assert got["baseURL"] == f"http://{daemon.address}:{daemon.port}/"


@pytest.mark.parametrize("fields", [{}, {"logprobs": 3}, {"n": 3, "logprobs": 1, "return_state": True}, {"stop": ["a", "€"]}, {"prompt": "aß"}])
def test_stream_is_the_text(daemon, js, fields):
    fields = {"prompt": "Today ", "length": 80, "seed": 5, "logit_bias": {"€": 3, "é": 3}, **fields}
    got = js(daemon, f"""
      const stream = lstmd.stream({json.dumps(fields)});
      const parts = await collect(stream);
      const whole = await lstmd.stream({json.dumps(fields)}).result();
      const events = await collect(lstmd.stream({json.dumps(fields)}).events());
      return {{ parts, result: await stream.result(), whole, events }};""")
    answer = daemon.generate(**fields)
    assert len(got["parts"]) > 0 and "".join(got["parts"]) == answer["completion"]
    assert lasting(got["result"]) == lasting(got["whole"]) == lasting(answer)
    assert {event["index"] for event in got["events"]} == set(range(fields.get("n", 1)))
    assert "".join(event["delta"] for event in got["events"] if event["index"] == 0) == answer["completion"]


def test_characters_whose_bytes_come_apart(daemon, js):
    """A network may cut a stream at any byte."""
    fields = {"prompt": "a", "length": 40, "seed": 2, "logit_bias": {"€": 9, "é": 9}}
    parts = js(daemon, f"""
      const bytewise = async (url, options) => {{
        const response = await fetch(url, options);
        const bytes = new Uint8Array(await response.arrayBuffer());
        let at = 0;
        const body = new ReadableStream({{
          pull(controller) {{
            if (at === bytes.length) controller.close(); else controller.enqueue(bytes.slice(at, ++at));
          }}
        }});
        return new Response(body, {{ headers: response.headers }});
      }};
      return collect(new Lstmd({{ baseURL: lstmd.baseURL, fetch: bytewise }}).stream({json.dumps(fields)}));""")
    assert "".join(parts) == daemon.generate(**fields)["completion"] and "€" in "".join(parts)


def test_any_route(start_open, tmp_path, js):
    """Server-sent events, another method, a body that is no JSON, an answer without content."""
    daemon = start_open("tiny", {"server.state_dir": tmp_path / "state"})
    got = js(daemon, """
      const job = await lstmd.call("train", { model: "m", text: "abc ".repeat(50), validation: 0, epochs: 1, hidden: 4 });
      const events = [];
      for await (const event of lstmd.events(`train/${job.id}/events`)) events.push(event);
      const headers = { Accept: "text/csv" };
      const curve = await (await lstmd.request(`train/${job.id}/metrics`, undefined, { headers })).text();
      const dataset = await lstmd.call("datasets/d?format=text", new Blob(["one two"]), { method: "PUT" });
      return { events, curve, dataset, gone: await lstmd.call("datasets/d", undefined, { method: "DELETE" }) };
    """, token=ADMIN)
    states = [json.loads(event["data"])["state"] for event in got["events"] if event["type"] == "state"]
    assert states[-1] == "succeeded" and all(event["id"] for event in got["events"])
    assert got["curve"].startswith("step,") and got["dataset"]["name"] == "d" and got["gone"] is None


# --- Errors ---


def test_problems_are_typed(daemon, js):
    wrong, none, lost, streamed = js(daemon, """return [
      await caught(lstmd.generate({ length: 0, temperature: -1 })),
      await caught(lstmd.generate({ model: "none" })),
      await caught(lstmd.model("no/ne")),
      await caught(collect(lstmd.stream({ promt: "a" }))),
    ];""")
    assert (wrong["name"], wrong["status"], set(wrong["fields"])) == ("ProblemError", 422, {"length", "temperature"})
    assert wrong["ours"] and wrong["message"] and wrong["retryAfter"] is None
    daemon.wait_log(f"{re.escape(wrong['requestId'])}.*status=422")
    assert (none["status"], set(none["fields"])) == (daemon.post("/generate", {"model": "none"}).status, {"model"})
    assert (lost["status"], lost["fields"]) == (404, {})
    assert (streamed["status"], set(streamed["fields"])) == (422, {"promt"})


def test_token(start_open, js):
    daemon = start_open("tiny", {"auth.generate_tokens": TOKEN})
    problem, answer = js(daemon, f"""
      const problem = await caught(lstmd.generate({{ length: 3 }}));
      lstmd.token = "{TOKEN}";
      return [problem, await lstmd.generate({{ length: 3 }})];""")
    assert problem["status"] == 401 and answer["usage"]["completion_tokens"] == 3


def test_answers_that_are_not_the_daemon_s(daemon, js):
    page, odd, text, broken, none = js(daemon, """
      const from = (...answer) => new Lstmd({ baseURL: lstmd.baseURL, fetch: async () => new Response(...answer) });
      return [
        await caught(from("<h1>Bad Gateway</h1>", { status: 502 }).generate()),
        await caught(from("null", { status: 500 }).generate()),
        await caught(from("<h1>Welcome</h1>").generate()),
        await caught(collect(from('data: {"index":0,"delta":"a"}\\n\\ndata: {"ind').stream())),
        await caught(collect(from("").stream())),
      ];""")
    assert (page["name"], page["status"], page["requestId"]) == ("ProblemError", 502, None) and "502" in page["message"]
    assert (odd["name"], odd["status"]) == ("ProblemError", 500)
    for error in (text, broken, none):
        assert error["name"] == "ConnectionError" and error["ours"]


def test_daemon_that_is_not_there(daemon, js):
    with socket.socket() as taken:  # bound, not listening: no other program gets the port
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        errors = js(daemon, """return [
          await caught(lstmd.generate()), await caught(collect(lstmd.stream())), await caught(lstmd.stream().result())];""", baseURL=base)
    assert [error["name"] for error in errors] == ["ConnectionError"] * 3


def test_failure_in_a_stream(start_open, js):
    """The client does not retry a request that timed out: it would take as long again."""
    daemon = start_open("tiny", {"limits.request_timeout": 1, "limits.max_length": FOREVER})
    error, again, text, whole = js(daemon, f"""
      let text = "";
      const stream = lstmd.stream({{ prompt: "a", length: {FOREVER} }});
      const error = await caught((async () => {{ for await (const part of stream) text += part; }})());
      return [error, await caught(stream.result()), text.length, await caught(lstmd.generate({{ length: {FOREVER} }}))];""")
    assert (error["name"], error["status"]) == ("ProblemError", 503) and "limits.request_timeout" in error["message"]
    assert error["requestId"] and again["message"] == error["message"] and text > 100
    assert (whole["status"], whole["retryAfter"]) == (503, None)
    assert sum("method=POST" in line for line in daemon.lines) == 2


def test_base_url(daemon, js):
    error, *urls = js(daemon, """
      const urls = ["http://x/a", "http://x/a/", "http://x"].map((baseURL) => new Lstmd({ baseURL }).baseURL);
      return [await caught((async () => new Lstmd({ baseURL: "file:///a/" }))()), ...urls];""")
    assert error["name"] == "TypeError" and urls == ["http://x/a/", "http://x/a/", "http://x/"]


# --- Aborts ---


@pytest.mark.parametrize("way", ["generate", "stream", "break", "result"])
def test_an_abort_ends_the_work(daemon, js, way):
    fields = json.dumps({"prompt": "a", "length": FOREVER})
    ways = {
        "generate": f"""
          const call = lstmd.generate({fields}, {{ signal }});
          while (!/^lstmd_sequences\\{{.*\\}} 1$/m.test(await (await fetch(lstmd.baseURL + "metrics")).text()));
          halt.abort();
          return caught(call);""",
        "stream": f"""return caught((async () => {{
          for await (const _ of lstmd.stream({fields}, {{ signal }})) halt.abort(); }})());""",
        "break": f"""
          const stream = lstmd.stream({fields});
          for await (const _ of stream) break;
          return caught(stream.result());""",
        "result": f"""
          const stream = lstmd.stream({fields}, {{ signal }});
          await stream.events().next();
          const result = stream.result();
          halt.abort();
          return caught(result);""",
    }
    # node ends only when no connection is open, so this also shows that none is left
    error = js(daemon, "const halt = new AbortController(); const { signal } = halt;" + ways[way])
    assert error["name"] == ("LstmdError" if way == "break" else "AbortError"), error
    wait_until(lambda: sequences(daemon) == 0)


def test_abort_before_and_between(start_open, js):
    """With an aborted signal the client sends nothing. An abort during a wait ends the wait."""
    daemon = start_open("tiny", {"auth.generate_tokens": TOKEN})
    before, between, asked = js(daemon, """
      const before = await caught(lstmd.generate({}, { signal: AbortSignal.abort() }));
      let asked = 0;
      const halt = new AbortController();
      const busy = async () => { asked++; return new Response("{}", { status: 503, headers: { "Retry-After": "3000" } }); };
      const call = new Lstmd({ baseURL: lstmd.baseURL, fetch: busy, maxWait: 3600 }).generate({}, { signal: halt.signal });
      setTimeout(() => halt.abort(), 0);
      return [before, await caught(call), asked];""")
    assert (before["name"], between["name"], asked) == ("AbortError", "AbortError", 1)
    assert served(daemon, 401) == 0


# --- Retries ---


def test_client_waits_until_there_is_room(start_open, js):
    daemon = start_open("tiny", ONE_SLOT)
    connection = daemon.occupy(FOREVER)
    refused = served(daemon, 503)

    def make_room():
        wait_until(lambda: served(daemon, 503) > refused)
        connection.close()

    thread = threading.Thread(target=make_room)
    thread.start()
    answer, text = js(daemon, """return [
      await lstmd.generate({ prompt: "a", length: 3 }), await collect(lstmd.stream({ prompt: "a", length: 3 }))];""", retries=60)
    thread.join()
    assert answer["usage"]["completion_tokens"] == 3 and text


def test_retries_are_bounded(daemon, js):
    counts = js(daemon, """
      const count = async (status, wait, options) => {
        let asked = 0;
        const headers = wait === null ? {} : { "Retry-After": wait };
        const refuse = async () => { asked++; return new Response("{}", { status, headers }); };
        await caught(new Lstmd({ baseURL: lstmd.baseURL, fetch: refuse, ...options }).generate());
        return asked;
      };
      return [
        await count(503, "0"), await count(429, "0"), await count(503, "0", { retries: 5 }), await count(503, "0", { retries: 0 }),
        await count(503, "11"), await count(429, "2", { maxWait: 1 }), await count(503, null), await count(503, "soon"),
        await count(500, "0"), await count(409, "0"), await count(408, "0"), await count(502, "0"),
      ];""")
    assert counts == [3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1]


# --- Texts that continue ---


def test_chain_equals_one_request(daemon, js):
    texts = js(daemon, """
      const writer = lstmd.writer({ temperature: 0.9, seed: 4 });
      const first = await writer.generate({ prompt: "abc", length: 7 });
      const second = await writer.stream({ length: 8 }).result();
      const third = (await collect(writer.stream({ length: 9 }))).join("");
      const other = lstmd.writer();
      other.state = writer.state;
      const fourth = await other.generate({ length: 5, temperature: 0.9 });
      writer.reset();
      const again = await writer.feed("a").feed("bc").generate({ length: 7 });
      return [first.completion + second.completion + third + fourth.completion, again.text, first.text];""")
    whole = daemon.generate(prompt="abc", length=29, temperature=0.9, seed=4)["completion"]
    assert texts == [whole, "abc" + whole[:7], "abc" + whole[:7]]


def test_chain_of_a_text_with_a_label(start_open, js):
    """A label starts a text, so only the first request has one."""
    daemon = start_open("labelled")
    text = js(daemon, """
      const writer = lstmd.writer({ label: "Sports", seed: 1 });
      return (await writer.generate({ length: 5 })).completion + (await writer.stream({ length: 5 }).result()).completion;""")
    assert text == daemon.generate(label="Sports", length=10, seed=1)["completion"]


def test_state_of_numbers(daemon, js):
    numbers = {"layers": [{"h": [0.25] * 16, "c": [0.5] * 16}]}
    text, kind = js(daemon, f"""
      const writer = lstmd.writer({{ seed: 2 }});
      writer.state = {json.dumps(numbers)};
      const text = (await writer.generate({{ length: 9 }})).completion;
      return [text, typeof writer.state];""")
    assert kind == "string" and len(text) == 9


def test_reset_forgets_a_running_call(daemon, js):
    state, text = js(daemon, """
      const writer = lstmd.writer({ temperature: 0 }).feed("abc");
      const call = writer.generate({ length: 5000 });
      writer.reset();
      const own = await writer.generate({ prompt: "b", length: 5 });
      await call;
      return [writer.state !== null, own.text + (await writer.generate({ length: 5 })).completion];""")
    assert state and text == daemon.generate(prompt="b", length=10, temperature=0)["text"]


def test_feed_next_reset(daemon, js):
    """ml5's charRNN had these functions."""
    got = js(daemon, """
      const writer = lstmd.writer({ temperature: 0 });
      writer.feed("abc");
      const first = await writer.next();
      let text = first.text;
      for (let i = 0; i < 9; i++) text += (await writer.next({ logprobs: 1 })).text;
      writer.reset();
      return [first, text, (await writer.feed("abc").next()).text];""")
    whole = daemon.generate(prompt="abc", length=10, temperature=0, logprobs=20)
    first, text, again = got
    assert text == whole["completion"] and again == text[0] == first["text"]
    probabilities = {one["text"]: one["probability"] for one in first["probabilities"]}
    assert len(probabilities) == 20 and max(probabilities, key=probabilities.get) == first["text"]
    assert 0.1 < sum(probabilities.values()) < 1.0001


def test_call_that_fails_changes_nothing(daemon, js):
    errors, text = js(daemon, f"""
      const writer = lstmd.writer({{ temperature: 0 }}).feed("abc");
      const halt = new AbortController();
      const errors = [
        await caught(writer.generate({{ length: 0 }})),
        await caught(writer.stream({{ top_p: 7 }}).result()),
      ];
      const call = writer.next();
      errors.push(await caught(writer.next()), await caught(writer.stream().result()));
      return [errors, (await call).text + (await writer.next()).text];""")
    assert [error["name"] for error in errors] == ["ProblemError"] * 2 + ["LstmdError"] * 2
    assert text == daemon.generate(prompt="abc", length=2, temperature=0)["completion"]


def test_text_that_is_fed_during_a_call_waits_for_the_next(daemon, js):
    text = js(daemon, """
      const writer = lstmd.writer({ temperature: 0 }).feed("abc");
      const call = writer.generate({ length: 5 });
      writer.feed("b");
      return (await call).completion + "b" + (await writer.generate({ length: 5 })).completion;""")
    first = daemon.generate(prompt="abc", length=5, temperature=0)["text"]
    assert "abc" + text == daemon.generate(prompt=first + "b", length=5, temperature=0)["text"]


# --- Origins ---


def test_page_that_the_daemon_does_not_know(start, chromium, pages):
    daemon = start()
    with pytest.raises(PageError, match="dynamically imported module"):
        Page(chromium, pages)(daemon, "return 1;")


# --- The document ---


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", (ROOT / "docs/frontend.md").read_text(), re.M | re.S)


def at(daemon, text):
    return text.replace("http://localhost:8080", f"http://{daemon.address}:{daemon.port}")


@pytest.fixture(scope="module")
def headlines(pages):
    running = Daemon(ROOT / "model/pretrained/headlines", {"server.cors_origins": pages.origin})
    yield running
    running.close()


def test_examples_of_the_document(headlines, js):
    code = blocks("js")
    assert len(code) == 4
    before = "const lines = []; const console = { log: (...values) => lines.push(values) };"
    got = js(headlines, before + "{" + at(headlines, "".join(code)) + "return { answer, whole, lines, text, line }; }")
    assert got["answer"]["text"] == headlines.generate(prompt="Oil ", length=60, seed=1)["text"]
    assert got["whole"]["choices"][0]["text"] == got["answer"]["text"] and got["text"] == "Oil"
    assert 422 in [line[0] for line in got["lines"]]
    assert 0 < len(got["line"]) <= 20  # the model may end the line before


def test_page_of_the_document(headlines, chromium, pages):
    pages.files["/page"] = ("text/html", at(headlines, blocks("html")[0]))
    with chromium.page(pages.origin + "/page") as page:
        page.click("#go")
        page.wait("/^\\d+ tokens$/.test(document.getElementById('text').title)")
        text = page.evaluate("document.getElementById('text').textContent")
        assert text.startswith("Oil ") and len(text) > 4


def test_components_of_the_document(headlines, chromium, pages, npm):
    """Runs the real React and Svelte, and a bundler."""
    shutil.copy(ROOT / "server/web/client.js", npm)
    for file, kind in (("Story.jsx", "jsx"), ("Story.svelte", "svelte")):
        (npm / file).write_text(at(headlines, blocks(kind)[0]))
    result = node(npm, "node", "bundle.mjs")
    assert result.returncode == 0, result.stderr
    for name in ("react", "svelte"):
        pages.files[f"/{name}.js"] = ("text/javascript", (npm / f"{name}.js").read_text())
        pages.files[f"/{name}"] = ("text/html", f'<!doctype html><title>{name}</title><body><script type="module" src="/{name}.js"></script>')
        with chromium.page(f"{pages.origin}/{name}") as page:
            page.wait("document.querySelector('button') !== null")
            page.click("button")
            page.wait("document.querySelector('p').textContent.length > 20")
            assert page.evaluate("document.querySelector('p').textContent").startswith("Oil "), name


# --- Types ---


def body_of(interface):
    return re.search(rf"^export interface {interface}( extends [^{{]*)? {{\n(.*?)^}}", TYPES, re.M | re.S)[2]


def names_of(interface):
    return re.findall(r"^  (\w+)\??:", body_of(interface), re.M)


@pytest.mark.parametrize("interface, schema, missing", [
    ("GenerateRequest", "GenerateRequest", {"stream"}), ("StreamEvent", "StreamEvent", ()), ("ScoreRequest", "ScoreRequest", ()),
    ("Score", "Score", ()), ("StateRequest", "StateRequest", ()), ("TokenizeRequest", "TokenizeRequest", ()), ("DetokenizeRequest", "DetokenizeRequest", ()),
    ("Usage", "Usage", ()), ("Timings", "Timings", ()), ("Problem", "Problem", ()),
    ("Generation", "Generation", {"text", "completion", "finish_reason", "seed", "logprobs", "state"}),
])
def test_types_have_the_names_of_the_contract(interface, schema, missing):
    properties = SCHEMAS[schema]["properties"]
    assert sorted(names_of(interface)) == sorted(set(properties) - set(missing))
    required = {name for name in SCHEMAS[schema].get("required", ()) if name not in missing}
    optional = set(re.findall(r"^  (\w+)\?:", body_of(interface), re.M))
    assert optional == set(names_of(interface)) - required


def test_choices_and_reasons_have_the_names_of_the_contract():
    choice = SCHEMAS["Generation"]["properties"]["choices"]["items"]["properties"]
    assert sorted(names_of("Choice")) == sorted(choice)
    reasons = re.findall(r'"(\w+)"', re.search(r"type FinishReason = (.*);", TYPES)[1])
    assert sorted(reasons) == sorted(SCHEMAS["FinishReason"]["enum"])


def test_types_have_the_members_of_the_module(daemon, js):
    """Compares the names of exports and members. Needs no compiler."""
    exported = js(daemon, """
      return Object.entries(client).map(([name, one]) =>
        [name, Object.getOwnPropertyNames(one.prototype).filter((member) => member !== "constructor")]);""")
    declared = {}
    for name, body in re.findall(r"^export class (\w+)[^{]* {(}|\n.*?^})$", TYPES, re.M | re.S):
        declared[name] = set(re.findall(r"^  (?:[gs]et )?(\w+)\(", body, re.M)) - {"constructor"}
    assert {name: set(members) for name, members in exported} == declared


USE = """
import { Lstmd, ProblemError, type NextToken } from "./client.js";
const lstmd = new Lstmd({ baseURL: "http://localhost:8080", token: "t", retries: 1, maxWait: 2, fetch });
const halt = new AbortController();
const answer = await lstmd.generate({ prompt: "a", stop: ["b"], choice_mode: "sample" }, { signal: halt.signal });
const text: string = answer.text + answer.choices?.[0].logprobs?.[0].top_logprobs[0].token;
for await (const part of lstmd.stream({ length: 3 })) part.toUpperCase();
for await (const event of lstmd.stream().events()) event.usage?.completion_tokens.toFixed();
const next: NextToken = await lstmd.writer({ temperature: 1 }).feed(text).next();
const writer = lstmd.writer();
const state: string = JSON.stringify(writer.state);
writer.state = { layers: [{ h: [1] }] };
try { await lstmd.score({ text }); } catch (error) {
  if (error instanceof ProblemError) error.fields.text?.length;
}
const numbers = (await lstmd.state({ text, as: "numbers" })).state.layers[0].h[0].toFixed();
writer.state = (await lstmd.state({ text })).state.toUpperCase();
"""
WRONG = ['lstmd.generate({ promt: "a" });', 'lstmd.score({});', 'lstmd.generate({ unknown: "maybe" });', "new Writer();",
         "const n: number = answer.text;", "lstmd.stream().delta;", "writer.state = 1;"]


def test_compiler_takes_the_types(npm):
    for name in ("client.js", "client.d.ts"):
        shutil.copy(ROOT / "server/web" / name, npm)
    strict = ["node_modules/.bin/tsc", "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.asynciterable"]
    wrong = "".join(f"// @ts-expect-error\n{line}\n" for line in WRONG)
    (npm / "use.mts").write_text(USE + 'import { Writer } from "./client.js";\n' + wrong)
    result = node(npm, *strict, "use.mts")
    assert result.returncode == 0, result.stdout
