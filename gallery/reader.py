"""A photo file as the recogniser takes it: upright, 8 bits, three channels, not too large.

Whatever people drop into a folder comes through here: phone pictures with an EXIF orientation, CMYK,
16 bits, transparency, animations (their first frame), 50 megapixels. A file that is no picture ends
as Unreadable with a reason; nothing here stops the others.
"""
import io
import warnings
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif")
HEIC = (".heic", ".heif")
MAX_SIDE = 1600  # pixels of the longer side that the detector gets: a face of 200 in 12 megapixels still has 80
MAX_PIXELS = 100 * 1000 * 1000  # of the file; a decoded picture of this size takes 300 MB
MAX_BYTES = 200 * 1000 * 1000

# Pillow's own limit only warns below its double; `_checked` is stricter and comes before decoding.
Image.MAX_IMAGE_PIXELS = None


class Unreadable(Exception):
    """Why a file cannot be read as a picture; the text goes into the report."""


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises Unreadable."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise Unreadable("the file is empty")
        if size > MAX_BYTES:
            raise Unreadable("the file is larger than {} MB".format(MAX_BYTES // 1000000))
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error


def decode(data: bytes, suffix: str) -> np.ndarray:
    """A picture file's bytes -> (H, W, 3) uint8 BGR, upright, its longer side at most MAX_SIDE.

    `suffix` is the file name's ending (.heic asks for pillow-heif). Raises Unreadable.
    """
    if suffix.lower() in HEIC:
        _register_heic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken EXIF blocks and palettes
            with Image.open(io.BytesIO(data)) as image:
                return _small(_upright(_eight_bits(_checked(image)), image))
    except Unreadable:
        raise
    except MemoryError as error:
        raise Unreadable("it needs more memory than there is") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them stumble over
        raise Unreadable(_plain(error)) from error


def _checked(image: Any) -> Any:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unreadable("{:.0f} megapixels; at most {} are read".format(width * height / 1e6, MAX_PIXELS // 1000000))
    if image.format == "JPEG":  # decoded at 1/2, 1/4 or 1/8, whichever still covers MAX_SIDE
        image.draft(None, (MAX_SIDE, MAX_SIDE))
    image.seek(0)
    image.load()
    return image


def _eight_bits(image: Any) -> Any:
    """Any of Pillow's modes -> RGB; transparent parts turn white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float32)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        ground.alpha_composite(image)
        return ground.convert("RGB")
    return image.convert("RGB")


def _upright(picture: Any, original: Any) -> Any:
    """As the EXIF orientation of `original` says; a broken EXIF block leaves it as it is."""
    try:
        orientation = original.getexif().get(0x0112, 1)
        turned = ImageOps.exif_transpose(_with_orientation(picture, orientation))
    except Exception:
        return picture
    return picture if turned is None else turned


def _with_orientation(picture: Any, orientation: int) -> Any:
    """Conversions drop or keep the EXIF block depending on Pillow's version: state it anew."""
    picture.info.pop("exif", None)
    exif = picture.getexif()
    exif[0x0112] = orientation
    return picture


def _small(picture: Any) -> np.ndarray:
    bgr = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)
    height, width = bgr.shape[:2]
    scale = MAX_SIDE / float(max(height, width))
    if scale >= 1:
        return bgr
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)


def _register_heic() -> None:
    try:
        import pillow_heif  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise Unreadable("HEIC needs the package pillow-heif (pip install pillow-heif)") from error
    pillow_heif.register_heif_opener()


def _plain(error: Exception) -> str:
    text = str(error).split("\n")[0]
    if isinstance(error, Image.UnidentifiedImageError) or "cannot identify" in text:
        return "it is not a picture"
    if "truncated" in text or "broken data" in text.lower():
        return "the file is cut short"
    return text or type(error).__name__


def readable(path: Path) -> Optional[str]:
    """None when `path` may be a photo by its name, else why it is passed over."""
    if path.name.startswith("."):
        return "hidden"
    return None if path.suffix.lower() in EXTENSIONS else "not a picture by its name"
