"""Fixtures for all tests."""
import pytest

from tests import shared


@pytest.fixture(scope="module")
def shared_models():
    """Models of ../shared are found while a module's tests run; skips where they are absent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIOSK_MODELS", str(shared("models")))
        yield
