#!/usr/bin/env python3
"""The kiosk: a camera (or a file) in, a picture with names out."""
import argparse
import io
import os
import sys
from typing import List, Optional

from errors import UsageError, guarded
from settings import load

EXAMPLES = """\
examples:
  ./run_kiosk.py                              the camera of config.yaml, in a window
  ./run_kiosk.py /dev/video1                  another camera
  ./run_kiosk.py rtsp://user:pass@host/path   a network camera
  ./run_kiosk.py clip.mp4 named.mp4           a video in, the same video with names out
  ./run_kiosk.py clip.mp4 headless --stats figures.json --tracks faces.jsonl
  ./run_kiosk.py photos/ headless --tracks -  every picture of a folder
  ./run_kiosk.py demo                         the bundled demo
  ./run_kiosk.py --doctor                     what is on this machine, what is wrong, what to do
  ./run_kiosk.py --set detector.min_face=60 --set embedder.model=edgeface_xs

keys: N enrols a new face, Q or Esc quits and prints the statistics, F is full screen, S saves a screenshot
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="run_kiosk.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "input", nargs="?", help="camera, rtsp:// address, video, picture, folder or 'demo' (default: capture.input)"
    )
    made.add_argument(
        "output", nargs="?", help="window, headless, or the name of a video file to write (default: show.output)"
    )
    made.add_argument("--config", default=None, metavar="FILE", help="settings (default: config.yaml beside this file)")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting for this run")
    made.add_argument("--seconds", type=float, metavar="N", help="end after N seconds of source time")
    made.add_argument("--realtime", action="store_true", help="play a file at its own rate, drop what is late")
    made.add_argument("--stats", metavar="FILE", help="write the statistics as JSON at the end")
    made.add_argument("--tracks", metavar="FILE", help="write one JSON line a frame: faces, names, similarities")
    made.add_argument(
        "--events", metavar="FILE", help="write a JSON line when somebody known arrives or leaves; - prints"
    )
    made.add_argument("--doctor", action="store_true", help="look at this machine, say what is wrong, and end")
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return made


def _print_any_name() -> None:
    """On a terminal that is not UTF-8 (LC_ALL=C on Python 3.6) a name is printed in escapes, not refused."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if getattr(stream, "buffer", None) is not None and "utf" not in (stream.encoding or "").lower():
            wrapped = io.TextIOWrapper(stream.buffer, stream.encoding, errors="backslashreplace", line_buffering=True)
            setattr(sys, name, wrapped)


def _check_writable(path: Optional[str], option: str) -> None:
    """Better now than after a day."""
    folder = os.path.dirname(os.path.abspath(path)) if path else ""
    if path and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise UsageError("{} {}: {} is no folder that can be written into.".format(option, path, folder))


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    _print_any_name()
    return guarded(lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> int:
    _check_writable(options.stats, "--stats")
    settings = load(options.config or __file__.replace("run_kiosk.py", "config.yaml"), options.set)
    if options.doctor:
        from app.doctor import report

        settings.capture.input = options.input or settings.capture.input
        return report(settings)
    from app.start import run  # after the arguments: --help needs no libraries

    run(settings, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
