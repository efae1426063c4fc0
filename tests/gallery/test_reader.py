"""Broken and unusual files, made here; each either reads or says why not."""
import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gallery.reader import MAX_SIDE, Unreadable, decode, read_bytes, readable

RED = (200, 30, 30)  # RGB


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def flag(width: int = 60, height: int = 40) -> Image.Image:
    """Red above, black below, so that turning shows."""
    image = Image.new("RGB", (width, height), RED)
    image.paste((0, 0, 0), (0, height // 2, width, height))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_formats(kind: str) -> None:
    image = decode(encoded(flag(), kind), ".jpg")
    assert image.shape == (40, 60, 3) and image.dtype == np.uint8
    assert np.abs(image[5, 30].astype(int) - RED[::-1]).max() < 12  # BGR
    assert image[35, 30].max() < 12


@pytest.mark.parametrize(
    "orientation, red", [(1, "top"), (3, "bottom"), (6, "right"), (8, "left"), (2, "top"), (5, "left")]
)
def test_exif_orientation(orientation: int, red: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(flag(), "JPEG", exif=exif.tobytes(), quality=95), ".jpg").astype(int)
    height, width = image.shape[:2]
    assert (height, width) == ((40, 60) if orientation < 5 else (60, 40))
    place = {
        "top": (4, width // 2),
        "bottom": (height - 4, width // 2),
        "left": (height // 2, 4),
        "right": (height // 2, width - 4),
    }
    for side, (row, column) in place.items():
        if side == red:
            assert image[row, column, 2] > 150
    assert sum(image[row, column, 2] > 150 for row, column in place.values()) <= 3


def test_a_broken_exif_block_does_no_harm() -> None:
    data = encoded(flag(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff broken")
    assert decode(data, ".jpg").shape == (40, 60, 3)


def test_cmyk() -> None:
    image = decode(encoded(flag().convert("CMYK"), "JPEG"), ".jpg").astype(int)
    assert image[5, 30, 2] > 120 and image[35, 30].max() < 60


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits(channels: int) -> None:
    deep = np.full((20, 30, channels), 40000, np.uint16)
    deep[:, 15:] = 10000
    _, data = cv2.imencode(".png", deep)
    image = decode(data.tobytes(), ".png").astype(int)
    assert np.abs(image[10, 5] - 40000 // 257).max() <= 1 and np.abs(image[10, 25] - 10000 // 257).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (30, 30), RED), Image.new("RGB", (30, 30), (0, 0, 255))]
    image = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100), ".gif").astype(int)
    assert image[15, 15, 2] > 150 and image[15, 15, 0] < 80


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "L"])
def test_modes(mode: str) -> None:
    assert decode(encoded(flag().convert(mode), "PNG"), ".png").shape == (40, 60, 3)


def test_what_is_transparent_is_white() -> None:
    image = decode(encoded(Image.new("RGBA", (10, 10), (0, 0, 0, 0)), "PNG"), ".png")
    assert image.min() == 255


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_fifty_megapixels_are_made_smaller(kind: str) -> None:
    image = decode(encoded(Image.new("L", (8700, 5800), 90), kind), ".jpg")
    assert image.shape == (round(MAX_SIDE * 5800 / 8700), MAX_SIDE, 3)
    assert np.abs(image.astype(int) - 90).max() <= 1


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(Unreadable, match="megapixels"):
        decode(encoded(Image.new("1", (30000, 30000)), "PNG"), ".png")


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"just some text, saved as a picture\n" * 20, "not a picture"),
        (encoded(flag(400, 300), "JPEG")[:1500], "cut short"),
        (encoded(Image.effect_noise((200, 200), 50), "PNG")[:9000], "cut short"),
        (b"\xff\xd8\xff", "not a picture"),
    ],
    ids=["text", "cut JPEG", "cut PNG", "three bytes"],
)
def test_broken_files(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        decode(data, ".jpg")


def test_an_empty_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(Unreadable, match="empty"):
        read_bytes(tmp_path / "empty.jpg")
    with pytest.raises(Unreadable, match="No such file"):
        read_bytes(tmp_path / "missing.jpg")


def test_heic_without_its_package_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(Unreadable, match="pip install pillow-heif"):
        decode(b"\x00\x00\x00\x18ftypheic", ".HEIC")


def test_heic_with_its_package() -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the package pillow-heif")
    heif.register_heif_opener()
    assert decode(encoded(flag(64, 64), "HEIF"), ".heic").shape == (64, 64, 3)


@pytest.mark.parametrize("name, taken", [("a.jpg", True), ("a.JPEG", True), ("a.txt", False), ("._a.jpg", False)])
def test_which_files_are_photos(name: str, taken: bool) -> None:
    assert (readable(Path(name)) is None) == taken
