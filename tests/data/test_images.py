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


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.webp", {"lossless": True, "exact": True}), ("a.tif", {}), ("a.ico", {}), ("a.tga", {}),
     ("a.jp2", {}), ("la.png", {})],
)  # fmt: skip
def test_colours_under_full_transparency_have_no_influence(tmp_path, name, options):
    """Two pictures that look alike are equal: the clear half is white, whatever its colours are."""
    rng, found = np.random.default_rng(0), []
    half = rng.integers(0, 256, (16, 16, 4), dtype=np.uint8)
    half[:8, :, 3], half[8:, :, 3] = 255, 0
    for other in (half, np.where(np.arange(16)[:, None, None] < 8, half, 255 - half)):
        other[..., 3] = half[..., 3]
        image = Image.fromarray(other)
        (image.convert("LA") if name.startswith("la") else image).save(tmp_path / name, **options)
        found.append(load_rgb(tmp_path / name))
    (one, notes), (two, _) = found
    assert (
        np.array_equal(one, two) and (np.asarray(one)[8:] == 255).all() and notes[0] == "transparency composed on white"
    )
    if not name.startswith("la"):
        assert np.array_equal(np.asarray(one)[:8], half[:8, :, :3])


def test_half_transparency_is_the_mean_with_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 51, 128)).save(tmp_path / "a.png")
    assert np.asarray(load_rgb(tmp_path / "a.png")[0])[0, 0].tolist() == [255, 127, 153]  # c + (255 - c) · 127 / 255


@pytest.mark.parametrize("transparency", [2, bytes([255, 255, 0, 255])])
def test_a_transparent_colour_of_a_palette_is_white(tmp_path, transparency):
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) % 4).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    image.save(tmp_path / "a.png", transparency=transparency)
    found = np.asarray(load_rgb(tmp_path / "a.png")[0])[0].tolist()
    assert found == [[10, 20, 30], [40, 50, 60], [255, 255, 255], [100, 110, 120]]
    image.save(tmp_path / "a.gif", transparency=2)
    assert np.asarray(load_rgb(tmp_path / "a.gif")[0])[0].tolist() == found


@pytest.mark.parametrize(
    ("image", "transparency", "expected"),
    [
        (Image.fromarray(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8)), (9, 8, 7), [[255] * 3, [1, 2, 3]]),
        (Image.fromarray(np.array([[5, 6]], np.uint8)), 5, [[255] * 3, [6] * 3]),
        (Image.fromarray(np.array([[1280, 1281]], np.uint16)), 1280, [[255] * 3, [5] * 3]),
        (Image.fromarray(np.array([[True, False]])), 0, [[255] * 3, [255] * 3]),
    ],
)
def test_one_transparent_colour_without_a_channel_is_white(tmp_path, image, transparency, expected):
    image.save(tmp_path / "a.png", transparency=transparency)
    found, notes = load_rgb(tmp_path / "a.png")
    assert np.asarray(found)[0].tolist() == expected and "transparency composed on white" in notes


def test_cmyk_of_a_jpeg_is_inverted_as_adobe_writes_it_and_of_a_tiff_is_not(tmp_path):
    for name in ("a.jpg", "a.tif"):
        Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / name)
        assert np.abs(np.asarray(load_rgb(tmp_path / name)[0])[0, 0].astype(int) - [0, 255, 255]).max() <= 2


def test_what_leaves_carries_nothing_but_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "words"
    photograph(tmp_path / "a.jpg", exif=exif, dpi=(3, 3), comment="words", icc_profile=b"no profile")
    Image.new("P", (3, 3)).save(tmp_path / "a.png", transparency=0)
    for name in ("a.jpg", "a.png"):
        image, _ = load_rgb(tmp_path / name)
        assert image.info == {} and dict(image.getexif()) == {} and image.palette is None and image.mode == "RGB"
        assert not hasattr(image, "filename") and image.format is None
        assert not image.has_transparency_data


def test_a_file_whose_reader_runs_another_program_is_refused(tmp_path):
    Image.new("RGB", (5, 5)).save(tmp_path / "a.eps")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.eps").read_bytes())
    with pytest.raises(UnusableImageError, match="cannot identify image file"):
        load_rgb(tmp_path / "a.png")


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
