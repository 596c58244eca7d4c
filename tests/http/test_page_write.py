"""The page's panel "Write" in a browser: one text that is written, edited, undone, tried again, and named by a link."""

import contextlib
import json
import os
import shutil
import subprocess
import urllib.parse

import pytest

from browser import FAILED_REQUEST
from conftest import Daemon
from make_model import make_model

DONE = "document.getElementById('status-line').textContent === 'Done.'"


@pytest.fixture(scope="module")
def daemon(models):
    running = Daemon(models["tiny"], {"limits.max_length": 10_000_000})
    yield running
    running.close()


@pytest.fixture
def hosting(models, tmp_path):
    """Starts a daemon with a state directory, with these models loaded besides the default one."""
    running = []

    def host(*names, **settings):
        for name in names:
            shutil.copytree(models[name], tmp_path / "state/models" / name)
        daemon = Daemon(models["tiny"], {"server.state_dir": tmp_path / "state", **settings})
        running.append(daemon)
        for name in names:
            assert daemon.admin("POST", f"/models/{name}/load").status == 200
        return daemon

    yield host
    for one in running:
        one.close()


@contextlib.contextmanager
def opened(chromium, daemon, link="", **options):
    with chromium.open(daemon, link, **options) as page:
        wait_ready(page)
        yield page


def wait_ready(page):
    page.wait("document.getElementById('top_k') !== null && document.getElementById('chosen').value !== ''")


def value(page, id):
    return page.evaluate(f"document.getElementById('{id}').value")


def enter(page, **values):
    """Fills fields, also those of a closed part."""
    for id, one in values.items():
        page.evaluate(f"""(() => {{ const field = document.getElementById('{id}');
            if (field.type === 'checkbox') field.checked = {json.dumps(one)};
            else field.value = {json.dumps(str(one))};
            for (const type of ['input', 'change']) field.dispatchEvent(new Event(type, {{bubbles: true}})); }})()""")


def generate(page, **values):
    enter(page, **values)
    page.click("#go")
    page.wait(DONE)


def marked(page):
    return page.evaluate("[...document.querySelectorAll('#written mark')].map((mark) => mark.textContent)")


def wait_problem(page):
    page.wait("!document.getElementById('problem').hidden")
    return page.text("#problem")


def wait_running(page):
    page.wait("document.querySelector('#written mark')?.textContent.length > 0 && !document.getElementById('halt').hidden")


def link_of(page):
    return urllib.parse.parse_qs(page.evaluate("location.hash").split("?", 1)[1], keep_blank_values=True)


def cards(page):
    return page.evaluate("[...document.querySelectorAll('#cards .text')].map((box) => box.textContent)")


def test_text_goes_on_in_one_editor(chromium, daemon):
    with opened(chromium, daemon) as page:
        options = {"length": 60, "seed": 3, "temperature": 0.8, "top_k": 5}
        generate(page, prompt="abc", **options)
        first = daemon.generate(prompt="abc", **options)
        assert value(page, "prompt") == first["text"] and marked(page) == [first["completion"]]
        facts = page.text("#facts")
        assert "length reached" in facts and "60" in facts and "First token after" in facts and "Seed\n3" in facts
        assert page.text("#problem") is None and page.text("#warnings") is None
        edited = first["text"][:-5] + "XY"
        generate(page, prompt=edited)
        second = daemon.generate(prompt=edited, **options)
        assert value(page, "prompt") == second["text"] and marked(page) == [first["completion"][:-5], second["completion"]]
        seen = [second["text"]]
        for name in ("undo", "undo", "undo"):
            page.click(f"#{name}")
            seen.append(value(page, "prompt"))
        assert seen == [second["text"], edited, first["text"], "abc"]
        page.evaluate("document.getElementById('prompt').focus()")
        page.key("Control+Shift+z")
        assert value(page, "prompt") == first["text"]
        page.key("Control+z")
        assert value(page, "prompt") == "abc"


def test_warnings_of_a_run_go_with_the_next_one(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="aß", length=5)
        assert "ß" in page.text("#warnings")
        generate(page, prompt="a")
        assert page.text("#warnings") is None


def test_mistake_in_a_closed_part_opens_it(chromium, daemon):
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        assert not page.evaluate("document.getElementById('top_p').checkVisibility()")
        enter(page, prompt="abc", length=0, top_p=7)
        page.click("#go")
        assert "length" in wait_problem(page)
        assert page.text("#length-problem") and page.text("#top_p-problem")
        assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
        assert value(page, "prompt") == "abc" and page.text("#facts") is None
        generate(page, length=5, top_p="")
        assert page.text("#problem") is None and page.text("#length-problem") is None
        before = value(page, "prompt")
        enter(page, regex="(")
        page.click("#go")
        wait_problem(page)
        assert page.text("#regex-problem") and value(page, "prompt") == before


@pytest.mark.parametrize("way", ["button", "key"])
def test_stop_keeps_what_is_known(chromium, daemon, way):
    with opened(chromium, daemon) as page:
        enter(page, prompt="abc", length=10_000_000, seed=5)
        page.evaluate("document.getElementById('go').focus()")
        page.click("#go")
        wait_running(page)
        assert page.evaluate("document.activeElement.id") == "go"
        if way == "button":
            page.evaluate("document.getElementById('halt').focus()")
            page.click("#halt")
        else:
            page.key("Escape")
        page.wait("document.getElementById('status-line').textContent === 'Stopped.'")
        assert page.text("#problem") is None and page.text("#halt") is None
        assert page.evaluate("document.activeElement.id") == "go"
        written = value(page, "prompt")
        assert len(written) > 3 and "Seed\n5" in page.text("#facts") and "Tokens\n" in page.text("#facts")
        whole = daemon.generate(prompt="abc", length=len(written), seed=5, temperature=0.6)["text"]
        assert whole.startswith(written)
        page.click("#undo")
        assert value(page, "prompt") == "abc"


def test_long_text_keeps_the_page_small(chromium, daemon):
    with opened(chromium, daemon) as page:
        enter(page, prompt="", length=10_000_000)
        page.click("#go")
        page.wait("Number(document.getElementById('facts').innerText.match(/Tokens\\n([0-9,]+)/)?.[1].replaceAll(',', '')) > 20000")
        nodes, shown = page.evaluate("""(() => { const walker = document.createTreeWalker(document.getElementById('write'), NodeFilter.SHOW_ALL);
            let nodes = 0; while (walker.nextNode()) nodes++;
            return [nodes, document.getElementById('written').textContent.length]; })()""")
        assert nodes < 500 and shown <= 12000
        page.key("Escape")
        page.wait("document.getElementById('status-line').textContent === 'Stopped.'")
        assert len(value(page, "prompt")) > 20000


def test_one_run_at_a_time(chromium, daemon):
    with opened(chromium, daemon) as page:
        page.wait("document.querySelector('#examples button') !== null")
        page.evaluate("""document.getElementById('prompt').dispatchEvent(new KeyboardEvent('keydown',
            {key: 'Enter', ctrlKey: true, isComposing: true, bubbles: true}))""")
        assert page.text("#halt") is None
        enter(page, prompt="abc", length=10_000_000, seed=5)
        page.evaluate("document.getElementById('prompt').focus()")
        page.key("Control+Enter")
        wait_running(page)
        page.key("Control+Enter", "Control+Enter", "Control+z")
        page.click("#go")
        page.click("#examples button")
        page.run("for (const id of ['row', 'retry', 'undo']) document.getElementById(id).click()")
        shown = page.evaluate("document.querySelector('#written mark').textContent.length")
        page.wait(f"document.querySelector('#written mark').textContent.length > {shown}")
        page.key("Escape")
        page.wait("document.getElementById('status-line').textContent === 'Stopped.'")
        written = value(page, "prompt")
        assert daemon.generate(prompt="abc", length=len(written), seed=5, temperature=0.6)["text"].startswith(written)
        assert cards(page) == []


def test_try_again_from_the_same_place(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="abc", length=30, seed=5)
        first = value(page, "prompt")
        page.click("#retry")
        page.wait(f"{DONE} && document.getElementById('prompt').value !== {json.dumps(first)}")
        seed = int(value(page, "seed"))
        assert seed != 5
        assert value(page, "prompt") == daemon.generate(prompt="abc", length=30, seed=seed, temperature=0.6)["text"]
        page.click("#undo")
        page.click("#undo")
        assert value(page, "prompt") == first


def test_seed_is_new_until_it_is_kept(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="abc", length=5)
        seed = value(page, "seed")
        generate(page)
        assert value(page, "seed") != seed
        seed = value(page, "seed")
        enter(page, lock=True)
        generate(page)
        assert value(page, "seed") == seed == link_of(page)["seed"][0]


def test_several_continuations_side_by_side(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="abc", length=30, seed=5, n=3)
        expected = daemon.generate(prompt="abc", length=30, seed=5, temperature=0.6, n=3)["choices"]
        assert cards(page) == [choice["completion"] for choice in expected]
        assert value(page, "prompt") == "abc"
        page.click("#cards article:nth-child(3) button")
        assert value(page, "prompt") == expected[2]["text"] and marked(page) == [expected[2]["completion"]]
        assert link_of(page)["seed"] == ["7"] and "n" not in link_of(page)
        page.click("#cards article:nth-child(1) button")
        assert value(page, "prompt") == expected[0]["text"]
        page.click("#undo")
        page.click("#undo")
        assert value(page, "prompt") == "abc"


def test_five_temperatures_at_once(chromium, daemon):
    with opened(chromium, daemon) as page:
        enter(page, prompt="abc", length=30, seed=5)
        page.click("#row")
        page.wait(DONE)
        temperatures = (0.3, 0.8, 1.0, 1.3, 1.8)
        expected = [daemon.generate(prompt="abc", length=30, seed=5, temperature=one)["completion"] for one in temperatures]
        assert cards(page) == expected
        assert page.evaluate("document.querySelector('#cards h3').textContent") == "Temperature 0.3"
        with opened(chromium, daemon, page.evaluate("location.hash")) as other:
            other.wait(DONE)
            assert cards(other) == expected
        page.click("#cards article:nth-child(4) button")
        assert link_of(page)["temperature"] == ["1.3"]


def test_link_gives_the_same_text(chromium, daemon):
    fields = {"prompt": "a\nb c&d=é ", "length": 40, "top_k": 9, "stop": "Q\n\\n\nqq", "regex": "[a-zäé]+ ?[^x]*",
              "ignore_eos": True, "include_stop": True, "min_length": 3}
    with opened(chromium, daemon) as page:
        generate(page, **fields)
        written, link = value(page, "prompt"), page.evaluate("location.hash")
        assert link_of(page)["stop"] == ["Q", "\n", "qq"] and link_of(page)["model"] == ["tiny"]
        with opened(chromium, daemon, link) as other:
            other.wait(DONE)
            assert value(other, "prompt") == written
            assert {name: value(other, name) for name in ("stop", "regex", "top_k")} == {
                name: str(fields[name]) for name in ("stop", "regex", "top_k")}
    with opened(chromium, daemon, "#write?prompt=only%20this") as page:
        page.wait("document.getElementById('prompt').value === 'only this'")
        assert page.text("#status-line") is None and value(page, "length") == "300"


def test_link_of_another_model_is_refused_in_words(chromium, daemon):
    with opened(chromium, daemon, "#write?prompt=a&seed=1&model=other") as page:
        page.wait("document.getElementById('notice').textContent.includes('other')")
        assert value(page, "prompt") == ""


def test_reload_keeps_text_and_form(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="abc", length=30, top_k=7)
        before = [value(page, name) for name in ("prompt", "seed", "top_k")]
        enter(page, prompt=before[0] + "!")
        page.reload()
        wait_ready(page)
        assert [value(page, name) for name in ("prompt", "seed", "top_k")] == [before[0] + "!", *before[1:]]
        assert page.text("#halt") is None and page.text("#status-line") is None
        page.click("#texts-box summary")
        assert " ".join(before[0].split()) in " ".join(page.text("#texts").split())
        enter(page, prompt="")
        page.click("#texts button")
        assert value(page, "prompt") == before[0]


def run_code(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, **options).stdout


def test_code_of_a_request_gives_its_text(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="it's \"a\" $b \\ é", length=30, stop="z")
        written = value(page, "prompt")
        page.click("#code-box summary")
        codes = {}
        for language in ("curl", "fetch", "Python"):
            page.click(f"[name=language][value={language}]")
            page.wait(f"document.querySelector('[name=language][value={language}]').checked")
            codes[language] = page.text("#code")
        assert len(set(codes.values())) == 3
        assert json.loads(run_code(["bash", "-c", codes["curl"]]))["text"] == written
        assert run_code(["/usr/bin/python3", "-c", codes["Python"]]).rstrip("\n") == written
        answer = page.evaluate(f"""(async () => {{ const seen = []; const console = {{log: (text) => seen.push(text)}};
            {codes['fetch']}
            return seen[0]; }})()""")
        assert answer == written


def test_token_is_never_in_the_code(chromium, start):
    token = "generate-token-of-the-tests"
    daemon = start("tiny", {"auth.generate_tokens": token})
    with chromium.open(daemon, allow=[FAILED_REQUEST]) as page:
        page.evaluate(f"sessionStorage.setItem('token', '{token}')")
        page.reload()
        wait_ready(page)
        generate(page, prompt="abc", length=30, seed=3)
        page.click("#code-box summary")
        for language in ("curl", "fetch", "Python"):
            page.click(f"[name=language][value={language}]")
            assert token not in page.text("#code") and token not in page.evaluate("location.href")
        environment = {**os.environ, "LSTMD_TOKEN": token}
        assert run_code(["/usr/bin/python3", "-c", page.text("#code")], env=environment).rstrip("\n") == value(page, "prompt")


def test_patterns_choices_and_stop_texts(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="a", regex="[0-9]{4}")
        assert value(page, "prompt")[1:].isdigit() and "pattern complete" in page.text("#facts")
        enter(page, regex="", choices="red\ntwo words")
        for mode in ("sample", "likeliest"):
            generate(page, prompt="a", choice_mode=mode)
            assert value(page, "prompt") in ("ared", "atwo words")


def test_labels_and_examples_fit_the_model(chromium, hosting):
    daemon = hosting("labelled")
    with opened(chromium, daemon) as page:
        page.wait("!document.getElementById('examples').hidden")
        assert page.text("#label") is None
        tiny = page.text("#examples")
        enter(page, chosen="labelled")
        page.wait("document.getElementById('examples').innerText.includes('Sports')")
        assert page.text("#examples") != tiny
        generate(page, label="Sports", prompt="a", length=30, seed=5)
        expected = daemon.generate(model="labelled", label="Sports", prompt="a", length=30, seed=5, temperature=0.6)
        assert value(page, "prompt") == expected["text"] and link_of(page)["label"] == ["Sports"]
        page.evaluate("[...document.querySelectorAll('#examples button')].find((one) => one.innerText === 'World').click()")
        page.wait(f"{DONE} && location.hash.includes('label=World')")
        assert link_of(page)["prompt"] == [""]


def test_words_model(chromium, start, tmp_path):
    daemon = start(make_model(tmp_path / "words", level="word"))
    with opened(chromium, daemon) as page:
        generate(page, prompt="red green", length=8, seed=5)
        assert value(page, "prompt") == daemon.generate(prompt="red green", length=8, seed=5, temperature=0.6)["text"]
        page.wait("!document.getElementById('examples').hidden")


def test_another_default_model_does_not_change_this_page(chromium, hosting):
    daemon = hosting("labelled")
    with opened(chromium, daemon) as page:
        assert value(page, "chosen") == "tiny"
        assert daemon.admin("PUT", "/models/default", {"name": "labelled"}).status == 200
        generate(page, prompt="a", length=5)
        page.wait("document.querySelector('#chosen option:checked').textContent === 'tiny'")
        assert link_of(page)["model"] == ["tiny"] and page.text("#notice") is None


def test_model_that_was_trained_anew_is_named(chromium, hosting, tmp_path):
    daemon = hosting("labelled")
    with opened(chromium, daemon) as page:
        enter(page, chosen="labelled")
        generate(page, prompt="a", length=5)
        directory = tmp_path / "state/models/labelled"
        make_model(tmp_path / "other", labels=("World", "Sports", "Business"), seed=9)
        shutil.copytree(tmp_path / "other", directory, dirs_exist_ok=True)
        os.utime(directory / "model.safetensors", (2_000_000_000, 2_000_000_000))
        assert daemon.admin("POST", "/models/labelled/load").status == 200
        page.evaluate("import('./web/daemon.js').then((daemon) => daemon.list())")
        page.wait("document.getElementById('notice').textContent.includes('trained anew')")
        assert value(page, "chosen") == "labelled"
        assert daemon.admin("POST", "/models/labelled/unload").status in (200, 204)
        page.evaluate("import('./web/daemon.js').then((daemon) => daemon.list())")
        page.wait("document.getElementById('notice').textContent.includes('no longer loaded')")
        assert value(page, "chosen") == "tiny"


def test_stream_that_breaks_off_keeps_its_text(chromium, models):
    daemon = Daemon(models["tiny"], {"limits.max_length": 10_000_000})
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        enter(page, prompt="abc", length=10_000_000)
        page.click("#go")
        wait_running(page)
        daemon.process.kill()
        daemon.process.wait()
        problem = wait_problem(page)
        assert problem.startswith("The stream broke off after ") and "Go on from here" in problem
        assert len(value(page, "prompt")) > 3 and "Tokens\n" in page.text("#facts")
        page.click("#problem button")
        page.wait("document.getElementById('problem').innerText.startsWith('The daemon cannot be reached (')")
        assert page.text("#facts") is None
    daemon.close()


def test_phone_has_text_and_buttons_in_sight(chromium, daemon):
    with opened(chromium, daemon) as page:
        page.phone()
        page.run("for (const box of document.querySelectorAll('details')) box.open = true")
        enter(page, prompt="abc", length=10_000_000)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.click("#go")
        wait_running(page)
        assert page.in_sight("#editor") and page.in_sight("#halt") and page.wider_than_screen() == []
        page.run("scrollTo(0, document.body.scrollHeight)")
        assert page.in_sight("#halt")
        page.key("Escape")
        page.wait("document.getElementById('status-line').textContent === 'Stopped.'")


def test_keyboard_alone(chromium, daemon):
    with opened(chromium, daemon) as page:
        enter(page, length=10_000_000, seed=5)
        page.wait("document.querySelector('#examples button') !== null")
        reached = []
        while "prompt" not in reached:
            page.key("Tab")
            reached.append(page.focused().get_attribute("id"))
            assert len(reached) < 20
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
        page.type("abc")
        page.key("Control+Enter")
        wait_running(page)
        tab_to(page, "#halt")
        page.key("Enter")
        page.wait("document.getElementById('status-line').textContent === 'Stopped.'")
        assert page.focused().get_attribute("id") == "go" and len(value(page, "prompt")) > 3
        tab_to(page, "#undo")
        page.key("Space")
        assert value(page, "prompt") == "abc"
        tab_to(page, ".write-options summary")
        page.key("Enter")
        tab_to(page, "#top_k ~ [type=range]")
        page.key("ArrowRight", "ArrowRight", "ArrowRight")
        assert value(page, "top_k") == "3"


def tab_to(page, selector):
    for _ in range(40):
        page.key("Tab")
        if page.evaluate(f"document.activeElement.matches({json.dumps(selector)})"):
            return
    raise AssertionError(f"Tab never reaches {selector}")


def test_slider_and_number_are_one_value(chromium, daemon):
    with opened(chromium, daemon) as page:
        page.click(".write-options summary")
        slider = "document.querySelector('#top_p ~ [type=range]')"
        assert page.evaluate(f"[{slider}.value, {slider}.getAttribute('aria-valuetext')]") == ["1", "off"]
        assert page.evaluate("document.getElementById('top_p').placeholder") == "off"
        enter(page, top_p=0.4)
        assert page.evaluate(f"{slider}.value") == "0.4"
        page.evaluate(f"({slider}.value = 1, {slider}.dispatchEvent(new Event('input')))")
        assert value(page, "top_p") == ""
        generate(page, prompt="a", length=5)
        assert "top_p" not in link_of(page)
        page.enter("#temperature", "12e")
        page.click("#go")
        wait_problem(page)
        assert "not a number" in page.text("#temperature-problem")
        page.click("#defaults")
        assert value(page, "temperature") == "0.6" and page.text("#problem") is None


def test_copies(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="abc", length=20)
        page.click("#code-box summary")
        expected = {"text": value(page, "prompt"), "link": page.evaluate("location.href"), "code": page.text("#code"),
                    "seed": value(page, "seed")}
        for name, text in expected.items():
            page.click(f"#copy-{name}")
            page.wait(f"document.getElementById('copy-{name}').textContent === 'Copied'")
            assert page.clipboard() == text


def test_text_goes_to_look_inside(chromium, daemon):
    with opened(chromium, daemon) as page:
        generate(page, prompt="a&b=c", length=20)
        written, link = value(page, "prompt"), page.evaluate("location.hash")
        page.click("#look-inside")
        page.wait("location.hash.startsWith('#inside') && !document.getElementById('inside').hidden")
        assert link_of(page)["text"] == [written]
        page.click("nav a[href='#write']")
        page.wait(f"location.hash === {json.dumps(link)}")
        assert value(page, "prompt") == written


def test_link_that_is_opened_during_a_run_ends_it(chromium, daemon):
    with opened(chromium, daemon) as page:
        enter(page, prompt="abc", length=10_000_000)
        page.click("#go")
        wait_running(page)
        page.run("location.hash = '#write?prompt=xyz&length=20&seed=5'")
        page.wait(f"{DONE} && document.getElementById('prompt').value.startsWith('xyz')")
        assert value(page, "prompt") == daemon.generate(prompt="xyz", length=20, seed=5)["text"]


def test_end_of_a_long_text_is_read(chromium, daemon):
    with opened(chromium, daemon) as page:
        text = "ab c" * 5000
        generate(page, prompt=text, length=20, seed=5)
        expected = daemon.generate(prompt=text[-16000:], length=20, seed=5, temperature=0.6)["completion"]
        assert value(page, "prompt") == text + expected and "16,000" in page.text("#warnings")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_shut_out(chromium, daemon, scheme):
    with opened(chromium, daemon, allow=[FAILED_REQUEST]) as page:
        page.media(prefers_color_scheme=scheme)
        page.wait("document.querySelector('#examples button') !== null")
        section = "document.getElementById('write')"
        page.axe(section)
        enter(page, prompt="abc", length=10_000_000)
        page.click("#go")
        wait_running(page)
        page.axe(section)
        page.key("Escape")
        page.wait("document.getElementById('halt').hidden")
        enter(page, prompt="abc", length=20)
        page.click("#row")
        page.wait(DONE)
        page.click("#cards article:nth-child(2) button")
        page.run("for (const box of document.querySelectorAll('#write details')) box.open = true")
        page.axe(section)
        enter(page, length=0, top_p=7, regex="(")
        page.click("#go")
        wait_problem(page)
        page.axe(section)
