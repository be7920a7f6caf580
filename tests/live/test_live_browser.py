"""The live page in a real browser; skipped, with the reason, where Chromium, Playwright or Gradio is absent."""

import os
from pathlib import Path

import pytest
from conftest import ROOT
from live_server import served
from test_explore_browser import CHROMIUM, browser
from test_looker import HOSTILE_SHORT

from attention_collapse.data.scenes import write_scenes

pytest.importorskip("gradio", reason="gradio is an extra and is not installed (requirements-explore.txt pins it)")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements.txt has it)")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")

__all__ = ["browser"]
OWN = "Method not implemented."  # a warning that Gradio's own page gives


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    write_scenes(folder := tmp_path_factory.mktemp("live") / "scenes", n=6, seed=0)
    return folder


@pytest.fixture(scope="module")
def client(scenes):
    with served(str(ROOT / "data" / "controls" / "openclip-scenes"), scenes) as one:
        yield one


@pytest.fixture
def page(browser, client):
    """The live page; at the end nothing was asked of any other server, and nothing went wrong."""
    asked, wrong = [], []
    one = browser.new_page(viewport={"width": 1280, "height": 2000})
    one.on("request", lambda request: asked.append(request.url))
    one.on("console", lambda message: wrong.append(message.text))
    one.on("pageerror", lambda error: wrong.append(str(error)))
    one.goto(client.url)
    yield one
    one.close()
    assert [url for url in asked if not url.startswith((client.url, "data:", "about:", "blob:"))] == []
    assert [text for text in wrong if text != OWN] == []


def look(page, file, caption):
    if file:
        page.set_input_files("input[type=file]", str(file))
        page.get_by_text(Path(file).name).first.wait_for()
    page.get_by_label("Caption").fill(caption)
    page.get_by_role("button", name="Look").click()
    return page.frame_locator("iframe[title='attention-collapse explore']")


def test_a_picture_and_a_caption_show_the_pair(page, scenes):
    frame = look(page, next(scenes.rglob("*.png")), "two red circles on the left")
    maps = frame.locator('[data-maps="pair"] canvas')
    maps.first.wait_for()
    assert maps.count() == 3  # the model, the null, the untrained twin
    said, image = frame.locator(".said"), frame.locator("img.shown")
    own = image.get_attribute("src")
    frame.get_by_role("button", name="another image and another text").click()
    assert said.inner_text() != "two red circles on the left" and image.get_attribute("src") != own
    frame.locator("#p-view").select_option("1")
    frame.locator("#p-words button").nth(2).click()
    assert frame.locator('[data-maps="pair"] table.bars').count() == 1  # words of a dual encoder see words alone
    frame.get_by_role("link", name="Model", exact=True).click()
    assert frame.locator("#heads-model td").count() == 16
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts"
    if folder := os.environ.get("SCREENSHOTS"):  # for a person who wants to look
        frame.get_by_role("link", name="Pair", exact=True).click()
        page.screenshot(path=Path(folder) / "live.png")


def test_by_keyboard_alone(page, scenes):
    page.set_input_files("input[type=file]", str(next(scenes.rglob("*.png"))))
    page.get_by_label("Caption").focus()
    page.keyboard.type("two red circles")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Look"
    page.keyboard.press("Enter")
    page.frame_locator("iframe").locator('[data-maps="pair"] canvas').first.wait_for()


def test_what_is_wrong_is_told_and_hostile_texts_do_not_run(page, scenes, tmp_path):
    look(page, None, "two red circles")
    page.get_by_role("alert").get_by_text("there is no picture").wait_for()
    (tmp_path / "no.png").write_text("<script>window.hacked=1</script>")
    look(page, tmp_path / "no.png", HOSTILE_SHORT)
    page.get_by_role("alert").get_by_text("no.png: cannot be decoded").wait_for()
    assert page.evaluate("window.hacked") is None
