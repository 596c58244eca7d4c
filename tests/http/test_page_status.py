"""The panel Status: the figures of /metrics in words and plots, what it says without them, and what it costs."""

import json
import re

import pytest

from browser import FAILED_REQUEST
from conftest import ADMIN, Daemon

PLOTS = 9


@pytest.fixture(scope="module")
def daemon(models, tmp_path_factory):
    running = Daemon(models["tiny"], {"server.state_dir": tmp_path_factory.mktemp("status") / "state"})
    yield running
    running.close()


def shown(page):
    """Waits for the second reading, with which the plots come."""
    page.wait("document.querySelectorAll('#status-cards canvas').length >= 2")
    page.wait(f"new Set([...document.querySelectorAll('#status-cards canvas')].map((one) => one.closest('.card'))).size === {PLOTS}")


def values(page, title):
    """Returns the numbers of a card: {words: number}."""
    card = f"document.querySelector('#status-cards [aria-label={json.dumps(title)}]')"
    return page.evaluate(f"Object.fromEntries([...{card}.querySelectorAll('dl > div')].map((one) => [...one.children].map((part) => part.textContent)))")


def test_figures_are_those_of_the_daemon(chromium, daemon):
    for seed in range(3):
        daemon.generate(prompt="abc", length=20, seed=seed)
    with chromium.open(daemon, "#status") as page:
        shown(page)
        assert page.text("#status-state") == "Ready: tiny answers."
        facts = page.text("#status-facts")
        version = re.search(r'lstmd_build_info{version="(.*?)",revision="(.*?)"}', daemon.get("/metrics").body.decode())
        assert f"{version[1]} ({version[2]})" in facts and "models in memory\n1" in facts
        page.find("#status-window").send_keys("all the time since the start")
        page.wait("document.querySelectorAll('#status-latency-rows tr').length === 4")
        counts = page.evaluate("[...document.querySelectorAll('#status-latency-rows td:last-child')].map((one) => one.textContent)")
        started = int(re.search(r"lstmd_queue_seconds_count (\d+)", daemon.get("/metrics").body.decode())[1])
        assert counts == [str(started)] * 4 and started >= 3
        assert re.search(r"\d (µs|ms|s) ", page.text("#status-latency-rows"))
        assert "free where the daemon keeps" in page.text("#status-disk-line") and page.find("#status-disk-meter").is_displayed()
        assert page.text("#status-jobs-line").startswith("0 running")
        assert values(page, "Memory")["in all"].endswith(" MB")
        assert page.text("#status-problem") is None


def test_plots_follow_what_the_daemon_does(chromium, daemon):
    with chromium.open(daemon, "#status") as page:
        shown(page)
        page.wait("document.querySelector('#status-cards dd').textContent === '0'")
        with daemon.send_generate(prompt="a", length=1000, seed=1):
            page.wait("!['0', '–'].includes(document.querySelector('#status-cards dd').textContent)")
        page.hover("#status-cards .card:first-child .plot")
        page.wait("document.querySelector('.status-time').textContent !== ''")
        page.hover("h1")
        page.wait("document.querySelector('.status-time').textContent === ''")


def asked(daemon):
    return sum(int(count) for count in re.findall(r'lstmd_http_requests_total{route="/metrics",code="200"} (\d+)', daemon.get("/metrics").body.decode()))


def test_pause_and_other_panels_stop_the_readings(chromium, daemon):
    with chromium.open(daemon, "#status") as page:
        shown(page)
        for stop, go in (("#status-pause", "#status-pause"), ("nav a[href='#models']", "nav a[href='#status']")):
            page.click(stop)
            page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")  # an answer may be on its way
            before = asked(daemon)
            page.evaluate("new Promise((resolve) => setTimeout(resolve, 2500))")  # longer than from one reading to the next
            assert asked(daemon) == before + 1
            page.click(go)
            page.wait(lambda: asked(daemon) > before + 3)


def test_dead_daemon_and_its_return(chromium, models):
    first = Daemon(models["tiny"])
    with chromium.open(first, "#status", allow=[FAILED_REQUEST]) as page:
        shown(page)
        assert "no state directory" in page.text("#status-disk-line") and page.text("#status-disk-meter") is None
        first.close()
        page.wait("!document.getElementById('status-problem').hidden")
        assert "cannot be reached" in page.text("#status-problem")
        second = Daemon(models["tiny"], {"server.port": first.port})
        try:
            page.wait("document.getElementById('status-problem').hidden")
            page.wait("document.getElementById('status-facts').innerText.includes('runs for')")
        finally:
            second.close()


def test_figures_that_are_not_shown(chromium, daemon):
    """A proxy or a daemon refuses /metrics. The panel says why, and asks for a token where one would help."""
    with chromium.open(daemon) as page:
        page.cdp("Page.addScriptToEvaluateOnNewDocument", source="""
            window.refusal = { status: 403, detail: "the proxy does not let this path through" };
            window.fetch = ((real) => (url, options) => String(url).endsWith("/metrics") && !options.headers.Authorization
              ? Promise.resolve(new Response(JSON.stringify(window.refusal), { status: window.refusal.status }))
              : real(url, options))(window.fetch)""")
        page.evaluate("location.hash = '#status'")
        page.reload()
        page.wait("!document.getElementById('status-problem').hidden")
        assert page.text("#status-problem") == "The figures are not shown here: the proxy does not let this path through."
        assert page.text("#status-token") is None and page.text("#status-figures") is None
        page.axe("document.getElementById('status')")
        page.evaluate("window.refusal = { status: 401, detail: 'this needs a token' }")
        page.wait("document.getElementById('status-token').checkVisibility()")
        assert not page.evaluate("document.getElementById('token-dialog').open"), "the page does not ask by itself"
        page.click("#status-token button")
        page.enter("#token", ADMIN)
        page.key("Enter")
        shown(page)
        assert page.text("#status-problem") is None and page.text("#status-token") is None


def test_everybody_can_use_it(chromium, daemon):
    with chromium.open(daemon, "#status") as page:
        shown(page)
        page.axe("document.getElementById('status')")
        page.dark()
        page.axe("document.getElementById('status')")
        page.phone()
        page.drawn()
        assert page.wider_than_screen() == []
