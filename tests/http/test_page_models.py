"""The panel Models: the list, an administrator's work on it, two models side by side, the import of a file."""

import json
import shutil

import pytest

from browser import FAILED_REQUEST
from conftest import ADMIN, ROOT, Daemon

KERAS = ROOT / "tests/golden/data/keras/k392_two_lstm_dense.keras"
TOKENS = json.dumps(list("abcdef"))


@pytest.fixture
def daemon(models, tmp_path):
    """A daemon with a default model, and one in its state directory that is not loaded."""
    shutil.copytree(models["labelled"], tmp_path / "state/models/labelled")
    running = Daemon(models["tiny"], {"server.state_dir": tmp_path / "state"})
    if states(running)["labelled"] == "loaded":
        assert running.admin("POST", "/models/labelled/unload").status == 200
    yield running
    running.close()


def card(name):
    return f"#models-list li[data-name='{name}']"


def press(page, name, words):
    page.click(f"{card(name)} button[data-part='{words}']")


def give_token(page):
    page.wait("document.getElementById('token-dialog').open")
    page.enter("#token", ADMIN)
    page.key("Enter")


def keep_token(page):
    page.evaluate(f"sessionStorage.setItem('token', '{ADMIN}')")
    page.reload()
    ready(page)


def ready(page):
    page.wait(f"document.querySelector(\"{card('tiny')}\") !== null")


def said(page, text):
    page.wait(f"document.getElementById('models-status').textContent === {json.dumps(text)}")


def states(daemon):
    return {model["name"]: model["state"] + (" default" if model["default"] else "") for model in daemon.get("/models").json()["models"]}


def test_cards_say_what_the_models_are(chromium, daemon):
    with chromium.open(daemon, "#models") as page:
        ready(page)
        tiny = page.text(card("tiny"))
        assert "LSTM, 1 layer of 16 units" in tiny and "6,839" in tiny and "71 characters" in tiny
        assert "default" in tiny and "used here" in tiny and "not loaded" in page.text(card("labelled"))
        assert "World, Sports, Business" in page.text(card("labelled"))
        page.click(f"{card('tiny')} summary")
        page.wait(f"document.querySelector(\"{card('tiny')} caption\") !== null")
        assert "rnn.weight_ih_l0" in page.text(card("tiny"))


def test_model_of_this_page_is_not_the_default_one(chromium, daemon):
    assert daemon.admin("POST", "/models/labelled/load").status == 200
    with chromium.open(daemon, "#models") as page:
        ready(page)
        press(page, "labelled", "Use here")
        page.wait("document.getElementById('chosen').value === 'labelled'")
        assert page.text("#model").startswith("labelled")
        assert page.focused().get_attribute("aria-label") == "Used here labelled" and page.focused().get_attribute("aria-pressed") == "true"
        assert states(daemon) == {"tiny": "loaded default", "labelled": "loaded"}


def test_administrator_is_asked_for_a_token_once(chromium, daemon):
    with chromium.open(daemon, "#models", allow=[FAILED_REQUEST]) as page:
        ready(page)
        press(page, "labelled", "Load")
        give_token(page)
        said(page, "labelled is loaded.")
        assert states(daemon)["labelled"] == "loaded"
        press(page, "labelled", "Make default")
        said(page, "labelled is the default now.")
        press(page, "tiny", "Unload")
        said(page, "tiny is unloaded.")
        assert states(daemon) == {"tiny": "unloaded", "labelled": "loaded default"}
        press(page, "tiny", "Make default")
        said(page, "tiny is the default now.")
        press(page, "labelled", "Delete")
        page.click("#models-delete button[value=cancel]")
        press(page, "labelled", "Delete")
        page.key("Escape")
        assert states(daemon) == {"tiny": "loaded default", "labelled": "loaded"}
        press(page, "labelled", "Delete")
        page.click("#models-delete button[value=delete]")
        said(page, "labelled is deleted.")
        assert states(daemon) == {"tiny": "loaded default"}
        assert page.evaluate("document.activeElement.id") == "models-title"


def test_refusal_stands_at_its_model(chromium, daemon):
    with chromium.open(daemon, "#models", allow=[FAILED_REQUEST]) as page:
        keep_token(page)
        assert daemon.admin("POST", "/models/labelled/load").status == 200
        page.wait(f"document.querySelector(\"{card('labelled')}\").innerText.includes('Unload')")
        assert daemon.admin("PUT", "/models/default", {"name": "labelled"}).status == 200
        page.evaluate(f"document.querySelector(\"{card('labelled')} button[data-part='Unload']\")?.click()")
        page.wait(f"document.querySelector(\"{card('labelled')} > .problem\")?.checkVisibility()")
        assert "is the default model" in page.text(f"{card('labelled')} > .problem")
        page.axe("document.getElementById('models')")


def test_address_without_administration(chromium, models, start):
    daemon = start("tiny", {"admin.listen": "127.0.0.1", "admin.port": 0})
    with chromium.open(daemon, "#models", allow=[FAILED_REQUEST]) as page:
        ready(page)
        press(page, "tiny", "Load again")
        page.wait(f"document.querySelector(\"{card('tiny')} > .problem\").checkVisibility()")
        assert "admin.listen" in page.text(f"{card('tiny')} > .problem")


def test_two_models_write_side_by_side(chromium, daemon):
    assert daemon.admin("POST", "/models/labelled/load").status == 200
    with chromium.open(daemon, "#models?b=labelled&prompt=abc&length=60&seed=5&temperature=0.7") as page:
        ready(page)
        page.wait("document.getElementById('models-b-model').value === 'labelled'")
        page.find("#models-compare-prompt").click()
        page.key("Control+Enter")
        page.wait("document.getElementById('models-compare-status').textContent === 'Done, with seed 5.'")
        for side, name in (("a", "tiny"), ("b", "labelled")):
            expected = daemon.generate(model=name, prompt="abc", length=60, seed=5, temperature=0.7)
            text = page.evaluate(f"document.querySelector('#models-{side}-title + .text').textContent")
            assert page.text(f"#models-{side}-title") == name and text == expected["text"]
            bits = daemon.post("/score", {"model": name, "text": "abc"}).json()["bits_per_char"]
            assert f"{bits:.2f} bits a character" in page.text(f"#models-{side}-facts")
        page.axe("document.getElementById('models')")
        page.enter("#models-compare-seed", "")
        page.click("#models-compare-go")
        page.wait("/^Done, with seed \\d+.$/.test(document.getElementById('models-compare-status').textContent) && "
                  "document.getElementById('models-compare-seed').value !== '5'")


def test_texts_stop(chromium, models, start):
    daemon = start("tiny", {"limits.max_length": 10_000_000})
    with chromium.open(daemon, "#models?length=10000000") as page:
        ready(page)
        assert page.text("#models-compare-one").startswith("Only one model")
        page.click("#models-compare-go")
        page.wait("document.getElementById('models-a-written').textContent !== ''")
        page.evaluate("document.getElementById('models-compare-stop').click()")
        page.wait("document.getElementById('models-compare-status').textContent === 'Stopped.'")
        assert page.text("#models-a-problem") is None
        page.wait(lambda: "lstmd_sequences{model=\"tiny\"} 0" in daemon.get("/metrics").body.decode())


def test_import_asks_for_the_vocabulary(chromium, daemon):
    with chromium.open(daemon, "#models", allow=[FAILED_REQUEST]) as page:
        keep_token(page)
        page.drop("#models-import", "My model (2).keras", KERAS.read_bytes(), "application/octet-stream")
        page.wait("document.getElementById('models-import-name').value === 'My-model-2-'")
        page.enter("#models-import-name", "tiny")
        assert "takes its place" in page.text("#models-import-taken")
        page.enter("#models-import-name", "mine")
        assert not page.text("#models-import-taken")
        page.click("#models-import-go")
        page.wait("!document.getElementById('models-import-problem').hidden")
        assert "holds no vocabulary of its 6 tokens" in page.text("#models-import-problem")
        assert page.text("#models-import-vocabulary-problem") and page.focused() == page.find("#models-import-vocabulary")
        page.axe("document.getElementById('models')")
        page.type(TOKENS)
        page.click("#models-import-go")
        page.wait("!document.getElementById('models-import-result').hidden")
        result = page.text("#models-import-result")
        assert "Keras 3.9.2 archive is read: LSTM, 2 layers of 3 + 4 units" in result and "windows of 5 tokens" in result
        page.wait(f"document.querySelector(\"{card('mine')}\")?.innerText.includes('Keras 3.9.2 archive')")
        assert states(daemon)["mine"] == "loaded"
        page.click("#models-import-result button")
        page.wait("document.getElementById('chosen').value === 'mine' && location.hash === '#write'")


def test_files_are_told_apart(chromium, daemon):
    files = {
        "tokens.json": (TOKENS, "vocabulary"),
        "tokenizer.json": ('{"class_name": "Tokenizer", "config": {}}', "vocabulary"),
        "model.json": ('{"modelTopology": {}, "weightsManifest": []}', "file"),
        "architecture.json": ('{"class_name": "Sequential", "config": {}}', "architecture"),
        "group1-shard1of1.bin": ("x", "weights"),
        "corpus.txt": ("abc", "vocabulary_from_text"),
        "tokens.pkl": ("x", "vocabulary"),
    }
    with chromium.open(daemon, "#models") as page:
        ready(page)
        for number, (name, (content, part)) in enumerate(files.items()):
            page.drop("#models-import", name, content.encode())
            page.wait(f"document.querySelectorAll('#models-import-parts li').length === {number + 1}")
            assert page.evaluate(f"document.getElementById('models-part-{number}').value") == part, name
        page.click("#models-import-parts li:first-child button")
        page.wait(f"document.querySelectorAll('#models-import-parts li').length === {len(files) - 1}")
        page.drop("#models-import", "other.h5", b"x")
        page.wait("document.querySelector('#models-import-parts').innerText.includes('other.h5')")
        assert "model.json" not in page.text("#models-import-parts"), "one model, one file"


def test_file_that_is_no_model(chromium, daemon, tmp_path):
    (tmp_path / "notes.h5").write_text("no model")
    with chromium.open(daemon, "#models", allow=[FAILED_REQUEST]) as page:
        keep_token(page)
        page.enter("#models-import-name", "x")
        page.click("#models-import-go")
        page.wait("document.getElementById('models-import-problem').innerText === 'Choose the file of a model first.'")
        page.choose_file("#models-import-files", tmp_path / "notes.h5")
        page.wait("document.querySelectorAll('#models-import-parts li').length === 1")
        page.click("#models-import-go")
        page.wait("document.getElementById('models-import-problem').innerText.includes('not a model file')")
        assert "This file cannot be used." in page.text("#models-import")


def test_two_tabs_and_a_dead_daemon(chromium, models, tmp_path):
    shutil.copytree(models["labelled"], tmp_path / "state/models/labelled")
    daemon = Daemon(models["tiny"], {"server.state_dir": tmp_path / "state"})
    with chromium.open(daemon, "#models", allow=[FAILED_REQUEST]) as page:
        ready(page)
        daemon.admin("POST", "/models/labelled/load")
        page.wait(f"document.querySelector(\"{card('labelled')}\").innerText.includes('Use here')", 30)
        daemon.close()
        page.wait("!document.getElementById('models-problem').hidden", 30)
        assert "cannot be reached" in page.text("#models-problem") and page.text(card("tiny"))


def test_everybody_can_use_it(chromium, daemon):
    assert daemon.admin("POST", "/models/labelled/load").status == 200
    with chromium.open(daemon, "#models") as page:
        ready(page)
        for summary in page.all("#models details:not([open]) > summary"):
            summary.click()
        page.wait("document.querySelectorAll('#models caption').length >= 2")
        page.axe("document.getElementById('models')")
        page.dark()
        page.axe("document.getElementById('models')")
        page.phone()
        page.drawn()
        assert page.wider_than_screen() == []
