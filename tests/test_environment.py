"""What a result was computed with, and what of it departs from the pins."""

from importlib.metadata import version

from conftest import ROOT

from attention_collapse.identity.environment import LIBRARIES, departures, environment


def test_versions_are_those_installed():
    found = environment("cpu")
    assert found["numpy"] == version("numpy") and found["device"] == "cpu"
    assert found["instruction_set"] and found["processor"] and "device" not in environment()


def test_every_library_that_is_recorded_is_pinned():
    pins = (ROOT / "requirements.txt").read_text()
    assert all(f"\n{name}==" in pins for name in LIBRARIES)


def test_a_departure_from_the_pins_is_named(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text(f"# pins\nnumpy=={version('numpy')}\n")
    assert departures(tmp_path) == []
    file.write_text("numpy==0.1\nno-such-package==1.0\n")
    assert departures(tmp_path) == [
        f"numpy {version('numpy')}, requirements.txt pins 0.1",
        "no-such-package is not installed, requirements.txt pins 1.0",
    ]
    file.unlink()
    assert departures(tmp_path) == []
