"""The panel "Train" in a browser: a text is dropped, understood, trained on and tried, and nothing of it is lost."""

import contextlib
import xml.etree.ElementTree as ElementTree

import pytest

import training
from browser import FAILED_REQUEST
from conftest import ADMIN, Daemon

TEXT = training.text()
SMALL = {"hidden": "16", "batch": "8", "bptt": "16", "threads": "1", "epochs": "3", "sample_length": "40"}


@pytest.fixture(scope="module")
def daemon(models, tmp_path_factory):
    settings = {"server.state_dir": tmp_path_factory.mktemp("state") / "state", "train.max_parallel": 4}
    running = Daemon(models["tiny"], settings)
    yield running
    running.close()


@contextlib.contextmanager
def opened(chromium, daemon, place="#train", token=ADMIN, **options):
    with chromium.page("about:blank", **options) as page:
        if token:
            page.cdp("Page.addScriptToEvaluateOnNewDocument", source=f"sessionStorage.setItem('token', '{token}')")
        page.go(f"http://{daemon.address}:{daemon.port}/{place}")
        yield page


def wait_text(page, selector, *parts):
    """Waits until an element shows all of these."""
    page.wait(lambda: (shown := page.text(selector)) is not None and all(part in shown for part in parts))


def wait_state(page, state):
    page.wait(lambda: page.text("#train-job-state") == state)


def drop(page, name, content):
    page.drop("#train-drop", name, content if isinstance(content, bytes) else content.encode())


def fill(page, **options):
    page.wait("document.querySelector('#train-hidden') !== null")
    page.evaluate("document.getElementById('train-options-box').open = true")
    for name, value in options.items():
        page.enter(f"#train-{name}", value)


def job_of(page):
    page.wait("location.hash.startsWith('#train?job=')")
    return page.evaluate("/job=(j[0-9]+)/.exec(location.hash)[1]")


def datasets(daemon):
    return [one["name"] for one in daemon.admin("GET", "/datasets").json()["datasets"]]


def learned(daemon, id):
    """Returns the points of the training loss. A validation's row has the mean of its epoch, unless there are no other rows."""
    metrics = training.metrics(daemon, id).json()["metrics"]
    rows = [row for row in metrics if row["learning_rate"] is not None] or metrics
    return [[row["step"], row["train_nats_per_char"]] for row in rows]


def checked(daemon, id):
    metrics = training.metrics(daemon, id).json()["metrics"]
    return [[row["step"], row["validation_nats_per_char"]] for row in metrics if row["validation_nats_per_char"] is not None]


def drawn(page, box):
    """Returns the rows of a chart as dygraphs has them: [x, y1, ...]."""
    return page.run("""const { plotIn } = await import(new URL("web/plot.js", location.href.split("#")[0]));
        const chart = plotIn(document.getElementById(arguments[0]));
        if (!chart) return [];
        const columns = [...chart.getLabels().keys()];
        return Array.from({ length: chart.numRows() }, (_, row) => columns.map((column) => chart.getValue(row, column)));""", box)


def test_dropped_text_is_previewed(chromium, daemon):
    before = set(datasets(daemon))  # other tests have the same daemon
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        page.wait("document.querySelector('#train-hidden') !== null")
        text = "The rain in Spain\nstays mainly\n" * 50
        drop(page, "My poems (1).txt", text)
        wait_text(page, "#train-preview-facts", "one running text", f"{len(text):,}", f"{len(set(text))} different characters")
        assert page.text("#train-preview-title") == "My-poems-1.txt" and set(datasets(daemon)) - before == {"My-poems-1.txt"}
        assert page.evaluate("document.getElementById('train-excerpt').textContent") == text[:600]
        learn = len(text) - round(len(text) * 0.1)
        wait_text(page, "#train-split-text", f"{learn:,} characters (90 %)", f"{len(text) - learn:,} (10 %)")
        fill(page, validation="0.5")
        wait_text(page, "#train-split-text", f"{len(text) // 2:,} characters (50 %)")
        assert page.evaluate("document.getElementById('train-model').value") == "my-poems-1"
        page.reload()
        wait_text(page, "#train-preview-facts", f"{len(text):,}")
        drop(page, "rows.csv", "World,one\nSports,three\nWorld,three\n")
        wait_text(page, "#train-text-problem", 'the first row is "World", "one"')
        assert page.text("#train-excerpt").startswith("World,one")
        assert set(datasets(daemon)) == before  # nothing used the other one
        page.enter("#train-columns", "2")
        page.enter("#train-label_column", "1")
        page.click("#train-read-again")
        wait_text(page, "#train-preview-facts", "a document per row", "Documents\n3", "Labels\n2", "Alphabet\n6 different", f"Characters\n{len('onethreethree')}")
        page.click("#train-discard")
        page.wait(lambda: set(datasets(daemon)) == before and page.text("#train-preview") is None)


def test_wrong_text_and_wrong_option_are_named_at_their_fields(chromium, daemon):
    before, jobs = set(datasets(daemon)), daemon.admin("GET", "/train").json()["jobs"]
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        page.wait("document.querySelector('#train-hidden') !== null")
        drop(page, "broken.txt", b"good\nb\xffad\n")
        wait_text(page, "#train-text-problem", "broken.txt:2: not UTF-8")
        assert page.text("#train-preview-facts") is None and set(datasets(daemon)) == before
        page.click("#train-go")
        wait_text(page, "#train-problem", "There is no text yet.")
        drop(page, "good.txt", TEXT)
        wait_text(page, "#train-preview-facts", f"{len(TEXT):,}")
        assert page.text("#train-text-problem") is None
        page.enter("#train-model", "..")
        fill(page, hidden="0", lr="much")
        page.evaluate("document.getElementById('train-options-box').open = false")
        page.click("#train-go")
        wait_text(page, "#train-hidden-problem", "16384")
        wait_text(page, "#train-lr-problem", "number")
        assert page.text("#train-model-problem") and page.focused().get_attribute("id") == "train-model"
        assert daemon.admin("GET", "/train").json()["jobs"] == jobs
        page.click("#train-discard")
        page.wait(lambda: set(datasets(daemon)) == before)


def test_a_text_is_trained_on_and_tried(chromium, daemon):
    with opened(chromium, daemon) as page:
        page.wait("document.querySelector('#train-hidden') !== null")
        drop(page, "oil.txt", TEXT)
        wait_text(page, "#train-preview-facts", f"{len(TEXT):,}")
        page.click("#train-time-own")
        fill(page, **SMALL)
        page.click("#train-go")
        id = job_of(page)
        wait_state(page, "Finished")
        assert training.job(daemon, id)["options"]["hidden"] == 16 and training.job(daemon, id)["dataset"] == "oil.txt"
        points, checks = learned(daemon, id), checked(daemon, id)
        assert len(checks) == 3
        page.wait(lambda: [[x, y] for x, y, _ in drawn(page, "train-plot-loss") if y is not None] == points)
        assert [[x, y] for x, _, y in drawn(page, "train-plot-loss") if y is not None] == checks
        metrics = training.metrics(daemon, id).json()["metrics"]
        norms = [[row["step"], row["gradient_norm"]] for row in metrics if row["gradient_norm"] is not None]
        assert drawn(page, "train-plot-gradient_norm") == norms

        samples = training.job(daemon, id)["samples"]
        page.wait(lambda: page.text("#train-epoch-text") == "3 of 3")
        texts = page.evaluate("[...document.querySelectorAll('#train-samples .text')].map((one) => one.textContent)")
        assert texts == [one["prompt"] + one["text"] for one in samples]
        page.run("const slider = document.getElementById('train-epoch'); slider.focus()")
        page.key("ArrowLeft")
        wait_text(page, "#train-epoch-text", "2 of 3")
        texts = page.evaluate("[...document.querySelectorAll('#train-samples .text')].map((one) => one.textContent)")
        told = [data for _, kind, data in training.events(daemon, id) if kind == "sample" and data["epoch"] == 2]
        assert sorted(texts) == sorted(one["prompt"] + one["text"] for one in told)

        wait_text(page, "#train-try", "Beside it")
        page.enter("#train-try-prompt", "oil ")
        page.enter("#train-try-length", "20")
        page.click("#train-try-form button[type=submit]")
        page.wait("document.querySelectorAll('#train-try-texts figcaption').length === 2")
        page.wait("[...document.querySelectorAll('#train-try-texts figcaption')].every((one) => one.textContent.includes('tokens/s'))")
        assert page.evaluate("[...document.querySelectorAll('#train-try-texts figcaption')].map((one) => one.textContent.split(' ')[0])") == ["oil", "tiny"]
        texts = page.evaluate("[...document.querySelectorAll('#train-try-texts .text')].map((one) => one.textContent)")
        assert all(one.startswith("oil ") for one in texts) and len(texts[1]) == len("oil ") + 20  # tiny ends no text

        daemon.admin("POST", "/models/oil/unload")
        page.reload()
        wait_text(page, "#train-try-load", "Load the model")
        page.click("#train-try-load button")
        wait_text(page, "#train-try-form", "Beside it")

        page.click("#train-default")
        page.wait(lambda: page.text("#train-default") is None)
        assert daemon.admin("GET", "/models/oil").json()["default"]
        assert page.evaluate("document.getElementById('chosen').value") == "tiny", "the page keeps its model"
        daemon.admin("PUT", "/models/default", {"name": "tiny"})

        page.click("#train-csv")
        assert page.downloaded(f"oil-{id}.csv") == training.metrics(daemon, id, "text/csv").body
        page.click("#train-svg")
        picture = ElementTree.fromstring(page.downloaded(f"oil-{id}.svg"))
        space = "{http://www.w3.org/2000/svg}"
        lines = [line.get("points").split() for line in picture.findall(f"{space}polyline")]
        assert [len(line) for line in lines] == [len(points), len(checks)]
        assert picture.find(f"{space}title").text == "Loss of oil"
        (left, right), (low, high) = [(min(values), max(values)) for values in zip(*points, *checks)]
        for line, expected in zip(lines, (points, checks)):  # the axes are at x 64 .. 780 and y 386 .. 44
            for point, (step, loss) in zip(line, expected):
                place = 64 + (step - left) / (right - left) * 716, 386 - (loss - low) / (high - low) * 342
                assert [float(value) for value in point.split(",")] == pytest.approx(place, abs=0.02)

        page.evaluate("document.getElementById('train-table-box').open = true")
        page.wait("document.querySelectorAll('#train-table tr').length === 3")
        assert f"{checks[-1][1]:.4f}" in page.text("#train-table tr:last-child")


def test_pause_resume_cancel_delete(chromium, daemon):
    id = training.submit(daemon, "endless", **{**training.ENDLESS, "text": TEXT})
    with opened(chromium, daemon, f"#train?job={id}") as page:
        wait_state(page, "Training")
        page.click("#train-pause")
        wait_state(page, "Paused")
        assert training.job(daemon, id)["state"] == "paused"
        wait_text(page, "#train-job-sentence", "It is paused.")
        wait_text(page, "#train-said", "")
        assert "It is paused." in page.evaluate("document.getElementById('train-said').textContent")
        page.click("#train-resume")
        wait_state(page, "Training")
        page.click("#train-cancel")
        page.click("#train-sure button[value=no]")
        assert training.job(daemon, id)["state"] in ("running", "queued")
        page.click("#train-cancel")
        page.click("#train-sure-yes")
        wait_state(page, "Cancelled")
        assert training.job(daemon, id)["state"] == "cancelled"
        page.click("#train-delete")
        page.click("#train-sure-yes")
        page.wait("location.hash === '#train' && !document.getElementById('train-start').hidden")
        page.wait(lambda: id not in page.evaluate("document.getElementById('train-jobs').innerHTML"))
        assert training.send(daemon, "GET", f"/train/{id}").status == 404


def test_reload_and_second_tab_show_the_same(chromium, daemon):
    id = training.submit(daemon, "shown", **{**training.ENDLESS, "sample_length": 10})
    with opened(chromium, daemon, f"#train?job={id}") as page:
        page.wait("document.querySelector('#train-epoch').max >= 2")
        page.reload()
        wait_state(page, "Training")
        page.wait("document.querySelector('#train-epoch').max >= 3")  # samples of before are there, and new ones come
        page.wait(lambda: drawn(page, "train-plot-loss"))
        assert drawn(page, "train-plot-loss")[0][0] <= checked(daemon, id)[0][0]  # the curve of before is there, too
        with opened(chromium, daemon, f"#train?job={id}") as other:
            wait_state(other, "Training")
            other.click("#train-pause")
            wait_state(other, "Paused")
            wait_state(page, "Paused")
            for one in (page, other):
                points = learned(daemon, id)
                one.wait(lambda one=one, points=points: [row[:2] for row in drawn(one, "train-plot-loss") if row[1] is not None] == points)
            assert page.text("#train-samples") == other.text("#train-samples")
            page.click("#train-cancel")
            page.click("#train-sure-yes")
            wait_state(other, "Cancelled")


def test_connection_that_broke_is_taken_up(chromium, models, tmp_path):
    settings = {"server.state_dir": tmp_path / "state", "train.snapshot_seconds": 0.05}
    daemon = Daemon(models["tiny"], settings)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: daemon.close())
        id = training.submit(daemon, "far", **training.ENDLESS)
        page = stack.enter_context(opened(chromium, daemon, f"#train?job={id}", allow=[FAILED_REQUEST]))
        wait_state(page, "Training")
        daemon.close()
        wait_text(page, "#train-job-problem", "daemon cannot be reached")
        daemon = Daemon(models["tiny"], {**settings, "server.port": daemon.port})
        page.wait(lambda: page.text("#train-job-problem") is None)
        training.act(daemon, id, "cancel")
        wait_state(page, "Cancelled")


def test_several_jobs_in_one_plot(chromium, daemon):
    ids = [training.submit(daemon, name) for name in ("red", "blue")]
    for id in ids:
        training.wait_end(daemon, id)
    with opened(chromium, daemon, f"#train?job={ids[0]}") as page:
        wait_state(page, "Finished")
        page.evaluate("document.getElementById('train-compare-box').open = true")
        wait_text(page, "#train-compare", ids[1])
        page.click(f"#train-with-{ids[1]}")
        page.wait(lambda: drawn(page, "train-plot-loss") and len(drawn(page, "train-plot-loss")[0]) == 5)
        page.reload()  # the address has both
        page.wait(lambda: drawn(page, "train-plot-loss") and len(drawn(page, "train-plot-loss")[0]) == 5)
        rows = drawn(page, "train-plot-loss")
        for i, id in enumerate(ids):
            assert [[row[0], row[2 + 2 * i]] for row in rows if row[2 + 2 * i] is not None] == checked(daemon, id)
        assert all(f"{name} {id}" in page.text("#train-curves .legend") for name, id in zip(("red", "blue"), ids))


def test_daemon_that_lets_nobody_train(chromium, daemon, start):
    closed = start("tiny", {"auth.admin_tokens": None})
    with opened(chromium, closed, token=None, allow=[FAILED_REQUEST]) as page:
        wait_text(page, "#train-gate", "no admin token", "openssl rand -hex 32", "auth.admin_token_file")
        assert page.text("#train-form") is None
        page.axe("document.getElementById('train')")
    with opened(chromium, daemon, token=None, allow=[FAILED_REQUEST]) as page:
        wait_text(page, "#train-gate", "needs an admin token")
        page.click("#train-gate-button")
        page.enter("#token", ADMIN)
        page.key("Enter")
        page.wait(lambda: page.text("#train-gate") is None and page.text("#train-form"))


@pytest.mark.parametrize("dark", [False, True])
def test_everybody_can_use_it(chromium, daemon, dark):
    id = training.submit(daemon, "everybody")
    training.wait_end(daemon, id)
    with opened(chromium, daemon) as page:
        page.phone()
        if dark:
            page.dark()
        page.wait("document.querySelector('#train-hidden') !== null")
        drop(page, "reader.txt", TEXT)
        wait_text(page, "#train-preview-facts", f"{len(TEXT):,}")
        for box in page.all("#train-start details"):
            page.run("arguments[0].open = true", box)
        assert page.wider_than_screen() == []
        page.axe("document.getElementById('train')")
        page.click("#train-discard")
        page.go(f"{page.evaluate('location.href.split(`#`)[0]')}#train?job={id}")
        page.wait("!document.getElementById('train-try').hidden")
        page.wait(lambda: drawn(page, "train-plot-loss"))
        for box in page.all("#train-job details"):
            page.run("arguments[0].open = true", box)
        assert page.wider_than_screen() == []
        page.axe("document.getElementById('train')")


def test_keyboard_alone(chromium, daemon):
    training.upload(daemon, "keys.txt")
    with opened(chromium, daemon) as page:
        page.wait("document.querySelector('#train-dataset option[value=\"keys.txt\"]') !== null")
        page.evaluate("document.getElementById('train-file').focus()")
        reached = []
        while page.focused().get_attribute("id") != "train-go":
            page.key("Tab")
            name = page.focused().get_attribute("id")
            assert name not in reached or not name, reached
            reached.append(name)
            if name == "train-dataset":
                page.key("k")
                wait_text(page, "#train-preview-facts", f"{len(TEXT):,}")
            if name == "train-time-1":
                page.key("ArrowRight", "ArrowRight", "ArrowRight")
                wait_text(page, "#train-preset-field", "tiny")
            if name == "train-model":
                page.type("by-keys")
        page.key("Enter")
        id = job_of(page)
        wait_state(page, "Training")
        page.evaluate("document.getElementById('train-job-title').focus()")
        page.key("Tab", "Tab")
        assert page.focused().get_attribute("id") == "train-cancel"
        page.key("Enter", "Enter")
        wait_state(page, "Cancelled")
        assert training.job(daemon, id)["model"].endswith("by-keys")
