"""Shared by all tests: where the test photos, video and models lie."""
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def shared(relative: str) -> Path:
    """A file or folder of ../shared; the test is skipped, with the reason, where it is absent."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip("needs ../shared/{}".format(relative))
    return path
