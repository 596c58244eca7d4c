#!/usr/bin/python3
"""tests/bench/page.py PROGRAM: what the page costs a browser: bytes, time until it is drawn, work while a text streams.

Prints the rows of tests/bench/LOG.md. Chromium without a window opens the page of a daemon on the loopback device, each time
with an empty cache. The work is that of the page's main thread, as Chromium counts it: the sum of its tasks, of whatever kind
(scripts, layout, painting, garbage).
"""

import contextlib
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests/http"))

import browser  # noqa: E402
import conftest  # noqa: E402

LOADS, STREAMS, CHARACTERS, SECONDS = 10, 3, 10_000, 120
PANELS = ("write", "inside", "models", "train", "status")
DONE = "document.getElementById('status-line').textContent === 'Done.'"


def fresh(page, url):
    page.cdp("Network.enable")
    page.cdp("Network.clearBrowserCache")
    page.go(url)


def measure_paint(chromium, url):
    """Returns milliseconds from the start of the navigation to the first contentful paint, of each load."""
    times = []
    with chromium.page("about:blank") as page:
        for _ in range(LOADS):
            fresh(page, url)
            times.append(page.wait("performance.getEntriesByName('first-contentful-paint')[0]?.startTime"))
    return times


def measure_bytes(chromium, url):
    """Returns {panel: bytes that came over the network since the panel before}."""
    sizes, seen = {}, 0
    with chromium.page(url, token=conftest.ADMIN) as page:
        for panel in PANELS:
            page.click(f'nav a[href="#{panel}"]')
            page.wait(f"performance.getEntriesByType('resource').some(({{ name }}) => name.endsWith('/{panel}.js'))")
            page.drawn()
            now = page.evaluate("""performance.getEntriesByType("navigation").concat(performance.getEntriesByType("resource")).filter(
                ({ name }) => /\\/($|web\\/|client)/.test(new URL(name).pathname)).reduce((sum, one) => sum + one.transferSize, 0)""")
            sizes[panel], seen = now - seen, now
    return sizes


def measure_stream(chromium, url):
    """Returns the seconds that a text streams, and the seconds that the main thread works meanwhile."""
    with chromium.page(url) as page:
        page.wait("document.getElementById('chosen').value !== ''")
        page.enter("#length", str(CHARACTERS))
        page.enter("#prompt", "Oil ")
        worked, start = page.work(), time.monotonic()
        page.click("#go")
        page.evaluate(f"""new Promise((resolve) => {{ const look = () => {DONE} ? resolve() : setTimeout(look, 50); look(); }})""")
        return time.monotonic() - start, page.work() - worked


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.split(":")[0])
    if reason := browser.missing():
        sys.exit(f"tests/bench/page.py: {reason}")
    conftest.PROGRAM = sys.argv[1]
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        chromium = stack.enter_context(contextlib.closing(browser.Browser(place, SECONDS)))
        settings = {"server.state_dir": f"{place}/state", "limits.max_length": CHARACTERS, "engine.kernel": None}
        daemon = stack.enter_context(contextlib.closing(conftest.Daemon(ROOT / "model/pretrained/headlines", settings)))
        url = f"http://{daemon.address}:{daemon.port}/"
        sizes = measure_bytes(chromium, url)
        print("bytes:", ", ".join(f"{panel} {size:,}" for panel, size in sizes.items()), f"all {sum(sizes.values()):,}")
        paints = sorted(measure_paint(chromium, url))
        print(f"first paint, {LOADS} loads: median {statistics.median(paints):.0f} ms, least {paints[0]:.0f}, most {paints[-1]:.0f}")
        for _ in range(STREAMS):
            took, worked = measure_stream(chromium, url)
            print(f"{CHARACTERS:,} characters: {took:.2f} s, in which the main thread works {1000 * worked:.0f} ms")


if __name__ == "__main__":
    main()
