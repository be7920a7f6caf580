"""The live page in a real browser; skipped, with the reason, where Chromium, Playwright or Gradio is absent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from live_server import served
from PIL import Image
from test_explore_browser import CHROMIUM, browser
from test_looker import HOSTILE_SHORT

from attention_collapse.data.scenes import write_scenes

pytest.importorskip("gradio", reason="gradio is an extra and is not installed (requirements-explore.txt pins it)")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements.txt has it)")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")

__all__ = ["browser"]
PATIENCE = 180_000  # milliseconds: other tests keep the machine busy
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
    one.set_default_timeout(PATIENCE)
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
        page.get_by_text(Path(file).stem, exact=True).first.wait_for()  # apart from its suffix once it has arrived
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


CONTRASTS = """() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map((x) => linear(x / 255))
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = {};
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    const seen = element.checkVisibility({ opacityProperty: true });
    if (!text || !seen || element.closest("script, style, iframe")) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    found[text] = (a + 0.05) / (b + 0.05);
  }
  return found;
}"""


def settled(page):
    """Text -> contrast, when colours have faded in: they are as they were half a second before, or fine."""
    found = {}
    for _ in range(60):
        last, found = found, page.evaluate(CONTRASTS)
        if found and (found == last or min(found.values()) >= 4.5):
            break
        page.wait_for_timeout(500)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_around_the_frame_can_be_read(page, scenes, scheme):
    page.emulate_media(color_scheme=scheme)
    page.reload()
    page.get_by_role("button", name="Look").wait_for()
    page.get_by_role("heading", name="A picture and a caption of yours").wait_for()  # which brings a style with it
    before = settled(page)
    look(page, None, "two red circles")
    page.get_by_role("alert").wait_for()
    page.set_input_files("input[type=file]", str(next(scenes.rglob("*.png"))))
    page.get_by_text("KB").first.wait_for()  # it has arrived
    found = before | settled(page)
    assert {"Look", "Caption", "A picture and a caption of yours", "there is no picture"} <= found.keys()
    assert {text: ratio for text, ratio in found.items() if ratio < 4.5} == {}


PICTURES = ("explore-study.png", "explore-live.png")  # of docs/, by scripts/screenshots.py


def is_for_the_docs(file):
    """A picture with a palette, of at most 150 KB."""
    with Image.open(file) as picture:
        return picture.mode == "P" and file.stat().st_size <= 150_000


def test_the_screenshots_of_the_docs_are_small_and_shown():
    for name in PICTURES:
        assert is_for_the_docs(ROOT / "docs" / name)
        assert f"]({name})" in (ROOT / "docs" / "explore.md").read_text("utf-8")


@pytest.mark.skipif(
    "SCREENSHOTS" not in os.environ, reason="whoever changes the pages makes them anew; SCREENSHOTS=FOLDER runs it"
)
def test_the_screenshots_of_the_docs_can_be_made_anew(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts" / "screenshots.py", tmp_path], check=True, capture_output=True)
    for name in PICTURES:
        assert is_for_the_docs(tmp_path / name)
        with Image.open(tmp_path / name) as new, Image.open(ROOT / "docs" / name) as old:
            assert new.size == old.size
