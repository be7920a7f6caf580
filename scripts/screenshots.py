"""The screenshots of docs/: the study's page, and the live page with a rendered scene, in headless Chromium.

    scripts/environment python scripts/screenshots.py [FOLDER]

FOLDER is docs/ unless another is named. The pictures hold rendered scenes alone, no photograph; each is reduced to a
palette and is at most 150 KB.
"""

import shutil
import socket
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from attention_collapse.data.pairs import read_folder
from attention_collapse.data.scenes import write_scenes
from attention_collapse.exploration import explore_study
from attention_collapse.live import serve

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "data" / "controls" / "openclip-scenes"
LARGEST, COLOURS = 150_000, 256  # bytes of a picture, and colours of its palette


def save(shot: bytes, file: Path) -> None:
    """A screenshot with few colours, no larger than `LARGEST`."""
    picture = Image.open(BytesIO(shot)).convert("RGB")
    picture = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(file, optimize=True)
    size = file.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{file}: {size:,} bytes, more than {LARGEST:,}")
    print(f"{file}: {size:,} bytes")


def of_study(browser: Browser, file: Path) -> None:
    """The embedded study's page as it opens."""
    with tempfile.TemporaryDirectory() as scratch:
        html = Path(scratch) / "study.html"
        explore_study("embedded", ROOT, html)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page.goto(html.as_uri())
        save(page.screenshot(), file)


def of_live(browser: Browser, file: Path) -> None:
    """The live page after a scene and its own caption were given."""
    with tempfile.TemporaryDirectory() as scratch, socket.socket() as free:
        write_scenes(scenes := Path(scratch) / "scenes", n=12, seed=0)
        first = read_folder(scenes)[0][0]
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        app = serve(MODEL, scenes, port=port, block=False)
        page = browser.new_page(viewport={"width": 1280, "height": 1400}, color_scheme="light")
        page.set_default_timeout(180_000)  # a busy machine takes its time
        page.goto(f"http://127.0.0.1:{port}")
        page.set_input_files("input[type=file]", first.path)
        page.get_by_label("Caption").fill(first.entry.captions[0])
        page.get_by_role("button", name="Look").click()
        page.frame_locator("iframe").locator('[data-maps="pair"] canvas').nth(2).wait_for()
        page.wait_for_timeout(500)  # the frame's picture is drawn
        save(page.screenshot(), file)
        app.close(verbose=False)


def main(folder: Path) -> None:
    """Write both."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("error: no Chromium on this machine\n  what to do: apt install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        of_study(browser, folder / "explore-study.png")
        of_live(browser, folder / "explore-live.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
