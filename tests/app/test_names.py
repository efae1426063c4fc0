import unicodedata

import pytest

from app.names import clean_name, typed, without_last
from gallery import records
from gallery.records import NAME_BYTES, NAME_LENGTH


@pytest.mark.parametrize(
    "text, name",
    [
        ("", ""),
        ("   ", ""),
        ("Anna", "Anna"),
        ("  Anna   Maria ", "Anna Maria"),
        ("Zoë", "Zoë"),
        ("Zoe\u0308", "Zoë"),  # decomposed, as some keyboards and file systems give it
        ("Łukasz Żółć", "Łukasz Żółć"),
        ("Ελένη", "Ελένη"),
        ("Ольга", "Ольга"),
        ("\U00020bb7田", "\U00020bb7田"),  # a surname outside the basic plane
        ("An\x00na\x1b[2J", "Anna[2J"),
        ("Anna\nBob", "AnnaBob"),
        ("Anna\tBob", "Anna Bob"),
        ("\u202eannA", "annA"),  # would turn the rest of the line round
        ("\ufeffAnna", "Anna"),
        ("Anna\u2028Bob", "AnnaBob"),
        ("../etc\\passwd", "etcpasswd"),
        ("..", ""),
        (".hidden", "hidden"),
        ("John Jr.", "John Jr."),
        ("O'Brien-Smith", "O'Brien-Smith"),
        ("\u0308", ""),  # a mark with no letter to stand on
        ("می\u200cخواهم", "می\u200cخواهم"),  # a joiner that is spelling
        ("An\udcffna", "Anna"),
    ],
)
def test_clean_name(text, name):
    assert clean_name(text) == name
    assert not name or records.clean_name(name) == name  # the gallery takes it as it is


def test_clean_name_is_at_its_goal_after_one_pass():
    for text in ("  . Anna ", "Zoe\u0308 \u200d", "a" * 100, ". . .x"):
        assert clean_name(clean_name(text)) == clean_name(text)


def test_length_counts_characters_after_composition():
    assert clean_name("e\u0308" * 80) == "ë" * NAME_LENGTH
    assert typed("x" * NAME_LENGTH, "y") == "x" * NAME_LENGTH
    assert typed("x" * (NAME_LENGTH - 1) + "e", "\u0308") == "x" * (NAME_LENGTH - 1) + "ë"


def test_a_name_fits_into_a_file_name():
    name = clean_name("\U00020bb7" * 64)
    assert name and len(name.encode()) <= NAME_BYTES and records.clean_name(name) == name


def test_typing_keeps_one_space_at_the_end_for_the_next_word():
    name = ""
    for character in " Anna  M":
        name = typed(name, character)
    assert name == "Anna M"


@pytest.mark.parametrize(
    "name, rest",
    [
        ("", ""),
        ("A", ""),
        ("Zoë", "Zo"),
        ("Zoe\u0308", "Zo"),
        ("Zox\u0323\u0302", "Zo"),  # two marks that have no composed form
        ("田\U00020bb7", "田"),
        ("Anna \U0001f469\u200d\U0001f680", "Anna "),  # woman + joiner + rocket: one picture
        ("Anna \U0001f44b\U0001f3fd", "Anna "),  # hand + skin tone
        ("नमि", "न"),  # a vowel sign goes with its letter
        ("\u0308", ""),
    ],
)
def test_backspace_takes_what_a_reader_calls_one_character(name, rest):
    assert without_last(name) == rest


def test_backspace_undoes_typing():
    for text in ("ë", "Ж", "\U00020bb7", "x\u0323\u0302"):
        name = typed("Ann", text)
        assert unicodedata.normalize("NFC", name) == name
        assert without_last(name) == "Ann"
