"""The page in a browser: a daemon that wants a token, and one that has gone. test_page_write.py has the panel "Write"."""

import contextlib
import json

from browser import FAILED_REQUEST
from conftest import Daemon

TOKEN = "generate-token-of-the-tests"


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
        assert page.text("#problem").startswith("The daemon cannot be reached (") and page.text("#facts") is None
