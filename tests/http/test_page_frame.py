"""The page as a whole: its policy and size, behind a path prefix, with and without a token, in two tabs, on a slow network."""

import contextlib
import json
import re
import subprocess
import urllib.parse

import pytest

from browser import FAILED_REQUEST
from conftest import ADMIN, DEADLINE, Daemon
from make_model import make_model
from test_nginx import NGINX, free_port

PANELS = ("write", "inside", "models", "train", "status")
TOKEN = "generate-token-of-the-tests"
BUDGET = 150_000  # bytes of all files of the page, compressed as they come over the network, without heads


@pytest.fixture(scope="module")
def daemon(models, tmp_path_factory):
    """A daemon with two models, which runs jobs."""
    state = tmp_path_factory.mktemp("state")
    make_model(state / "models/other", seed=5)
    running = Daemon(models["tiny"], {"server.state_dir": state, "limits.max_length": 10_000_000})
    assert running.admin("POST", "/models/other/load").status == 200
    yield running
    running.close()


def go_to(page, panel):
    """Chooses a panel as a person does, and waits until it is seen."""
    page.click(f'nav a[href="#{panel}"]')
    page.wait(f"document.getElementById('{panel}').checkVisibility() && location.hash.startsWith('#{panel}')")


def wait_model(page, name="tiny"):
    page.wait(f"document.getElementById('chosen').value === {json.dumps(name)}")


def generate(page, **values):
    for id, value in values.items():
        page.enter(f"#{id}", str(value))
    page.click("#go")
    page.wait("document.getElementById('status-line').textContent === 'Done.'")
    return page.evaluate("document.getElementById('prompt').value")


# --- Policy and size ---


def test_policy_allows_nothing_inline(daemon):
    for path in ("/", "/web/app.js", "/web/style.css"):
        answer = daemon.get(path)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == policy["base-uri"] == "'none'", path
        assert set(policy["script-src"].split()) == set(policy["style-src"].split()) == {"'self'"}, path
        assert "unsafe" not in answer.headers["Content-Security-Policy"], path
    page = daemon.get("/").body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert all(re.search(r"\ssrc=", tag) for tag in re.findall(r"<script[^>]*>", page))


def test_all_addresses_of_the_page_are_relative(daemon):
    page = daemon.get("/").body.decode()
    addresses = re.findall(r"\s(?:href|src|action)=\"([^\"]*)\"", page)
    assert len(addresses) > 5
    assert [one for one in addresses if one.startswith("/") or ":" in one] == []


def test_whole_page_is_small(chromium, daemon):
    """Counts every file that the page loads for all its panels: HTML, modules, styles, the charts' library."""
    with chromium.page("about:blank", token=ADMIN) as page:
        page.cdp("Network.enable")
        page.cdp("Network.setCacheDisabled", cacheDisabled=True)
        page.go(f"http://{daemon.address}:{daemon.port}/")
        for panel in PANELS:
            go_to(page, panel)
            page.wait(f"performance.getEntriesByType('resource').some(({{ name }}) => name.endsWith('/{panel}.js'))")
        page.wait("performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/dygraph.min.js'))")
        sizes = page.evaluate("""Object.fromEntries(performance.getEntriesByType("navigation").concat(performance.getEntriesByType("resource"))
            .filter(({ name }) => /\\/($|web\\/|client)/.test(new URL(name).pathname) && !name.endsWith(".json"))
            .map(({ name, encodedBodySize }) => [name, encodedBodySize]))""")
    assert len(sizes) > 8 and min(sizes.values()) > 0, sizes
    assert sum(sizes.values()) < BUDGET, sizes


# --- Behind a proxy, with a path before all others ---


@pytest.fixture
def prefixed(daemon, tmp_path):
    """Returns the address of the daemon behind an nginx that serves it below /lab/text/ and refuses everything else."""
    if not NGINX:
        pytest.skip("SKIPPED: nginx is not installed")
    port = free_port()
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(f"""daemon off; worker_processes 1; pid {tmp_path}/pid; events {{ worker_connections 256; }}
        http {{ access_log off; {folders} server {{ listen 127.0.0.1:{port}; location / {{ return 404; }}
        location /lab/text/ {{ proxy_pass http://127.0.0.1:{daemon.port}/; proxy_set_header Host localhost; proxy_http_version 1.1;
        proxy_buffering off; }} }} }}""")
    command = [NGINX, "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stderr=log)
        yield f"http://127.0.0.1:{port}/lab/text/"
        process.terminate()
        process.wait(DEADLINE)


def test_path_prefix(chromium, prefixed):
    with chromium.page(prefixed, token=ADMIN) as page:
        wait_model(page)
        assert generate(page, prompt="abc", length=20, seed=3).startswith("abc")
        for panel in PANELS:
            go_to(page, panel)
        outside = page.evaluate("""performance.getEntriesByType("resource").map(({ name }) => name)
            .filter((name) => !name.startsWith(new URL(".", location).href) && !name.startsWith("data:"))""")
        assert outside == []
        for link in page.evaluate("[...document.querySelectorAll('footer a')].map(({ href }) => href)"):
            assert page.evaluate(f"fetch({json.dumps(link)}).then(({{ status }}) => status)") == 200, link


# --- Panels and addresses ---


def test_panels_have_addresses(chromium, daemon):
    with chromium.open(daemon, "#inside", token=ADMIN) as page:
        for panel in PANELS:
            go_to(page, panel)
            seen = "[...document.querySelectorAll('main > section')].filter((one) => one.checkVisibility()).map(({ id }) => id)"
            assert page.evaluate(seen) == [panel]
            assert page.evaluate("document.querySelector('nav a[aria-current=page]').hash") == f"#{panel}"
        page.evaluate("history.back()")
        page.wait("document.getElementById('train').checkVisibility()")
        page.evaluate("location.hash = '#nothing'")
        page.wait("document.getElementById('write').checkVisibility()")


# --- Tokens ---


@pytest.fixture
def closed(start):
    """A daemon that wants a token for everything."""
    return start("tiny", {"auth.generate_tokens": TOKEN})


def give_token(page, token):
    page.wait("document.getElementById('token-dialog').open")
    page.enter("#token", token)
    page.key("Enter")


def test_token_is_kept_by_this_tab_alone(chromium, closed):
    with chromium.open(closed, allow=[FAILED_REQUEST]) as page:
        give_token(page, TOKEN)
        wait_model(page)
        assert page.evaluate("sessionStorage.getItem('token')") == TOKEN
        assert TOKEN not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        page.reload()
        wait_model(page)
        assert not page.evaluate("document.getElementById('token-dialog').open")
        with chromium.open(closed, allow=[FAILED_REQUEST]) as other:
            other.wait("document.getElementById('token-dialog').open")


def test_token_that_has_expired_is_asked_for_once(chromium, closed):
    """What was typed stays, and the request goes on with the new token."""
    with chromium.open(closed, allow=[FAILED_REQUEST]) as page:
        give_token(page, TOKEN)
        wait_model(page)
        page.evaluate("sessionStorage.setItem('token', 'no-longer')")
        page.reload()
        page.wait("document.getElementById('token-hint').textContent === 'The daemon does not know this token.'")
        assert page.evaluate("document.querySelectorAll('dialog[open]').length") == 1
        give_token(page, TOKEN)
        wait_model(page)
        assert generate(page, prompt="abc", length=5).startswith("abc")


def test_question_for_a_token_can_be_left(chromium, closed):
    with chromium.open(closed, allow=[FAILED_REQUEST]) as page:
        page.wait("document.getElementById('token-dialog').open")
        page.key("Escape")
        page.wait("!document.getElementById('token-dialog').open")
        assert page.evaluate("sessionStorage.getItem('token')") is None
        assert "token" in page.text("#model")


# --- Two tabs ---


def test_two_tabs_have_their_own_models_and_texts(chromium, daemon):
    with chromium.open(daemon) as first, chromium.open(daemon) as second:
        for page in (first, second):
            wait_model(page)
        second.evaluate("chosen.value = 'other', chosen.dispatchEvent(new Event('change'))")
        texts = [generate(page, prompt="abc", length=40, seed=3, temperature=1) for page in (first, second)]
        assert texts == [daemon.generate(prompt="abc", length=40, seed=3, temperature=1, model=model)["text"] for model in ("tiny", "other")]
        first.reload()
        wait_model(first)


# --- Networks and daemons that fail ---


def test_slow_network(chromium, daemon):
    """As with a phone far from its mast: 300 ms for each request, 40 kB in a second."""
    with chromium.page("about:blank") as page:
        page.network(latency=300, download=40_000, upload=20_000)
        page.go(f"http://{daemon.address}:{daemon.port}/")
        wait_model(page)
        assert generate(page, prompt="abc", length=30).startswith("abc")


def test_daemon_that_has_gone_is_named_in_every_panel(chromium, models):
    daemon = Daemon(models["tiny"])
    with chromium.open(daemon, allow=[FAILED_REQUEST]) as page:
        wait_model(page)
        for panel in PANELS:  # the modules
            go_to(page, panel)
        daemon.close()
        for panel in PANELS:
            go_to(page, panel)
