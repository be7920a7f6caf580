"""The live page over HTTP, without a browser; skipped, with the reason, where Gradio is not installed."""

import importlib.util
import io
import os
import re
import signal
import socket
import sys
import threading

import pytest
import yaml
from conftest import ROOT, coco_folder
from live_server import free_port, served
from test_looker import CAPTION, HOSTILE_SHORT, wrong_files

from attention_collapse.cli import main
from attention_collapse.errors import PipelineError
from attention_collapse.live import Looker, demo, serve
from attention_collapse.live.looker import LARGEST

pytest.importorskip("gradio", reason="gradio is an extra and is not installed (requirements-explore.txt pins it)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return coco_folder(tmp_path_factory.mktemp("live") / "pairs", n=5, captions=1)


@pytest.fixture(scope="module")
def picture(folder):
    return folder / "val2017" / f"{1:012d}.jpg"


@pytest.fixture(scope="module")
def client(folder, tiny_openclip):
    with served(str(tiny_openclip), folder, max_unknown=1) as one:
        yield one


def test_a_picture_and_a_caption_give_the_page_that_python_gives(client, picture, folder, tiny_openclip):
    page = Looker.of(str(tiny_openclip), folder, max_unknown=1).page(picture, CAPTION, t_shap=True)
    assert client.look_at(picture, CAPTION, True) == page.frame(1500)
    assert "untrained twin" in page.html and "(T-SHAP)</summary>" in page.html


def test_it_asks_nothing_of_any_other_server(client, picture):
    assert client.get().ok
    client.look_at(picture, CAPTION)
    assert set(client.asked) <= {"127.0.0.1", "localhost", None}
    assert client.get("/config").json()["analytics_enabled"] is False
    for url in re.findall(r'(?:src|href)="(https?:[^"]+)"', client.get().text):
        assert url.startswith(client.url), url


def test_what_is_wrong_is_told_in_the_page(client, picture, tmp_path):
    files = wrong_files(tmp_path)
    for name in ("cut.jpg", "text.png", "bomb.png", "moves.gif"):
        answer = client.look_at(tmp_path / name, CAPTION)
        assert 'role="alert"' in answer and files[name] in answer and "Traceback" not in answer
    assert "there is no picture" in client.look(None, CAPTION)
    assert "there is no caption" in client.look_at(picture, " ")
    assert "longer than the model" in client.look_at(picture, "red " * 200)
    answer = client.look_at(picture, HOSTILE_SHORT)
    assert "<img" not in answer and 'sandbox="allow-scripts"' in answer


def test_a_file_that_is_too_large_is_refused_while_it_is_sent(client):
    assert client.upload("a.jpg", b"\0" * (LARGEST + 1)).status_code == 413
    assert client.upload("a.jpg", b"\0" * 100).ok


def test_a_file_of_this_machine_that_was_not_uploaded_is_not_read(client, picture):
    for path in (str(picture), str(ROOT / "README.md"), "/etc/hostname"):
        assert "iframe" not in client.look(path, CAPTION)


def test_requests_run_one_at_a_time_and_uploads_are_deleted(tiny_openclip):
    app = demo(str(tiny_openclip), twin=False)
    assert [event.concurrency_limit for event in app.fns.values()] == [1]
    assert app.max_size == 16 if hasattr(app, "max_size") else app._queue.max_size == 16
    assert app.delete_cache == (300, 600) and app.analytics_enabled is False
    app.close(verbose=False)


def test_a_port_that_is_taken_is_told(client, tiny_openclip):
    port = int(client.url.rpartition(":")[2])
    with pytest.raises(PipelineError, match=rf"127.0.0.1:{port} cannot be served(.|\n)*--port"):
        serve(str(tiny_openclip), port=port, block=False, twin=False)


def test_other_addresses_are_listened_on_with_a_warning_alone(tiny_openclip, capsys):
    for host, warned in (("127.0.0.1", False), ("0.0.0.0", True)):  # noqa: S104 — what is warned of
        serve(str(tiny_openclip), host=host, port=free_port(), block=False, twin=False).close(verbose=False)
        said = capsys.readouterr()
        assert ("there is no password" in said.err) == warned and "shows the live page" in said.out


class Interrupting(io.StringIO):
    """Standard output whose reader presses Ctrl+C a moment after he is told of it."""

    timer = None

    def write(self, text):
        if "Ctrl+C" in text:
            self.timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
            self.timer.start()
        return super().write(text)


def test_the_command_serves_until_it_is_interrupted(tiny_openclip, monkeypatch, capsys):
    port, told = free_port(), Interrupting()
    held = {thread for thread in threading.enumerate() if not thread.daemon}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored in the background
    monkeypatch.setattr(sys, "stdout", told)
    try:
        status = main(["explore", "--serve", "--model", str(tiny_openclip), "--no-twin", "--port", str(port)])
    finally:
        if told.timer:  # one that did not wait to be interrupted is not interrupted afterwards
            told.timer.cancel()
            told.timer.join()
        signal.signal(signal.SIGINT, before)
    assert told.getvalue().startswith(f"http://127.0.0.1:{port}/ shows the live page; Ctrl+C ends it\n")
    assert status in (0, 130) and "Traceback" not in capsys.readouterr().err
    with socket.socket() as one:  # nobody listens any more, and nothing keeps the process from its end
        assert one.connect_ex(("127.0.0.1", port)) != 0
    assert {thread for thread in threading.enumerate() if not thread.daemon} <= held


def test_the_space_is_the_same_application(tiny_openclip, monkeypatch):
    space = ROOT / "examples" / "space"
    monkeypatch.setenv("MODEL", str(tiny_openclip))
    spec = importlib.util.spec_from_file_location("space_app", space / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert [event.api_name for event in module.app.fns.values()] == ["look"]
    module.app.close(verbose=False)
    front = yaml.safe_load((space / "README.md").read_text("utf-8").split("---")[1])
    pinned = re.search(r"^gradio==(.+)$", (ROOT / "requirements-explore.txt").read_text("utf-8"), re.MULTILINE)[1]
    assert front["sdk"] == "gradio" and front["app_file"] == "app.py" and front["sdk_version"] == pinned
    assert (space / "requirements.txt").read_text("utf-8").splitlines()[-1].startswith("attention-collapse[explore]")
