import io

import numpy as np
import pytest
from conftest import photograph
from PIL import Image

from attention_collapse.data.images import UnusableImageError, load_rgb


def test_an_ordinary_photograph_is_untouched(tmp_path):
    path = photograph(tmp_path / "a.png")
    image, notes = load_rgb(path)
    assert notes == () and image.mode == "RGB" and np.array_equal(image, Image.open(path))


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "LA", "1"])
def test_other_modes_become_rgb_and_say_so(tmp_path, mode):
    name = "a.tif" if mode == "CMYK" else "a.png"
    Image.new("RGB", (6, 4), (200, 200, 200)).convert(mode).save(tmp_path / name)
    image, notes = load_rgb(tmp_path / name)
    assert image.mode == "RGB" and image.size == (6, 4)
    assert notes == (f"converted from {mode} to RGB",)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image, notes = load_rgb(tmp_path / "a.png")
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert notes[0] == "16-bit values scaled to 8 bits"


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused_because_their_white_is_unknown(tmp_path, mode):
    Image.new(mode, (4, 4), 200).save(tmp_path / "a.tif")
    with pytest.raises(UnusableImageError, match="32-bit pixel values"):
        load_rgb(tmp_path / "a.tif")


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(0)
    for name, options in (
        (
            "a.jpg",
            {"exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"},
        ),
        ("a.tif", {}),
        ("a.png", {}),
        ("a.gif", {}),
    ):
        good = photograph(tmp_path / name, **options).read_bytes()
        for _ in range(60):
            bad = bytearray(good)
            for position in rng.integers(0, min(len(bad), 400), 5):
                bad[position] = rng.integers(0, 256)
            (tmp_path / "bad").write_bytes(bad)
            try:
                load_rgb(tmp_path / "bad")
            except UnusableImageError as error:
                assert error.reason
    with pytest.raises(UnusableImageError):
        load_rgb(tmp_path / ("x" * 300))


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(tmp_path / "a.jpg", size=(40, 30), exif=exif)
    image, notes = load_rgb(tmp_path / "a.jpg")
    assert image.size == (30, 40) and notes == ("rotated as its EXIF orientation says",)


def test_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    # A 20,000 × 20,000 PNG of one colour is small on disk and 1.2 GB decoded.
    Image.new("1", (20_000, 20_000)).save(tmp_path / "big.png")
    with pytest.raises(UnusableImageError, match="limit of 50,000,000"):
        load_rgb(tmp_path / "big.png")
    Image.new("1", (9_000, 9_000)).save(tmp_path / "large.png")
    with pytest.raises(UnusableImageError, match="81,000,000 pixels, more than the limit"):
        load_rgb(tmp_path / "large.png")
    assert load_rgb(tmp_path / "large.png", max_pixels=81_000_000)[0].size == (9_000, 9_000)


def _bad(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    frames = [Image.new("L", (5, 5), shade) for shade in (0, 100, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    png = io.BytesIO()
    Image.new("RGB", (50, 50), (1, 2, 3)).save(png, "PNG")
    return {
        "empty": b"",
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "truncated png": png.getvalue()[:60],
        "text": b"<html>not found</html>",
        "animated": buffer.getvalue(),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "0 bytes"),
        ("truncated jpeg", "truncated"),
        ("truncated png", "cannot be decoded"),
        ("text", "cannot be decoded"),
        ("animated", "3 frames"),
    ],
)
def test_unusable_files_come_back_with_a_reason(tmp_path, kind, reason):
    (tmp_path / "x").write_bytes(_bad(kind))
    with pytest.raises(UnusableImageError, match=reason) as caught:
        load_rgb(tmp_path / "x")
    assert str(tmp_path) not in caught.value.reason  # reasons go into committed manifests


def test_an_absent_file(tmp_path):
    with pytest.raises(UnusableImageError, match="absent"):
        load_rgb(tmp_path / "nothing.jpg")
