"""What a person is told when the kiosk cannot recognise him: the quality module's codes in plain words.

Two or three words, because they are read at a glance, from a distance, under one's own face.
"""
from typing import Optional

TEXTS = {
    "too_small": "come closer",
    "too_dark": "too dark",
    "too_bright": "too bright",
    "blurred": "hold still",
    "turned_away": "look at the camera",
    "cut_off": "step into the picture",
    "several": "one at a time",
}


def advice(reason: Optional[str]) -> str:
    """The advice for a reason code of the quality module; '' for None and for a code without advice."""
    return TEXTS.get(reason or "", "")
