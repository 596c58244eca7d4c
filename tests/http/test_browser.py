"""browser.py itself: what a page does wrong fails the test that opened it."""

import pytest

from browser import FAILED_REQUEST

WRONG = {
    "a warning": "<script>console.warn('careful')</script>",
    "an exception": "<script>setTimeout(() => missing())</script>",
    "a rejection": "<script>Promise.reject(new Error('late'))</script>",
    "a file that is not there": "<img src='/nothing.png' alt=''>",
    "a style against the policy": "<meta http-equiv='Content-Security-Policy' content=\"style-src 'self'\"><p style='color: red'>red</p>",
}


def document(body):
    return "text/html", f"<!doctype html><html lang=en><meta name=viewport content=width=device-width><title>test</title><main><h1>Test</h1>{body}</main></html>"


@pytest.mark.parametrize("what", WRONG)
def test_message_fails_the_test(chromium, pages, what):
    pages.files["/wrong"] = document(WRONG[what])
    with pytest.raises(AssertionError, match="wrote to the console"), chromium.page(pages.origin + "/wrong"):
        pass


def test_message_can_be_allowed_until_the_page_is_closed(chromium, pages):
    pages.files["/wrong"] = document(WRONG["a file that is not there"])
    with chromium.page(pages.origin + "/wrong", allow=[FAILED_REQUEST]):
        pass
    with pytest.raises(AssertionError, match="wrote to the console"), chromium.page(pages.origin + "/wrong"):
        pass


def test_axe_finds_a_field_without_a_label(chromium, pages):
    pages.files["/field"] = document("<input id=field>")
    with chromium.page(pages.origin + "/field") as page:
        with pytest.raises(AssertionError, match="Form elements must have labels"):
            page.axe()
        page.evaluate("document.querySelector('#field').ariaLabel = 'Name'")
        page.axe()


def test_what_a_small_screen_does_not_show(chromium, pages):
    pages.files["/wide"] = document("<div id=wide style='width: 500px'>wide</div><p id=low style='margin-top: 2000px'>low")
    with chromium.page(pages.origin + "/wide") as page:
        assert page.wider_than_screen() == [] and page.in_sight("#wide") and not page.in_sight("#low")
        page.phone()
        assert [one for one in page.wider_than_screen() if "id=\"wide\"" in one]


def test_keys_files_and_what_is_stored(chromium, pages):
    pages.files["/keys"] = document("""<textarea id=text></textarea><input type=file id=file><script>
        onkeydown = (event) => { if (event.ctrlKey && event.key === "Enter") text.value += "!"; };
        ondragover = (event) => event.preventDefault();
        ondrop = async (event) => { event.preventDefault(); text.value = await event.dataTransfer.files[0].text(); };
        </script>""")
    with chromium.page(pages.origin + "/keys") as page:
        page.key("Tab")
        page.type("Grüße, 世界")
        page.key("Control+Enter")
        assert page.focused() == page.find("#text") and page.evaluate("text.value") == "Grüße, 世界!"
        page.drop("#text", "dropped.txt", "fällt".encode())
        page.wait("text.value === 'fällt'")
        page.enter("#text", "new")
        assert page.evaluate("text.value") == "new"
        page.choose_file("#file", __file__)
        assert page.evaluate("file.files[0].name") == "test_browser.py"
        page.evaluate("localStorage.setItem('kept', 'yes')")
    with chromium.page(pages.origin + "/keys") as page:
        assert page.evaluate("localStorage.getItem('kept')") is None
