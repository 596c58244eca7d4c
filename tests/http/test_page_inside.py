"""The panel "Look inside" in a browser: what it shows is what /inspect and /score say, and keys alone lead through it."""

import contextlib
import json
import math
import urllib.parse

import pytest

from browser import FAILED_REQUEST
from conftest import Daemon
from make_model import make_model
from test_inspect import small_model

TEXT = "Today, Tue 3."
TOP = 12  # alternatives that the panel asks for
PROBE = {"layer": 0, "vector": "h", "units": 3}


@pytest.fixture(scope="module")
def daemon(models):
    running = Daemon(models["tiny"])
    yield running
    running.close()


def inspected(daemon, text=TEXT, **fields):
    answer = daemon.post("/inspect", {"text": text, **fields})
    assert answer.status == 200, answer.body
    return answer.json()


@contextlib.contextmanager
def opened(chromium, daemon, text=TEXT, wait=True, **options):
    """Opens the panel with a text, and waits until all of it is there."""
    query = "" if text is None else "?text=" + urllib.parse.quote(text)
    with chromium.open(daemon, "#inside" + query, **options) as page:
        if wait:
            ready(page)
        yield page


def ready(page, text=None):
    """Waits until text and unit are shown."""
    page.wait("document.querySelector('#inside-unit-tokens .at') !== null && document.getElementById('inside-status').textContent === ''")
    if text is not None:
        page.wait(f"document.getElementById('inside-text').value === {json.dumps(text)}")


def labels(page, id="inside-tokens"):
    return page.evaluate(f"[...document.querySelectorAll('#{id} [role=option]')].map((one) => one.getAttribute('aria-label'))")


def bars(page):
    """Returns [(what a screen reader says, whether it is the one that came)] of the distribution that is shown."""
    found = page.evaluate("""[...document.querySelectorAll('#inside-bars button')].map((one) =>
        [[...one.children].filter((part) => !part.ariaHidden).map((part) => part.textContent).join(""), one.classList.contains("drawn")])""")
    return [tuple(one) for one in found]


def percent(p):
    if p >= 0.9995:
        return "100 %"
    return f"{100 * p:.{0 if p >= 0.0995 else 1 if p >= 0.00995 else 2}f} %"


def signed(value, digits=2):
    text = f"{abs(value):.{digits}f}"
    return ("−" if value < 0 and float(text) else "+") + text


def choose(page, id, value):
    page.run("const [box, value] = arguments; box.value = value; box.dispatchEvent(new Event('change'))", page.find(f"#{id}"), value)


def option(page, index, id="inside-tokens"):
    return page.all(f"#{id} [role=option]")[index]


def test_surprise_of_each_token(chromium, daemon):
    tokens = inspected(daemon)["tokens"]
    with opened(chromium, daemon) as page:
        said = labels(page)
        assert said[-1] == "what comes next" and len(said) == len(tokens) + 1
        for token, label in zip(tokens, said):
            assert label.endswith(f", {percent(math.exp(token['logprob']))}, surprise {token['surprise']:.2f} bits")
        assert page.evaluate("document.getElementById('inside-tokens').textContent") == TEXT + "▸"
        classes = page.evaluate("[...document.querySelectorAll('#inside-tokens [role=option]')].map((one) => one.classList[0])")
        assert classes == [f"s{min(9, int(token['surprise']))}" for token in tokens] + ["next"]
        choose(page, "inside-colour", "entropy")
        classes = page.evaluate("[...document.querySelectorAll('#inside-tokens [role=option]')].map((one) => one.classList[0])")
        assert classes == [f"s{min(9, int(token['entropy']))}" for token in tokens] + ["next"]


def test_figures_are_those_of_score(chromium, daemon):
    scored = daemon.post("/score", {"text": TEXT}).json()
    model = daemon.get("/models").json()["models"][0]
    with opened(chromium, daemon) as page:
        figures = page.text("#inside-figures")
        for name, value in [("Bits per character", f"{scored['bits_per_char']:.3f}"), ("Nats per character", f"{scored['nats_per_char']:.3f}"),
                            ("Perplexity", f"{scored['perplexity']:.2f}"), ("Characters", str(scored["characters"]))]:
            assert f"{name}\n{value}" in figures
        compared = page.text("#inside-compare")
        assert f"{scored['nats_per_token'] / math.log(2):.2f} bits" in compared
        assert f"{math.log2(model['vocabulary_size']):.2f} bits" in compared


def test_distribution_of_the_place_that_is_pointed_at(chromium, daemon):
    answer = inspected(daemon, top=TOP)
    with opened(chromium, daemon) as page:
        for index in (3, 6):
            page.hover(option(page, index))
            token = answer["tokens"][index]
            expected = [math.exp(one["logprob"]) for one in token["top"]]
            page.wait(f"document.querySelector('#inside-numbers').textContent.includes('{token['surprise']:.2f} bits')")
            shown = bars(page)
            assert [label.split(", ")[1].split("◂")[0] for label, _ in shown[:TOP]] == [percent(p) for p in expected]
            marked = [i for i, (_, drawn) in enumerate(shown) if drawn]
            ids = [one["id"] for one in token["top"]]
            assert marked == [ids.index(token["id"]) if token["id"] in ids else TOP]
            assert shown[marked[0]][0].endswith(f", {percent(math.exp(token['logprob']))}◂ came")
            assert f"{token['entropy']:.2f} bits" in page.text("#inside-numbers")
        page.click(option(page, 2))
        page.hover(option(page, 5))
        page.hover("#inside-expected-title")
        page.wait(f"document.querySelector('#inside-numbers').textContent.includes('{answer['tokens'][2]['surprise']:.2f} bits')")
        page.click(option(page, len(TEXT)))
        expected = [percent(math.exp(one["logprob"])) for one in answer["next"]["top"]]
        assert [label.split(", ")[1] for label, _ in bars(page)] == expected
        assert not any(drawn for _, drawn in bars(page))


def test_alternative_leads_on(chromium, daemon):
    with opened(chromium, daemon) as page:
        page.evaluate("document.querySelector('#inside details').open = true")
        page.enter("#inside-seed", "7")
        page.enter("#inside-length", "20")
        token = inspected(daemon, top=TOP)["tokens"][4]
        alternative = next(one for one in token["top"] if one["id"] != token["id"] and one["token"] != "<eos>")
        page.click(option(page, 4))
        page.click(page.all("#inside-bars button")[token["top"].index(alternative)])
        ids = daemon.post("/tokenize", {"text": TEXT[:4]}).json()["ids"]
        expected = daemon.generate(prompt=[*ids, alternative["id"]], length=20, temperature=0.6, seed=7)["text"]
        assert expected.startswith(TEXT[:4] + alternative["token"]) and len(expected) == 25
        ready(page, expected)
        assert page.evaluate("document.getElementById('inside-tokens').textContent") == expected + "▸"
        assert page.focused().text == alternative["token"].strip()
        assert page.evaluate("new URLSearchParams(location.hash.split('?')[1]).get('text')") == expected
        assert len(labels(page)) == 26
        page.click("#inside-undo")
        ready(page, TEXT)
        assert page.text("#inside-undo") is None


def test_unit_colours_follow_h(chromium, daemon):
    answer = inspected(daemon, layers=[0], units=[5], c=True, gates=True)
    with opened(chromium, daemon) as page:
        page.enter("#inside-number", "5")
        page.key("Tab")
        page.wait("document.querySelector('#inside-follows').textContent.startsWith('Unit 5 ')")
        for vector in ("h", "c"):
            if vector == "c":
                choose(page, "inside-vector", "c")
            values = [token["layers"][0][vector][0] for token in answer["tokens"]]
            page.wait(lambda: [label.partition(f", {vector} ")[2] for label in labels(page, "inside-unit-tokens")] == list(map(signed, values)))
            limit = max(0.05, *map(abs, values))
            classes = page.evaluate("[...document.querySelectorAll('#inside-unit-tokens [role=option]')].map((one) => one.classList[0])")
            for name, value in zip(classes, values, strict=True):
                assert abs(int(name[1:]) - (value / limit + 1) * 8) < 0.51
        page.click(option(page, 6, "inside-unit-tokens"))
        layer = answer["tokens"][6]["layers"][0]
        words = page.text("#inside-gates-words")
        for gate in "fio":
            assert percent(layer["gates"][gate][0]) in words
        for value in (layer["gates"]["g"][0], layer["c"][0], layer["h"][0]):
            assert signed(value) in words


def test_finder_lists_the_units_of_the_probe(chromium, daemon):
    probe = inspected(daemon, probe=PROBE)["probe"]["properties"]
    with opened(chromium, daemon) as page:
        found = page.evaluate("""[...document.querySelectorAll('#inside-finder > div')].map(
            (row) => [...row.querySelectorAll('button')].map((one) => one.textContent))""")
        assert found == [[f"Unit {one['unit']}, r {signed(one['r'])}" for one in row["units"]] for row in probe]
        best = max((unit for row in probe if row["property"] == "position" or 2.5 < row["mean"] * len(TEXT) < len(TEXT) - 2.5
                    for unit in row["units"]), key=lambda unit: abs(unit["r"]))
        assert page.evaluate("document.getElementById('inside-number').value") == str(best["unit"])
        other = next(i for i, unit in enumerate(probe[0]["units"]) if unit["unit"] != best["unit"])
        page.click(page.all("#inside-finder > div:first-child button")[other])
        unit = probe[0]["units"][other]["unit"]
        page.wait(f"document.getElementById('inside-follows').textContent.startsWith('Unit {unit} follows')")
        assert page.all("#inside-finder > div:first-child button")[other].get_attribute("aria-pressed") == "true"


def test_map_of_all_units(chromium, daemon):
    answer = inspected(daemon, layers=[0])
    with opened(chromium, daemon) as page:
        page.run("arguments[0].scrollIntoView()", page.find("#inside-all"))
        page.wait("document.querySelectorAll('#inside-strongest button').length === 8")
        choose(page, "inside-order", "number")
        page.click(option(page, 7))
        h = answer["tokens"][7]["layers"][0]["h"]
        strongest = sorted(range(16), key=lambda unit: -abs(h[unit]))[:8]
        expected = [f"Unit {unit}, h {signed(h[unit])}" for unit in strongest]
        assert page.evaluate("[...document.querySelectorAll('#inside-strongest button')].map((one) => one.textContent)") == expected
        page.run("arguments[0].focus()", page.find("#inside-map .map-scroll"))
        page.key("Home", *["PageUp"] * 2, "ArrowDown", "ArrowDown", "ArrowRight")
        value = answer["tokens"][1]["layers"][0]["h"][2]
        assert page.text("#inside-map-words") == f"Unit 2 after “o” (2 of {len(TEXT)}): h is {signed(value)}."
        page.key("Enter")
        page.wait("document.getElementById('inside-number').value === '2'")
        red = page.run("""const canvas = document.querySelector("#inside-map canvas"), { width, height } = canvas;
            const data = canvas.getContext("2d").getImageData(0, 0, width, height).data, colours = new Set();
            for (let i = 0; i < data.length; i += 4) colours.add(data.slice(i, i + 3).join());
            return colours.size;""")
        assert red > 10


def test_keys_alone(chromium, daemon):
    with opened(chromium, daemon) as page:
        page.run("arguments[0].focus()", page.find("#inside-text"))
        page.enter("#inside-text", "abc Def")
        page.key("Control+Enter")
        page.wait("document.getElementById('inside-tokens').textContent === 'abc Def▸'")
        ready(page)
        page.run("arguments[0].focus()", page.find("#inside-colour"))
        page.key("Tab", "Home")
        assert page.focused().text == "a"
        page.key("ArrowRight", "ArrowRight")
        assert page.focused().text == "c" and page.evaluate("document.querySelectorAll('#inside-tokens [tabindex=\"0\"]').length") == 1
        page.key("End", "ArrowLeft")
        assert page.focused().text == "f"
        page.key("Enter")
        assert page.focused().get_attribute("class") in ("guess drawn", "guess drawn unlikely")
        page.key("Escape")
        assert page.focused().text == "f"
        page.key("Enter", "Home", "ArrowDown", "Enter")
        page.wait("document.getElementById('inside-text').value.length > 7")
        ready(page)
        assert page.evaluate("document.activeElement.parentElement.id") == "inside-tokens"
        assert page.evaluate("document.getElementById('inside-text').value").startswith("abc De")


def test_text_is_written_here(chromium, daemon):
    with opened(chromium, daemon, text=None) as page:
        written = page.evaluate("document.getElementById('inside-text').value")
        assert len(written) >= 60
        page.evaluate("document.querySelector('#inside details').open = true")
        page.enter("#inside-length", "30")
        page.enter("#inside-seed", "3")
        page.click("#inside-write")
        ready(page, daemon.generate(length=30, seed=3, temperature=0.6)["text"])


def test_mistakes_stand_beside_their_field(chromium, start):
    daemon = start("tiny", {"limits.max_score": 50})
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        page.enter("#inside-text", "a" * 60)
        page.click("#inside-look")
        page.wait("document.getElementById('inside-text-problem') !== null")
        assert "limits.max_score" in page.text("#inside-text-problem")
        assert page.text("#inside-result") is None and page.text("#inside-problem")
        page.enter("#inside-text", "aß")
        page.click("#inside-look")
        page.wait("!document.getElementById('inside-warnings').hidden")
        ready(page)
        assert "ß" in page.text("#inside-warnings")
        assert page.text("#inside-problem") is None and page.all("#inside-text-problem") == []


def test_too_many_numbers_for_the_map(chromium, start, tmp_path):
    daemon = start(make_model(tmp_path / "m", hidden=64), {"limits.max_inspect": 2000})
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        page.run("arguments[0].scrollIntoView()", page.find("#inside-all"))
        page.wait("!document.getElementById('inside-map-problem').hidden")
        assert f"{64 * len(TEXT)} numbers" in page.text("#inside-map-problem") and "limits.max_inspect" in page.text("#inside-map-problem")
        assert page.text("#inside-map") is None and page.text("#inside-unit-tokens")
        page.enter("#inside-text", "a" * 40)
        page.click("#inside-look")
        page.wait("document.getElementById('inside-text-problem') !== null")
        assert "Look into a shorter text." in page.text("#inside-text-problem") and page.text("#inside-result") is None


KINDS = {
    "lstm of two sizes": ("f32", {"cell": "lstm", "layers": 2, "hidden_sizes": [17, 6], "hidden_size": 6}),
    "gru": ("int8", {"cell": "gru", "layers": 2}),
    "rnn": ("f32", {"cell": "rnn"}),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_cells(chromium, start, tmp_path, name):
    weights, config = KINDS[name]
    small_model(tmp_path / "m", **config)
    daemon = start(tmp_path / "m", {"engine.weights": weights})
    text = 'ab (1A)\n.Z "b"'
    gated = config["cell"] != "rnn"
    with opened(chromium, daemon, text=text) as page:
        layers = config.get("layers", 1)
        for layer in range(layers):
            if layers > 1:
                choose(page, "inside-layer", str(layer))
            probe = inspected(daemon, text, probe={"layer": layer, "units": 3})["probe"]["properties"]
            first = f"Unit {probe[0]['units'][0]['unit']}, r {signed(probe[0]['units'][0]['r'])}"
            page.wait(f"document.querySelector('#inside-finder button').textContent === {json.dumps(first)}")
            unit = int(page.evaluate("document.getElementById('inside-number').value"))
            values = inspected(daemon, text, layers=[layer], units=[unit])["tokens"]
            expected = [signed(token["layers"][0]["h"][0]) for token in values]
            page.wait(lambda: [label.split(", h ")[1] for label in labels(page, "inside-unit-tokens")] == expected)
        assert (page.text("#inside-gates") is not None) == gated
        assert (page.text("#inside-vector-field") is not None) == (config["cell"] == "lstm")


def test_word_model_goes_on_from_a_word(chromium, start, tmp_path):
    daemon = start(make_model(tmp_path / "m", level="word"))
    with opened(chromium, daemon, text="red green blue") as page:
        assert page.evaluate("document.getElementById('inside-tokens').textContent") == "red green blue ▸"
        assert "One word" not in page.text("#inside") and "Each word" not in page.text("#inside")
        page.click(option(page, 1))
        choice = page.evaluate("[...document.querySelectorAll('#inside-bars button')].findIndex((one) => one.textContent.startsWith('river'))")
        page.click(page.all("#inside-bars button")[choice])
        page.wait("document.getElementById('inside-text').value.startsWith('red river')")
        ready(page)
        assert page.focused().text == "river"


def test_bytes_are_shown_as_parts_of_characters(chromium, start, tmp_path):
    daemon = start(make_model(tmp_path / "m", level="byte"))
    with opened(chromium, daemon, text="aé\n") as page:
        assert page.evaluate("document.getElementById('inside-tokens').textContent") == "aé₂⏎\n▸"
        assert [label.split(", ")[1] for label in labels(page)[1:3]] == ["byte 1 of 2", "byte 2 of 2"]
        assert labels(page)[3].startswith("line end, ")


def test_phone_dark_and_accessible(chromium, daemon):
    with opened(chromium, daemon) as page:
        page.run("arguments[0].scrollIntoView()", page.find("#inside-all"))
        page.wait("document.querySelectorAll('#inside-strongest button').length === 8")
        for dark in (False, True):
            if dark:
                page.dark()
            page.axe("document.getElementById('inside')")
        page.phone()
        page.drawn()
        assert page.wider_than_screen() == []
        page.axe("document.getElementById('inside')")
