"""The pages in a real browser, Chromium driven by Playwright; skipped, with the reason, where either is absent."""

import shutil
from html import escape

import numpy as np
import pytest
from conftest import ROOT, photograph, write_annotations
from PIL import Image
from report.test_explorer import HOSTILE, looked

from attention_collapse import explore
from attention_collapse.engine.chosen_pairs import Swapped
from attention_collapse.engine.head_means import HeadMeans
from attention_collapse.exploration import explore_study
from attention_collapse.report.explorer.model_page import About, Shown, model_page
from attention_collapse.report.explorer.page import LARGEST, Page

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements.txt has it)")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")
MOST = 100  # milliseconds of a click, its layout included


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open a page from disk; at the end nothing was asked of anywhere, and nothing went wrong."""
    asked, wrong, opened = [], [], []

    def one(html, address="", **options):
        file = tmp_path / "page.html"
        file.write_text(html, "utf-8")
        page = browser.new_page(viewport={"width": 1280, "height": 900}, **options)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{file.as_uri()}{address}")
        opened.append(page)
        return page

    yield one
    for page in opened:
        page.close()
    assert wrong == []
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "about"}
    assert sum(url.startswith("file:") for url in asked) == len(opened)


@pytest.fixture(scope="module")
def study():
    return explore_study("embedded", ROOT).html


@pytest.fixture(scope="module")
def big():
    """576 image tokens, 32 layers of 32 heads, 12 words, with a twin."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (336, 336, 3), dtype=np.uint8))
    look, rng = looked(32, 32, 12, 24, others=40), np.random.default_rng(1)
    look.weights[:] = rng.random(look.weights.shape, np.float32) ** 8
    look.weights[..., -1] = 100
    look.weights[:] /= look.weights.sum(-1, keepdims=True)
    scores = Swapped(1.0, 0.2, 0.3, 0.1, 0.4, (0.9,), 0, 1)
    pairs = [Shown(n, 10 * n, "a.jpg", "a caption", ("wrongest",), scores, picture, True, picture, "another",
                   [("foil", "")], [look], [look]) for n in range(4)]  # fmt: skip
    grids = [HeadMeans(t, *[{rows: rng.random((32, 32)) for rows in ("all", "readout")} for _ in range(2)],
                       {"all": 0.9, "readout": 0.9}) for t in ("vision", "text")]  # fmt: skip
    about = About(
        "big", "LLaVA", "single stream", "none", "a logit", "folder", "photographs", 100, 100, 32, [], picture, True
    )
    return model_page(about, pairs, np.array([0.0, 2.0]), grids, grids)


def test_the_study_sorts_filters_and_shows_its_views(show, study):
    page = show(study)
    rows = page.locator("#grid tbody tr:visible")
    before = rows.count()
    page.locator("#f-controls").uncheck()
    assert 0 < rows.count() < before
    page.locator("#f-text").fill("reliance share")
    assert rows.count() == 2  # of the two models under test
    page.locator("#f-text").fill("")
    page.locator("#f-claims").uncheck()
    page.get_by_role("button", name="Value [interval]").click()
    shown = page.evaluate("[...document.querySelectorAll('#grid tbody tr')].map(r => r.cells[2].dataset.v)")
    numbers = [float(value) for value in shown if value]
    assert numbers == sorted(numbers) and "" not in shown[: len(numbers)]
    assert page.locator("#training").is_hidden()
    page.get_by_role("link", name="Training").click()
    assert page.locator("#training").is_visible() and page.locator("#overview").is_hidden()
    curves = page.locator("#training figure[data-name]:visible")
    shown = curves.count()
    page.get_by_label("choice", exact=True).first.check()  # of the first kind
    assert curves.count() == shown + 1


def test_a_permalink_leads_to_its_number_and_another_runs_is_told(show, study):
    page = show(study)
    link = page.locator("#training a.n").first.get_attribute("id")
    page = show(study, f"#{link}")
    assert page.locator("#training").is_visible() and page.locator(".found").count() == 1
    assert link.split("@")[1].split(":")[0] in page.locator("#cite").inner_text()
    page = show(study, "#metrics/embedded/stats.json@0123456789abcdef:L7")
    assert "run 0123456789abcdef" in page.locator("#cite").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#cite").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_of_the_window(show, study, big, scheme):
    for html in (study, big):
        page = show(html, color_scheme=scheme)
        for tab in page.locator("nav a").all():
            tab.click()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 27)"
        )


def test_without_scripts_everything_said_can_be_read(show, study, big):
    context = {"java_script_enabled": False}
    page = show(study, **context)
    assert page.locator("#overview").is_visible() and page.locator("#training").is_visible()
    assert (
        page.get_by_text("Has it stopped looking? No").is_visible()
        and page.locator("#grid tbody tr:visible").count() > 200
    )
    page = show(big, **context)
    assert (
        page.locator("article.one:visible").count() == 4
        and page.get_by_text("another image and another text").count() == 4
    )
    assert page.locator("#attention").is_hidden()


def test_a_head_is_chosen_by_mouse_or_keyboard_and_a_word_by_its_button(show, big):
    page = show(big)
    first = page.locator("#heads-model td").first
    first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert "layer 3, head 2" in page.locator("#m-where").inner_text()
    assert "pair=0&view=0&layer=2&head=1" in page.url
    labels = page.locator('[data-maps="model"] canvas')
    assert labels.count() == 3 and "times even attention" in labels.first.get_attribute("aria-label")
    page.get_by_role("link", name="Pairs", exact=True).click()
    page.locator("#p-words button").nth(2).click()
    assert page.locator("#p-words button").nth(2).get_attribute("aria-pressed") == "true"
    assert page.locator('[data-maps="pair"] canvas').count() == 2  # a twin's words were left out of so large a page
    maps = page.locator('[data-maps="pair"]')
    assert "◉ sink" in maps.inner_text()
    before = maps.locator("table.bars tbody tr").first.inner_text()
    page.locator("#p-sinks").check()
    assert maps.locator("table.bars tbody tr").first.inner_text() != before
    page = show(big, "#pair=2&view=0&layer=31&head=5&query=1")
    assert page.locator("#pair-2").is_visible() and page.locator("#p-layer").input_value() == "31"
    assert page.locator("#p-words button").nth(2).get_attribute("aria-pressed") == "true"


def test_a_swap_shows_what_the_model_was_shown(show, big):
    page = show(big, "#pair=0")
    said, shown = page.locator("#pair-0 .said"), page.locator("#pair-0 img.shown")
    own = shown.get_attribute("src")
    page.get_by_role("button", name="another image and another text").first.click()
    assert said.inner_text() == "another" and shown.get_attribute("src") != own
    page.locator("#pair-0 .swaps button").first.click()
    assert said.inner_text() == "a caption" and shown.get_attribute("src") == own


def test_a_click_takes_less_than_a_tenth_of_a_second(show, big):
    assert len(big.encode()) < LARGEST
    page = show(big)
    page.wait_for_function("document.querySelector('[data-maps=model] canvas')")
    median = page.evaluate("""async () => {
      const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const found = {};
      const time = async (name, act) => {
        const taken = [];
        for (let i = 0; i < 7; i++) {
          await frame();
          const start = performance.now();
          act(i);
          document.body.offsetHeight; // with its layout
          taken.push(performance.now() - start);
        }
        found[name] = taken.sort((a, b) => a - b)[3];
      };
      const set = (id, value) => {
        const e = document.getElementById(id);
        e.value = value;
        e.dispatchEvent(new Event("change"));
      };
      const cells = document.querySelectorAll("#heads-model td");
      await time("head", (i) => cells[(131 * i + 7) % cells.length].click());
      await time("colour", (i) => set("h-metric", i % 2 ? "entropy" : "mass"));
      document.querySelector('nav a[href="#pair"]').click();
      await time("word", (i) => document.querySelectorAll("#p-words button")[i + 1].click());
      await time("sinks", () => document.getElementById("p-sinks").click());
      await time("layer", (i) => set("p-layer", String(4 * i)));
      await time("pair", (i) => document.querySelectorAll(".pick-pair")[i % 4].click());
      return found;
    }""")
    assert all(taken < MOST for taken in median.values()), median


def test_hostile_texts_do_not_run_and_are_shown_as_they_are(show, tmp_path, tiny_openclip):
    root = tmp_path / "pairs"
    for number in range(3):
        photograph(root / "val2017" / f"<b>{number}.jpg", seed=number)
    write_annotations(root, {
        "images": [{"id": n, "file_name": f"<b>{n}.jpg", "license": 1} for n in range(3)],
        "annotations": [{"id": n, "image_id": n, "caption": f"{HOSTILE} {n}"} for n in range(3)],
        "licenses": [{"id": 1, "url": "x"}],
    })  # fmt: skip
    model = tmp_path / "<img src=x onerror=window.hacked=2>"
    model.symlink_to(tiny_openclip)
    page = show(explore(str(model), root, t_shap=True, max_unknown=1).html)
    page.get_by_role("link", name="Pairs", exact=True).click()
    for button in page.locator("button:visible").all():
        button.click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert HOSTILE in page.locator("article.one:visible .said").inner_text()


def test_a_notebook_shows_it_in_a_frame(show, big):
    page = show(f"<!doctype html><title>{escape('a notebook')}</title>{Page(big)._repr_html_()}")
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name="Pairs", exact=True).click()
    frame.locator("#p-words button").nth(1).click()
    assert frame.locator('[data-maps="pair"] canvas').count() == 2 and frame.locator("#model").is_hidden()
