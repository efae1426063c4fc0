"""NVIDIA's jetson-utils, under whichever name this JetPack has it: cameras, decoders and displays of a Jetson.

It is built from source, not installed from a registry, so it may be absent, or there without its
compiled half: only a module that has `videoSource` counts.
"""
import importlib
from typing import Any, Optional

NAMES = ("jetson_utils", "jetson.utils")  # the second: before July 2022, and as a shim until April 2025
INSTALL = "https://github.com/dusty-nv/jetson-utils"


def jetson_utils() -> Optional[Any]:
    """The module, or None where it is not to be had."""
    for name in NAMES:
        try:
            module = importlib.import_module(name)
        except Exception:  # a broken build raises anything from ImportError to OSError
            continue
        if hasattr(module, "videoSource"):
            return module
    return None
