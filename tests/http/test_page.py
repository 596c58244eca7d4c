"""The page in a browser: it shows a text, a mistake, and a daemon that wants a token."""

import contextlib
import json

import pytest

from browser import FAILED_REQUEST
from conftest import Daemon

TOKEN = "generate-token-of-the-tests"


@pytest.fixture(scope="module")
def daemon(models):
    running = Daemon(models["tiny"], {"limits.max_length": 10_000_000})
    yield running
    running.close()


@contextlib.contextmanager
def opened(chromium, daemon, **options):
    with chromium.open(daemon, **options) as page:
        page.wait("!document.getElementById('model').textContent.startsWith('asking')")
        page.wait("document.getElementById('top_k') !== null")
        page.evaluate("document.querySelector('details').open = true")
        yield page


def enter(page, **values):
    for id, value in values.items():
        page.enter(f"#{id}", value)


def wait_status(page, status):
    page.wait(f"document.getElementById('status-line').textContent === {json.dumps(status)}")


def test_text_and_its_facts(chromium, daemon):
    with opened(chromium, daemon) as page:
        assert page.text("#model").startswith("tiny · 1 × 16 LSTM")
        enter(page, prompt="abc", length="60", seed="3", temperature="0.8", top_k="5")
        page.click("#go")
        wait_status(page, "Done.")
        expected = daemon.generate(prompt="abc", length=60, seed=3, temperature=0.8, top_k=5)
        assert page.evaluate("document.getElementById('text').textContent") == expected["text"]
        facts = page.text("#facts")
        assert "length reached" in facts and "60" in facts
        assert page.text("#problem") is None and page.text("#warnings") is None
        enter(page, prompt="aß", length="5")
        page.click("#go")
        page.wait("!document.getElementById('warnings').hidden")
        assert "ß" in page.text("#warnings")


def test_mistakes_are_named(chromium, daemon):
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        page.evaluate("document.getElementById('form').noValidate = true")
        enter(page, length="0", top_p="7")
        page.click("#go")
        page.wait("!document.getElementById('problem').hidden")
        problem = page.text("#problem")
        assert "length" in problem and page.text("#length-problem") and page.text("#top_p-problem")
        assert page.text("#result") is None
        enter(page, length="5", top_p="")
        page.click("#go")
        wait_status(page, "Done.")
        assert page.text("#problem") is None
        before = page.text("#written")
        enter(page, length="0")
        page.click("#go")
        page.wait("!document.getElementById('problem').hidden")
        assert page.text("#written") == before


def test_halt(chromium, daemon):
    with opened(chromium, daemon) as page:
        enter(page, length="10000000")
        page.click("#go")
        page.wait("document.getElementById('written').textContent !== ''")
        page.evaluate("document.getElementById('halt').click()")  # a mouse would wait for the drawing of the text
        wait_status(page, "Stopped.")
        assert page.text("#problem") is None and page.text("#written")


def test_token_is_asked_for_and_kept(chromium, start):
    daemon = start("tiny", {"auth.generate_tokens": TOKEN})
    with chromium.open(daemon, allow=[FAILED_REQUEST]) as page:
        page.wait("document.getElementById('token-dialog').open")
        for token in ("wrong", TOKEN):
            hint = page.text("#token-hint")
            enter(page, token=token)
            page.click("#token-form button[value=ok]")
            if token == "wrong":
                assert hint == "This daemon wants a token."
                page.wait("document.getElementById('token-hint').innerText === 'The daemon does not know this token.'")
        page.wait("document.getElementById('model').textContent.startsWith('tiny')")
        enter(page, length="5")
        page.click("#go")
        wait_status(page, "Done.")
        assert page.evaluate("sessionStorage.getItem('token')") == TOKEN


def test_daemon_that_has_gone(chromium, models):
    daemon = Daemon(models["tiny"])
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        daemon.close()
        page.click("#go")
        page.wait("!document.getElementById('problem').hidden")
        assert page.text("#problem").startswith("The daemon cannot be reached (") and page.text("#result") is None
