"""Names as people type them: any script, one character at a time as a reader counts characters.

A name becomes a key of the database, a folder under gallery/photos and a label on the screen, so
what would break one of these (control and direction characters, slashes, a leading dot) is never
taken in. Text is kept in NFC, the form in which equal names are equal strings.
"""
import unicodedata

from gallery.records import NAME_BYTES, NAME_LENGTH

JOINERS = "\u200c\u200d"  # part of the spelling in Persian and several Indian scripts, and of joined emoji
_JOINER = "\u200d"


def typed(name: str, text: str) -> str:
    """`name` with `text` typed at its end: what a name cannot hold and what is too long is left out."""
    for character in text:
        follows = character.isspace() or _extends(character)
        if not _allowed(character) or (follows and not name) or (character.isspace() and name.endswith(" ")):
            continue
        longer = unicodedata.normalize("NFC", name + (" " if character.isspace() else character))
        if len(longer) > NAME_LENGTH or len(longer.encode()) > NAME_BYTES:
            break
        name = longer
    return name


def clean_name(text: str) -> str:
    """The name to store for what was typed; '' when nothing of it can be a name."""
    return typed("", text).lstrip(" ." + JOINERS).rstrip(" " + JOINERS)


def without_last(name: str) -> str:
    """`name` without its last character as a reader counts: a letter goes with its combining marks,
    and emoji that are joined to one go together."""
    end = len(name)
    while end > 0:
        while end > 1 and _extends(name[end - 1]):
            end -= 1
        end -= 1
        if end == 0 or name[end - 1] != _JOINER:
            break
    return name[:end]


def _allowed(character: str) -> bool:
    # Control, format (direction, byte order), surrogate, private use; ends of lines and paragraphs.
    # Unassigned (Cn) passes: old Pythons know fewer letters than people do.
    barred = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or character in "/\\"
    return not barred or character in JOINERS or character == "\t"


def _extends(character: str) -> bool:
    """True for what is drawn onto the character before it: marks, joiners, skin tones."""
    return (
        unicodedata.category(character)[0] == "M" or character in JOINERS or "\U0001f3fb" <= character <= "\U0001f3ff"
    )
