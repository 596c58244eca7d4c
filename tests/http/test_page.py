"""The page in a browser: it shows a text, a mistake, and a daemon that wants a token."""

import contextlib
import json

import pytest

from conftest import Daemon

TOKEN = "generate-token-of-the-tests"


@pytest.fixture(scope="module")
def daemon(models):
    running = Daemon(models["tiny"], {"limits.max_length": 10_000_000})
    yield running
    running.close()


@contextlib.contextmanager
def opened(chromium, daemon):
    with chromium.page(f"http://{daemon.address}:{daemon.port}/") as page:
        page.wait("!document.getElementById('model').textContent.startsWith('asking')")
        page.wait("document.getElementById('top_k') !== null")
        yield page


def text(page, id):
    """Returns the text of an element, or None while the page does not show it."""
    return page.evaluate(f"(({{hidden, innerText}}) => hidden ? null : innerText)(document.getElementById('{id}'))")


def enter(page, **values):
    for id, value in values.items():
        page.evaluate(f"""(() => {{ const field = document.getElementById('{id}'); field.value = {json.dumps(value)};
            field.dispatchEvent(new Event("change")); }})()""")


def press(page, id):
    page.evaluate(f"document.getElementById('{id}').click()")


def press_in(page, selector):
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def wait_status(page, status):
    page.wait(f"document.getElementById('status-line').textContent === {json.dumps(status)}")


def test_text_and_its_facts(chromium, daemon):
    with opened(chromium, daemon) as page:
        assert text(page, "model").startswith("tiny · 1 × 16 LSTM")
        enter(page, prompt="abc", length="60", seed="3", temperature="0.8", top_k="5")
        press(page, "go")
        wait_status(page, "Done.")
        expected = daemon.generate(prompt="abc", length=60, seed=3, temperature=0.8, top_k=5)
        assert page.evaluate("document.getElementById('text').textContent") == expected["text"]
        facts = text(page, "facts")
        assert "length reached" in facts and "60" in facts
        assert text(page, "problem") is None and text(page, "warnings") is None
        enter(page, prompt="aß", length="5")
        press(page, "go")
        page.wait("!document.getElementById('warnings').hidden")
        assert "ß" in text(page, "warnings")


def test_mistakes_are_named(chromium, daemon):
    with opened(chromium, daemon) as page:
        page.evaluate("document.getElementById('form').noValidate = true")
        enter(page, length="0", top_p="7")
        press(page, "go")
        page.wait("!document.getElementById('problem').hidden")
        problem = text(page, "problem")
        assert "length" in problem and text(page, "length-problem") and text(page, "top_p-problem")
        assert text(page, "result") is None
        enter(page, length="5", top_p="")
        press(page, "go")
        wait_status(page, "Done.")
        assert text(page, "problem") is None
        before = text(page, "written")
        enter(page, length="0")
        press(page, "go")
        page.wait("!document.getElementById('problem').hidden")
        assert text(page, "written") == before


def test_halt(chromium, daemon):
    with opened(chromium, daemon) as page:
        enter(page, length="10000000")
        press(page, "go")
        page.wait("document.getElementById('written').textContent !== ''")
        press(page, "halt")
        wait_status(page, "Stopped.")
        assert text(page, "problem") is None and text(page, "written")


def test_token_is_asked_for_and_kept(chromium, start):
    daemon = start("tiny", {"auth.generate_tokens": TOKEN})
    with chromium.page(f"http://{daemon.address}:{daemon.port}/") as page:
        page.wait("document.getElementById('token-dialog').open")
        for token in ("wrong", TOKEN):
            hint = text(page, "token-hint")
            enter(page, token=token)
            press_in(page, "#token-form button[value=ok]")
            if token == "wrong":
                assert hint == "This daemon wants a token."
                page.wait("document.getElementById('token-hint').innerText === 'The daemon does not know this token.'")
        page.wait("document.getElementById('model').textContent.startsWith('tiny')")
        enter(page, length="5")
        press(page, "go")
        wait_status(page, "Done.")
        assert page.evaluate("sessionStorage.getItem('token')") == TOKEN


def test_daemon_that_has_gone(chromium, models):
    daemon = Daemon(models["tiny"])
    with opened(chromium, daemon) as page:
        daemon.close()
        press(page, "go")
        page.wait("!document.getElementById('problem').hidden")
        assert text(page, "problem").startswith("The daemon cannot be reached (") and text(page, "result") is None
