"""Fixtures for all tests."""
import signal

import pytest

from tests import shared

# nohup and a shell's & hand down that these are ignored; what the tests start and interrupt must not inherit that.
for one, usual in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(one) == signal.SIG_IGN:
        signal.signal(one, usual)


@pytest.fixture(scope="module")
def shared_models():
    """Models of ../shared are found while a module's tests run; skips where they are absent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIOSK_MODELS", str(shared("models")))
        yield
