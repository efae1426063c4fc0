"""Every error that the kiosk raises on purpose.

    KioskError              exit code 1: something failed (a file, a device, a model)
    +-- UsageError          exit code 2: wrong use (an argument, a key of config.yaml)
    +-- SourceError         a camera or file cannot be opened or read
    +-- ModelError          a model is missing, damaged or of the wrong kind
    +-- GalleryError        the database cannot be opened or trusted
        +-- StorageError    it can be read, but not written now (read-only, full disk)

A message is one sentence that names the file, key or device, what is wrong and what would be
right. The commands print it on one line (`guarded`); a traceback appears only with --debug.
"""
import sys
from typing import Callable


class KioskError(Exception):
    """Base of all; `exit_code` is what a command leaves with."""

    exit_code = 1


class UsageError(KioskError):
    exit_code = 2


class SourceError(KioskError):
    pass


class ModelError(KioskError):
    pass


class GalleryError(KioskError):
    pass


class StorageError(GalleryError):
    pass


def guarded(command: Callable[[], int], stopped: str = "", debug: bool = False) -> int:
    """Run a command and give its exit code: an error is one line, or with `debug` a traceback; after Ctrl-C
    the code is 130, and `stopped` says what remains."""
    try:
        return command()
    except KioskError as error:
        if debug:
            raise
        print("error: {}".format(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if stopped:
            print(stopped, file=sys.stderr)
        return 130
