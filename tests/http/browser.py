"""Drives Chromium without a window, through the pipe of its DevTools protocol. Also serves the pages that it opens."""

import contextlib
import http.server
import json
import os
import select
import shutil
import subprocess
import threading
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
           "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--remote-debugging-pipe"]


def find():
    return next((path for path in map(shutil.which, NAMES) if path), None)


class PageError(Exception):
    """An exception that a page's script threw."""


class Browser:
    """A running Chromium. A message is JSON and ends with NUL."""

    def __init__(self, directory, seconds):
        self.seconds, self.last, self.rest = seconds, 0, b""
        hear, self.told = os.pipe()
        self.heard, tell = os.pipe()
        command = [find(), *OPTIONS, f"--user-data-dir={directory}", "about:blank"]
        # Chromium reads descriptor 3 and writes descriptor 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{hear} 4>&{tell} {hear}<&- {tell}>&-', "bash", *command]
        environment = {**os.environ, "HOME": str(directory)}
        self.process = subprocess.Popen(shell, pass_fds=(hear, tell), env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(hear)
        os.close(tell)

    def receive(self, end):
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.heard], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self.heard, 65536)
            assert data, "the browser ended"
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.told, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + self.seconds
        while True:
            answer = self.receive(end)
            if answer.get("id") == self.last:
                assert "error" not in answer, answer
                return answer["result"]

    @contextlib.contextmanager
    def page(self, url):
        """Opens a page and returns it when it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        self.call("Page.navigate", session, url=url)
        page.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")
        yield page
        self.call("Target.closeTarget", targetId=target)

    def close(self):
        self.call("Browser.close")
        os.close(self.told)
        self.process.wait(self.seconds)
        os.close(self.heard)


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def evaluate(self, expression):
        """Returns the value of an expression. Waits if it is a promise."""
        answer = self.browser.call("Runtime.evaluate", self.session, expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise PageError(answer["exceptionDetails"]["exception"].get("description", answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait(self, condition):
        end = time.monotonic() + self.browser.seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, (condition, self.evaluate("document.body.innerText"))


class Pages:
    """Serves pages on its own port: pages[path] = (content type, text)."""

    def __init__(self):
        self.files = {"/": ("text/html", "<!doctype html><title>test</title>")}
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
