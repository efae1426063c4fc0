"""Which font draws a character: show.font first, then one that comes with a package, then the system's.

Roboto (the package font-roboto) has Latin with Vietnamese, Greek and Cyrillic; pygame's own font
stands in where it is not installed. For any other character the system is asked once, through
fontconfig where it is there. A character that no font has is said in one line and drawn as the
font's empty box. Letters are set one after the other: scripts that join their letters or run from
right to left are shown, but not shaped.
"""
import importlib.util
import os
import subprocess
import sys
import unicodedata
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from errors import KioskError, UsageError

AUTO = "auto"
BASIC_LAYOUT = 0  # ImageFont.Layout.BASIC, by its number: Pillow 8.4 names it otherwise
PROBE_SIZE = 24  # pixels: large enough for every glyph to differ from the box of a missing one
ABSENT = "\uffff"  # no character at all, in no font: what is drawn for it is drawn for every missing glyph
PACKAGED = (("font_roboto", "files/Roboto-Medium.ttf"), ("pygame", "freesansbold.ttf"))
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
SUFFIXES = (".ttf", ".otf", ".ttc")
PREFERRED = ("notosanscjk", "notosans", "dejavusans", "sans")  # plain and upright first
AVOIDED = ("mono", "italic", "oblique", "serif", "thin", "light", "condensed", "emoji", "math")
FONTCONFIG_WAIT_S = 2


def to_stderr(line: str) -> None:
    """Standard output may be carrying the events."""
    print(line, file=sys.stderr)


class Typeface:
    """Text to masks. `say` gets one line for each character that no font has."""

    def __init__(self, font: str = AUTO, say: Callable[[str], None] = to_stderr) -> None:
        self._say = say
        self._fonts: Dict[Tuple[str, int], ImageFont.FreeTypeFont] = {}
        self._font_of: Dict[str, str] = {}  # character -> file
        self._chain = self._packaged()
        if font != AUTO:
            try:
                self._open(font, PROBE_SIZE)
            except OSError as error:
                raise UsageError(
                    "show.font: {} cannot be read as a font ({}); it must be a .ttf or .otf file, or auto.".format(
                        font, error
                    )
                ) from error
            self._chain.insert(0, font)
        if not self._chain:
            self._chain = [path for path in system_fonts() if self._opens(path)][:1]
        if not self._chain:
            raise KioskError("no font was found: install one with 'pip install font-roboto', or name one in show.font.")

    def mask(self, text: str, size: int) -> np.ndarray:
        """One line of `text`: (H, W) uint8 coverage, 0..255; H is the line height of `size` pixels, the
        same for every text. Control characters are left out."""
        text = plain(text)
        ascent, descent = self._open(self._chain[0], size).getmetrics()
        runs = self._runs(text, size)
        width = int(np.ceil(sum(font.getlength(run) for run, font in runs))) + 1
        image = Image.new("L", (max(width, 1), ascent + descent))
        draw = ImageDraw.Draw(image)
        x = 0.0
        for run, font in runs:
            draw.text((x, ascent), run, fill=255, font=font, anchor="ls")
            x += font.getlength(run)
        return np.array(image)

    def width(self, text: str, size: int) -> float:
        """Pixels that `text` advances."""
        return float(sum(font.getlength(run) for run, font in self._runs(plain(text), size)))

    def fitted(self, text: str, size: int, width: float, keep_end: bool = False) -> str:
        """`text` as it is or, where it is wider than `width` pixels, cut with an ellipsis at its end
        (`keep_end`: at its beginning)."""
        text = plain(text)
        if self.width(text, size) <= width:
            return text
        short, long = 0, len(text)  # bisection over the number of characters kept
        while long - short > 1:
            middle = (short + long) // 2
            trial = "…" + text[-middle:] if keep_end else text[:middle] + "…"
            short, long = (middle, long) if self.width(trial, size) <= width else (short, middle)
        if keep_end:
            return "…" + (text[-short:] if short else "")
        return text[:short].rstrip() + "…"

    def wrapped(self, text: str, size: int, width: float) -> List[str]:
        """`text` in lines of at most `width` pixels, broken between words."""
        lines = [""]
        for word in plain(text).split():
            longer = (lines[-1] + " " + word).strip()
            if lines[-1] and self.width(longer, size) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return [self.fitted(line, size, width) for line in lines]

    def _runs(self, text: str, size: int) -> List[Tuple[str, ImageFont.FreeTypeFont]]:
        """`text` in pieces that one font draws."""
        pieces: List[Tuple[str, str]] = []
        for character in text:
            path = self._font_of.get(character) or self._find(character)
            if pieces and pieces[-1][1] == path:
                pieces[-1] = (pieces[-1][0] + character, path)
            else:
                pieces.append((character, path))
        return [(run, self._open(path, size)) for run, path in pieces]

    def _find(self, character: str) -> str:
        path = next((path for path in self._chain if self._has(path, character)), None)
        if path is None:
            path = next((path for path in system_fonts(character) if self._has(path, character)), None)
            if path is not None:
                self._chain.append(path)  # its script has more letters than this one
            else:
                path = self._chain[0]
                self._say(
                    "No font here has '{}' (U+{:04X}{}): name a font file that has it in show.font, "
                    "or install one.".format(character, ord(character), _named(character))
                )
        self._font_of[character] = path
        return path

    def _has(self, path: str, character: str) -> bool:
        if character.isspace():
            return True
        try:
            font = self._open(path, PROBE_SIZE)
            return _pixels(font, character) != _pixels(font, ABSENT)
        except (OSError, ValueError):
            return False  # a font of fixed size, or none at all

    def _open(self, path: str, size: int) -> ImageFont.FreeTypeFont:
        font = self._fonts.get((path, size))
        if font is None:
            font = ImageFont.truetype(path, size, layout_engine=BASIC_LAYOUT)  # type: ignore[arg-type]
            self._fonts[path, size] = font
        return font

    def _opens(self, path: str) -> bool:
        return self._has(path, "a")

    def _packaged(self) -> List[str]:
        found = []
        for package, name in PACKAGED:
            spec = importlib.util.find_spec(package)  # found without being imported
            if spec is not None and spec.origin:
                path = os.path.join(os.path.dirname(spec.origin), *name.split("/"))
                if os.path.isfile(path) and self._opens(path):
                    found.append(path)
        return found


def system_fonts(character: str = "") -> List[str]:
    """Font files of this machine, plain ones first: those that fontconfig says have `character`, or
    all files of the usual folders where there is no fontconfig."""
    pattern = ":charset={:x}".format(ord(character)) if character else ":"
    try:
        listing = subprocess.check_output(
            ["fc-list", pattern, "file"], stderr=subprocess.DEVNULL, timeout=FONTCONFIG_WAIT_S
        )
        files = [line.rstrip().rstrip(":") for line in listing.decode("utf-8", "replace").splitlines()]
    except (OSError, subprocess.SubprocessError):
        folders = [os.path.expanduser(folder) for folder in FOLDERS]
        files = [os.path.join(at, name) for folder in folders for at, _, names in os.walk(folder) for name in names]
    return sorted((path for path in files if path.lower().endswith(SUFFIXES)), key=_plainness)


def plain(text: str) -> str:
    """`text` on one line: composed letters (a font has those), no control characters."""
    composed = unicodedata.normalize("NFC", text)
    spaced = (" " if character.isspace() else character for character in composed)
    return "".join(character for character in spaced if unicodedata.category(character) not in ("Cc", "Cf"))


def _plainness(path: str) -> Tuple[int, int, str]:
    name = os.path.basename(path).lower().replace("-", "")
    rank = next((index for index, part in enumerate(PREFERRED) if part in name), len(PREFERRED))
    return sum(part in name for part in AVOIDED), rank, path


def _pixels(font: ImageFont.FreeTypeFont, character: str) -> Tuple[Tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _named(character: str) -> str:
    name: Optional[str] = unicodedata.name(character, "")
    return ", " + name.lower() if name else ""
