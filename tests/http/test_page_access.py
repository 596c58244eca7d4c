"""The page for everybody: a keyboard alone, a screen of 360 pixels, a wide one, a screen reader, light and dark.

A state is a panel with something in it. axe-core (npm) finds no violation in any state, light, dark or on a phone.
"""

import pytest

from browser import FAILED_REQUEST
from conftest import ADMIN, Daemon
from test_page_frame import PANELS, generate, go_to, wait_model

TEXT = "The quick brown fox"


@pytest.fixture(scope="module")
def daemon(models, tmp_path_factory):
    running = Daemon(models["tiny"], {"server.state_dir": tmp_path_factory.mktemp("state"), "limits.max_length": 10_000_000})
    yield running
    running.close()


# --- States ---


def written(page):
    generate(page, prompt="abc", length=200, seed=3)


def mistaken(page):
    page.allow(FAILED_REQUEST)
    page.enter("#length", "0")
    page.click("#go")
    page.wait("document.getElementById('length').getAttribute('aria-invalid') === 'true'")


def looked_inside(page):
    page.enter("#inside-text", TEXT)
    page.click("#inside-look")
    page.wait("document.getElementById('inside-result').checkVisibility() && !document.getElementById('inside-status').textContent")


STATES = {
    "write": ("write", lambda page: None),
    "write, a text": ("write", written),
    "write, a mistake": ("write", mistaken),
    "inside": ("inside", lambda page: None),
    "inside, a text": ("inside", looked_inside),
    "models": ("models", lambda page: None),
    "train": ("train", lambda page: None),
    "status": ("status", lambda page: None),
}


@pytest.fixture(params=STATES)
def state(request, chromium, daemon):
    panel, prepare = STATES[request.param]
    with chromium.open(daemon, f"#{panel}", token=ADMIN) as page:
        wait_model(page)
        go_to(page, panel)
        prepare(page)
        yield page


def test_axe_finds_nothing(state):
    state.axe()
    state.dark()
    state.axe()
    state.phone()
    state.axe()


def test_small_screen_does_not_scroll_to_the_side(state):
    state.phone()
    assert state.wider_than_screen() == []
    state.size(320, 640, mobile=True)  # 1280 pixels at 400 %: WCAG 1.4.10
    assert state.wider_than_screen() == []


# The elements that a keyboard can reach. Of a toolbar, a tab list or a radio group, the arrows reach all but one.
REACHABLE = """[...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")].filter((one) =>
    one.checkVisibility({ visibilityProperty: true }) && !one.disabled && one.tabIndex >= 0 && (one.type !== "radio" || one.checked))"""


# Where the focus went, and whether an outline showed it: that of the element or of a box around it.
RECORD = """(window.visited = [], document.activeElement.blur(), addEventListener("focusin", ({ target }) => {
    let box = target;
    while (box && getComputedStyle(box).outlineStyle === "none") box = box.parentElement;
    visited.push({ target, seen: !!box });
}))"""


def test_keyboard_reaches_everything_and_shows_where_it_is(state):
    wanted = state.evaluate(f"(window.wanted = {REACHABLE}).length")
    assert wanted > 5
    state.evaluate(RECORD)
    state.key(*["Tab"] * (wanted + 5))
    missed = "wanted.filter((one) => one.checkVisibility() && !visited.some(({ target }) => target === one))"
    assert state.evaluate(f"{missed}.map((one) => one.outerHTML.slice(0, 150))") == []
    assert state.evaluate("visited.filter(({ seen }) => !seen).map(({ target }) => target.outerHTML.slice(0, 150))") == []


# --- A keyboard alone ---


def test_keyboard_alone_writes_a_text(chromium, daemon):
    with chromium.open(daemon) as page:
        wait_model(page)
        page.key("Tab")
        assert page.focused().text == "Skip to the panel"
        page.key("Enter")
        page.wait("document.activeElement === document.getElementById('main')")
        page.key("Tab")
        assert page.focused().get_attribute("id") == "prompt"
        page.key("Control+a")
        page.type("abc")
        page.key("Control+Enter")
        page.wait("document.getElementById('status-line').textContent === 'Done.'")
        assert page.focused().get_attribute("id") == "prompt"
        assert page.evaluate("document.getElementById('prompt').value.startsWith('abc')")


def test_keyboard_alone_goes_into_each_panel(chromium, daemon):
    """After a panel was chosen, the next element is the panel's first."""
    with chromium.open(daemon, token=ADMIN) as page:
        wait_model(page)
        for panel in PANELS:
            page.evaluate(f"document.querySelector('nav a[href=\"#{panel}\"]').focus()")
            page.key("Enter")
            page.wait(f"document.getElementById('{panel}').checkVisibility()")
            page.wait(f"document.querySelector('#{panel} :is(button, input, select, textarea, summary)') !== null")
            page.key("Tab")
            assert page.evaluate(f"document.getElementById('{panel}').contains(document.activeElement)"), panel


# --- Screens ---


@pytest.mark.parametrize("width", [1280, 1920])
def test_wide_screen_is_used(chromium, daemon, width):
    """Something of the panel stands at each quarter of the window."""
    with chromium.open(daemon, size=(width, 900)) as page:
        wait_model(page)
        for x in (width // 4, width // 2, 3 * width // 4):
            assert page.evaluate(f"""[...document.querySelectorAll("#write *")].some((one) => one.checkVisibility() &&
                !one.firstElementChild && one.getBoundingClientRect().left <= {x} && one.getBoundingClientRect().right >= {x})""")
