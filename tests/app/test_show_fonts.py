"""Fonts: every letter of the promised scripts, the fallbacks, and one line for what no font has."""
import importlib.util
import subprocess

import numpy as np
import pytest

from app.show import fonts
from app.show.fonts import Typeface, plain, system_fonts
from errors import UsageError

LATIN = "".join(map(chr, list(range(0xC0, 0xD7)) + list(range(0xD8, 0xF7)) + list(range(0xF8, 0x180)))) + "ȘșȚț"
GREEK = "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋ"
CYRILLIC = "".join(map(chr, range(0x400, 0x460)))
VIETNAMESE = "Nguyễn Thị Ánh Tuyết"


@pytest.fixture
def said():
    return []


@pytest.fixture
def no_fontconfig(monkeypatch):
    def absent(*arguments, **more):
        raise FileNotFoundError("fc-list")

    monkeypatch.setattr(subprocess, "check_output", absent)
    monkeypatch.setattr(fonts, "FOLDERS", ("/nowhere",))


@pytest.mark.parametrize("text", [LATIN, GREEK, CYRILLIC, VIETNAMESE], ids=["latin", "greek", "cyrillic", "vietnamese"])
def test_the_promised_scripts_come_with_a_package(text, said, no_fontconfig):
    if importlib.util.find_spec("font_roboto") is None:
        pytest.skip("needs font-roboto")
    typeface = Typeface(say=said.append)
    typeface.mask(text, 20)
    assert said == []
    letters = sorted(set(text) - set(" "))
    masks = {typeface.mask(letter, 40).tobytes() for letter in letters}
    assert len(masks) > 0.8 * len(letters)  # Latin, Greek and Cyrillic share some forms


def test_pygames_own_font_stands_in(monkeypatch, said, no_fontconfig):
    if importlib.util.find_spec("pygame") is None:
        pytest.skip("needs pygame")
    monkeypatch.setattr(fonts, "PACKAGED", fonts.PACKAGED[1:])
    typeface = Typeface(say=said.append)
    typeface.mask("Zoë Ångström Łódź Αθηνά Ольга", 20)
    assert said == []


def test_a_character_that_no_font_has_is_said_once_and_drawn_all_the_same(said, no_fontconfig):
    typeface = Typeface(say=said.append)
    mask = typeface.mask("名", 30)
    typeface.mask("Anna 名", 20)
    assert mask.any()
    assert len(said) == 1 and "'名' (U+540D" in said[0] and "show.font" in said[0]


def test_the_system_is_asked_for_other_scripts(said):
    if not any(Typeface()._has(path, "名") for path in system_fonts("名")):
        pytest.skip("needs a system font with Chinese")
    typeface = Typeface(say=said.append)
    first, second = typeface.mask("名", 30), typeface.mask("字", 30)
    assert said == [] and not np.array_equal(first, second)


def test_show_font_comes_first(tmp_path):
    other = next((path for path in system_fonts("a") if "DejaVuSerif" in path), None)
    if other is None:
        pytest.skip("needs the system font DejaVu Serif")
    assert not np.array_equal(Typeface(other).mask("Anna", 30), Typeface().mask("Anna", 30))


@pytest.mark.parametrize("content", [None, b"", b"not a font at all"])
def test_a_wrong_show_font_is_one_sentence(tmp_path, content):
    path = tmp_path / "font.ttf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"show\.font: .*font\.ttf cannot be read as a font"):
        Typeface(str(path))


def test_texts_share_a_line_height_and_grow_with_their_letters():
    typeface = Typeface()
    small, large, accented = typeface.mask("Anna", 20), typeface.mask("Anna Anna", 20), typeface.mask("Ångström", 20)
    assert small.shape[0] == large.shape[0] == accented.shape[0] and small.shape[1] < large.shape[1]
    assert typeface.mask("", 20).shape[0] == small.shape[0] and not typeface.mask("", 20).any()
    assert small.dtype == np.uint8 and small.max() > 200


def test_letters_in_two_parts_are_drawn_as_one():
    typeface = Typeface()
    assert np.array_equal(typeface.mask("e\u0308", 30), typeface.mask("ë", 30))
    assert plain("a\tb\x00c\u200e\nd") == "a bc d"


@pytest.mark.parametrize("width", [0, 15, 60, 119, 400])
def test_long_texts_are_cut_to_their_width(width):
    typeface = Typeface()
    text = "Maximilian von Hohenzollern"
    for keep_end in (False, True):
        cut = typeface.fitted(text, 20, width, keep_end)
        if typeface.width(text, 20) <= width:
            assert cut == text
        else:
            assert "…" in cut and (typeface.width(cut, 20) <= width or cut == "…")
    assert typeface.fitted("", 20, width) == ""


def test_lines_are_broken_between_words():
    typeface = Typeface()
    text = "This person is already known as Anna; Enter adds these samples to her."
    lines = typeface.wrapped(text, 20, 200)
    assert " ".join(lines) == text and len(lines) > 2
    assert all(typeface.width(line, 20) <= 200 for line in lines)
    assert typeface.wrapped("", 20, 200) == [""]
