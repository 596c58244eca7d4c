"""Drives Chromium without a window, through selenium and chromedriver. Also serves the pages that it opens.

    def test_something(chromium, daemon):
        with chromium.open(daemon, "#train") as page:
            page.click("#go")
            page.wait("document.querySelector('#status').textContent === 'Done.'")
            page.axe()

A page that writes to the console fails its test when the `with` ends. page.allow() excuses what a test provokes.
"""

import base64
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import threading

try:
    from selenium import webdriver
    from selenium.common.exceptions import JavascriptException, TimeoutException
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait
except ImportError:
    webdriver = None

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Root has no sandbox of Chromium's, and small machines have no large /dev/shm. A window behind another one draws, too.
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
           "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync",
           "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding", "--force-color-profile=srgb"]
WIDE, PHONE = (1280, 800), (360, 740)
FAILED_REQUEST = "Failed to load resource"  # Chromium's message for each answer from 400 on, and for a dead server


def find():
    return next((path for path in map(shutil.which, NAMES) if path), None)


def missing():
    """Returns what a browser test lacks here, or None. selenium must find a driver: else it would download one."""
    if not find():
        return "chromium is not installed"
    if not shutil.which("chromedriver"):
        return "chromedriver is not installed (Debian: chromium-driver)"
    return None if webdriver else "selenium is not installed (Debian: python3-selenium)"


class PageError(Exception):
    """An exception that a page's script threw."""


class Browser:
    """A running Chromium with a fresh profile. Its pages share storage (localStorage), as the tabs of a person do.

    directory: an empty one. seconds: how long a wait may last.
    """

    def __init__(self, directory, seconds):
        self.directory, self.seconds, self.axe_source = pathlib.Path(directory), seconds, None
        self.allowed, self.here = [], None
        (self.directory / "downloads").mkdir()
        chosen = Options()
        chosen.binary_location = find()
        for option in [*OPTIONS, f"--user-data-dir={self.directory / 'profile'}"]:
            chosen.add_argument(option)
        chosen.add_experimental_option("prefs", {"download.default_directory": str(self.directory / "downloads")})
        chosen.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        chosen.ignore_local_proxy_environment_variables()
        service = Service(shutil.which("chromedriver"), env={**os.environ, "HOME": str(self.directory)})
        self.driver = webdriver.Chrome(service=service, options=chosen)
        self.driver.set_script_timeout(seconds)
        self.driver.set_page_load_timeout(seconds)
        self.home = self.driver.current_window_handle

    def switch(self, handle):
        if handle != self.here:
            self.driver.switch_to.window(handle)
            self.here = handle

    def console(self):
        """Returns what the pages and Chromium wrote since the last call and no test allowed."""
        lines = [f"{entry['level']} {entry['message']}" for entry in self.driver.get_log("browser")]
        return [line for line in lines if not any(re.search(pattern, line) for pattern in self.allowed)]

    @contextlib.contextmanager
    def page(self, url, allow=(), size=WIDE, token=None):
        """Opens a page in a window of its own and returns it when it has loaded. token: as if it had been typed before."""
        self.switch(self.home)
        target = self.driver.execute_cdp_cmd("Target.createTarget", {"url": "about:blank", "newWindow": True})
        page = Page(self, target["targetId"])
        try:
            page.allow(*allow)
            page.size(*size)
            page.cdp("Emulation.setFocusEmulationEnabled", enabled=True)
            if token:
                source = f"if (origin !== 'null' && !sessionStorage.token) sessionStorage.token = {json.dumps(token)}"
                page.cdp("Page.addScriptToEvaluateOnNewDocument", source=source)
            page.go(url)
            yield page
        except BaseException:
            page.show()
            raise
        else:
            written = self.console()
            assert not written, "\n".join(["the page wrote to the console:", *written])
        finally:
            page.close()
            if self.driver.window_handles == [self.home]:
                self.allowed.clear()
                self.driver.get_log("browser")

    def open(self, daemon, path="", **options):
        """Opens a page of a daemon."""
        return self.page(f"http://{daemon.address}:{daemon.port}/{path}", **options)

    def close(self):
        self.driver.quit()


class Page:
    """A page in its window. `what` is a CSS selector or an element of selenium's."""

    def __init__(self, browser, handle):
        self.browser, self.handle = browser, handle

    # --- Scripts and waits ---

    @property
    def driver(self):
        """selenium's driver, in this page's window."""
        self.browser.switch(self.handle)
        return self.browser.driver

    def cdp(self, method, **parameters):
        """Calls a method of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(method, parameters)

    def run(self, code, *values):
        """Returns what a function body returns. It finds the values in arguments. Waits if that is a promise."""
        try:
            return self.driver.execute_script(code, *values)
        except JavascriptException as error:
            raise PageError(error.msg) from None

    def evaluate(self, expression):
        """Returns the value of an expression. Waits if it is a promise."""
        return self.run(f"return (\n{expression}\n)")

    def wait(self, condition, seconds=None):
        """Waits until an expression is true, or until a function returns what is true. Returns its value."""
        look = condition if callable(condition) else lambda: self.evaluate(condition)
        try:
            return WebDriverWait(self.driver, seconds or self.browser.seconds, poll_frequency=0.02).until(lambda _: look())
        except TimeoutException:
            raise AssertionError(f"never true: {condition}") from None

    def go(self, url):
        """Goes to a URL and returns when it has loaded."""
        self.driver.get(url)
        self.drawn()

    def reload(self):
        self.driver.refresh()
        self.drawn()

    def drawn(self):
        """Waits until the page has been drawn. Chromium drops keys before that."""
        self.run("return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve())))")

    def allow(self, *patterns):
        """The test provokes messages like these. They may stand in the console until all pages are closed."""
        self.browser.allowed.extend(patterns)

    def show(self):
        """Prints what helps to understand a failure."""
        with contextlib.suppress(Exception):
            print("console:", *self.browser.console(), sep="\n  ")
            print("page:", self.evaluate("location.href + '\\n' + document.body.innerText.slice(0, 3000)"))

    def close(self):
        """Closes the window. What the page's origin stored is forgotten: another test may have the same origin."""
        origin = self.evaluate("location.origin")
        if origin.startswith("http"):
            self.cdp("Storage.clearDataForOrigin", origin=origin, storageTypes="all")
        self.driver.close()
        self.browser.switch(self.browser.home)

    # --- Elements ---

    def find(self, what):
        return self.driver.find_element(By.CSS_SELECTOR, what) if isinstance(what, str) else what

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, what):
        """Returns the text of an element as it is seen, or None while there is none to see."""
        found = self.all(what) if isinstance(what, str) else [what]
        return found[0].text if found and found[0].is_displayed() else None

    def click(self, what):
        """Clicks like a person: fails if the element cannot be seen or lies under another one."""
        self.wait(lambda: self.find(what).is_enabled())
        self.find(what).click()

    def enter(self, what, text):
        """Replaces the text of a field, with the events of a person's typing."""
        element = self.find(what)
        self.run("""const [field] = arguments;
            field.focus();
            field.select ? field.select() : getSelection().selectAllChildren(field);""", element)
        self.type(text) if text else self.key("Delete")

    def type(self, text):
        """Types a text of any script where the focus is."""
        self.cdp("Input.insertText", text=text)

    def key(self, *chords):
        """Presses keys where the focus is: key("Tab", "Control+Enter", "Shift+F10")."""
        actions = ActionChains(self.driver, duration=0)
        for chord in chords:
            names = re.split(r"(?<=.)\+", chord)
            keys = [getattr(Keys, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()) if len(name) > 1 else name for name in names]
            for key in keys[:-1]:
                actions.key_down(key)
            actions.send_keys(keys[-1])
            for key in reversed(keys[:-1]):
                actions.key_up(key)
        actions.perform()

    def hover(self, what):
        ActionChains(self.driver, duration=0).move_to_element(self.find(what)).perform()

    def focused(self):
        """Returns the element that has the focus."""
        return self.driver.switch_to.active_element

    def choose_file(self, what, *paths):
        """Chooses files in an <input type=file>, hidden or not."""
        self.find(what).send_keys("\n".join(map(str, paths)))

    def drop(self, what, name, content, kind="text/plain"):
        """Drops a file on an element, with the events that Chromium sends."""
        self.run("""const [element, name, content, type] = arguments;
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, { type }));
            for (const event of ["dragenter", "dragover", "drop"])
              element.dispatchEvent(new DragEvent(event, { bubbles: true, cancelable: true, dataTransfer }));
            """, self.find(what), name, base64.b64encode(content).decode(), kind)

    def downloaded(self, name):
        """Waits for a download and returns its content."""
        file = self.browser.directory / "downloads" / name
        self.wait(file.exists)  # Chromium renames it when it is complete
        content = file.read_bytes()
        file.unlink()
        return content

    def clipboard(self):
        """Returns the text that was copied last."""
        self.driver.set_permissions("clipboard-read", "granted")
        return self.evaluate("navigator.clipboard.readText()")

    # --- What surrounds the page ---

    def size(self, width, height, **options):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False, **options}
        self.cdp("Emulation.setDeviceMetricsOverride", **metrics)

    def phone(self):
        self.size(*PHONE, deviceScaleFactor=2, mobile=True)
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=True)

    def media(self, **features):
        """media(prefers_color_scheme="dark", prefers_reduced_motion="reduce")"""
        pairs = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.cdp("Emulation.setEmulatedMedia", features=pairs)

    def dark(self):
        self.media(prefers_color_scheme="dark")

    def network(self, latency=0, download=-1, upload=-1, offline=False):
        """latency in milliseconds, the rates in bytes per second; -1: as fast as it goes. No argument: the network as it is."""
        self.cdp("Network.enable")
        rates = {"downloadThroughput": download, "uploadThroughput": upload}
        self.cdp("Network.emulateNetworkConditions", offline=offline, latency=latency, **rates)

    def picture(self):
        """Returns the visible part as a PNG."""
        return self.driver.get_screenshot_as_png()

    # --- What the page costs, and whom it shuts out ---

    def work(self):
        """Returns how many seconds the main thread has worked: tasks of every kind, from scripts to painting."""
        self.cdp("Performance.enable")
        return next(one["value"] for one in self.cdp("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration")

    def axe(self, context="document"):
        """Asserts that axe-core finds no violation. context: an expression, the part of the page to look at. Colours that
        are still changing would be measured half way."""
        self.drawn()
        self.wait("document.getAnimations().every(({ playState, effect }) => playState !== 'running' || effect.getTiming().iterations === Infinity)")
        if not self.evaluate("'axe' in window"):
            self.run(self.browser.axe_source())
        found = self.evaluate(f"""axe.run({context}, {{ resultTypes: ["violations"] }}).then(({{ violations }}) => violations.map(
            ({{ id, help, nodes }}) => [id, help, ...nodes.map(({{ html, failureSummary }}) => `${{html}}: ${{failureSummary}}`)]))""")
        assert not found, json.dumps(found, indent=1, ensure_ascii=False)

    def wider_than_screen(self):
        """Returns the elements that make the page scroll to the side."""
        return self.run("""const { scrollWidth, clientWidth } = document.documentElement;
            const wide = (one) => one.getBoundingClientRect().right > clientWidth + 0.5;
            const all = scrollWidth > clientWidth ? [...document.querySelectorAll("body *")] : [];
            return all.filter(wide).map((one) => one.outerHTML.slice(0, 200));""")

    def in_sight(self, what):
        """Returns whether the middle of an element's first line is on the screen and nothing covers it."""
        return self.run("""const { left, top, width, height } = arguments[0].getBoundingClientRect();
            const [x, y] = [left + width / 2, top + Math.min(height / 2, 12)];
            const hit = document.elementFromPoint(x, y);
            return arguments[0].contains(hit);""", self.find(what))


class Pages:
    """Serves pages on its own port: pages[path] = (content type, text)."""

    def __init__(self):
        self.files = {"/": ("text/html", "<!doctype html><title>test</title>"), "/favicon.ico": ("image/png", "")}
        pages = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content_type, text = pages.files.get(self.path, ("text/plain", ""))
                self.send_response(200 if self.path in pages.files else 404)
                self.send_header("Content-Type", f"{content_type}; charset=utf-8")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
