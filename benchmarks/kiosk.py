#!/usr/bin/env python3
"""The whole kiosk on a clip, beside the loops that people use instead: frames a second, time, memory.

Every case is a process of its own with the same number of threads, on the same cores; the cases take
turns, and the median of the rounds counts. Ours is run_kiosk.py itself with six people enrolled.
Beside it, detecting and embedding every face of every frame: facenet-pytorch (MTCNN +
Inception-ResNet-v1, random weights: the time is the same), OpenCV's YuNet + the same embedder as
ours, and InsightFace's SCRFD-500M + the same embedder through onnxruntime.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import cv2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.detectors import PEER_PYTHON, SHARED, YUNET  # noqa: E402
from benchmarks.report import Column, machine, printed  # noqa: E402
from engines import build  # noqa: E402
from engines.recognizer import Recognizer  # noqa: E402
from errors import KioskError, UsageError, guarded  # noqa: E402
from settings import load  # noqa: E402

Figures = Dict[str, Any]
CLIPS = ("friends1.mp4", "mosaic_4shots.mp4")
EXAMPLES = """examples:
  benchmarks/kiosk.py                                     both clips, three rounds
  benchmarks/kiosk.py --clips single.mp4 --sizes 1920x1080 1280x720 640x360
  benchmarks/kiosk.py --detectors mtcnn scrfd_500m --embedder own --rounds 1 --limit 100
  benchmarks/kiosk.py --repeat 10000 photo.jpg            one picture again and again, as the original's loop
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", nargs="?", type=Path, help="for --repeat (default: a photo of five people)")
    parser.add_argument("--repeat", type=int, metavar="N", help="look at one picture N times, and nothing else")
    parser.add_argument("--clips", nargs="+", default=list(CLIPS), metavar="FILE", help="of ../shared/video, or paths")
    parser.add_argument("--sizes", nargs="+", metavar="WxH", help="each clip at these sizes, too")
    parser.add_argument("--detectors", nargs="+", default=["mtcnn"], metavar="NAME", help="ours (default: mtcnn)")
    parser.add_argument("--embedder", default="edgeface_xs", help="of ours, YuNet's and SCRFD's (default: edgeface_xs)")
    parser.add_argument("--draw", action="store_true", help="a row more: drawn and written into a video file")
    parser.add_argument("--realtime", action="store_true", help="ours plays the clip at its own rate and drops frames")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, metavar="N", help="the peers look at the first N frames alone")
    parser.add_argument("--data", type=Path, default=SHARED, metavar="FOLDER", help="with video/ and models/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


def pinned(threads: int) -> Dict[str, str]:
    """The environment that holds every library to so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    return dict(os.environ, **{name: str(threads) for name in names})


def run(command: List[str], threads: int) -> Tuple[str, resource.struct_rusage]:
    """Run to the end on `threads` cores: what it printed, and what it used. Raises KioskError with what
    a failed one said last."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=pinned(threads),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        out.seek(0)
        errors.seek(0)
        if status:
            last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise KioskError("{} failed: {}".format(Path(command[1]).name, last))
        return out.read(), usage


def ours(clip: Path, detector: str, output: str, options: argparse.Namespace, folder: Path) -> Figures:
    """run_kiosk.py with the people of friends1.mp4 enrolled. Its CPU time includes its start."""
    stats = folder / "stats.json"
    command = [sys.executable, str(ROOT / "run_kiosk.py"), str(clip), output, "--stats", str(stats)]
    command += ["--realtime"] if options.realtime else []
    for setting in (
        "detector.model=" + detector,
        "embedder.model=" + options.embedder,
        "threads={}".format(options.threads),
        "gallery.database={}".format(folder / "{}.db".format(options.embedder)),
        "gallery.photos={}".format(options.data / "video" / "friends_gallery"),
    ):
        command += ["--set", setting]
    _, usage = run(command, options.threads)
    found: Figures = json.loads(stats.read_text(encoding="utf-8"))
    found["cpu_ms"] = 1e3 * (usage.ru_utime + usage.ru_stime) / found["frames"]
    found["memory_mb"] = usage.ru_maxrss / 1024
    found["faces"] = found["faces"] / found["frames"]
    return found


def peer(name: str, clip: Path, options: argparse.Namespace) -> Figures:
    models = options.data / "models"
    command = [str(PEER_PYTHON) if name == "facenet-pytorch" else sys.executable]
    command += [str(ROOT / "benchmarks" / "peers" / "pipelines.py"), name, str(clip)]
    command += ["--threads", str(options.threads)] + (["--limit", str(options.limit)] if options.limit else [])
    if name != "facenet-pytorch":
        file = {"yunet": YUNET, "scrfd": "det_500m.onnx"}[name]
        command += ["--detector", str(next(iter(models.rglob(file)), file))]
        command += ["--embedder", str(build.ensure(options.embedder)["embedder"])]
    printed_lines, usage = run(command, options.threads)
    found: Figures = json.loads(printed_lines.splitlines()[-1])
    found["memory_mb"] = usage.ru_maxrss / 1024
    return found


def cases(clip: Path, options: argparse.Namespace, folder: Path) -> Dict[str, Callable[[], Figures]]:
    def kiosk(detector: str, output: str) -> Callable[[], Figures]:
        return lambda: ours(clip, detector, output, options, folder)

    def other(name: str) -> Callable[[], Figures]:
        return lambda: peer(name, clip, options)

    found = {"kiosk, {}".format(one): kiosk(one, "headless") for one in options.detectors}
    if options.draw:
        drawn = "kiosk, {}, drawn and recorded".format(options.detectors[0])
        found[drawn] = kiosk(options.detectors[0], str(folder / "out.mp4"))
    found["SCRFD-500M + {}, a frame at a time".format(options.embedder)] = other("scrfd")
    found["YuNet + {}, a frame at a time".format(options.embedder)] = other("yunet")
    if PEER_PYTHON.exists():
        found["facenet-pytorch, a frame at a time"] = other("facenet-pytorch")
    else:
        print("left out: facenet-pytorch (no .venv-peers; see benchmarks/detect.py --help)", file=sys.stderr)
    return found


def measure(clip: Path, options: argparse.Namespace, folder: Path) -> Dict[str, List[Figures]]:
    """All cases in turns."""
    todo = cases(clip, options, folder)
    figures: Dict[str, List[Figures]] = {name: [] for name in todo}
    for turn in range(options.rounds):
        for name, case in todo.items():
            print("\r{}, round {} of {}: {}".format(clip.name, turn + 1, options.rounds, name), end="\x1b[K",
                  file=sys.stderr, flush=True)  # fmt: skip
            figures[name].append(case())
    print("\r", end="\x1b[K", file=sys.stderr, flush=True)
    return figures


def shown(clip: Path, figures: Dict[str, List[Figures]]) -> Figures:
    """Print the table of one clip; returns its medians."""
    columns = [Column("pipeline"), Column("fps", "{:.1f}"), Column("min - max"), Column("x slowest", "{:.1f}"),
               Column("faces", "{:.1f}"), Column("p50 ms", "{:.1f}"), Column("p95 ms", "{:.1f}"),
               Column("p99 ms", "{:.1f}"), Column("CPU ms", "{:.0f}"), Column("MB", "{:.0f}"),
               Column("drops")]  # fmt: skip
    middle = {name: statistics.median(one["fps"] for one in runs) for name, runs in figures.items()}
    rows = []
    for name, runs in figures.items():
        typical = min(runs, key=lambda one: abs(one["fps"] - middle[name]))
        times = typical["stages"]["frame"]
        spread = "{:.1f} - {:.1f}".format(min(one["fps"] for one in runs), max(one["fps"] for one in runs))
        rows.append([name, middle[name], spread, middle[name] / min(middle.values()), typical["faces"],
                     *(times["p{}_ms".format(p)] for p in (50, 95, 99)), typical["cpu_ms"],
                     typical.get("memory_mb"), typical.get("dropped", 0)])  # fmt: skip
    print("\n{}\n{}".format(clip.name, printed(columns, rows)))
    for name, runs in figures.items():
        stages = {stage: times for stage, times in runs[-1]["stages"].items() if stage != "frame"}
        if stages:
            form = "{} {p50_ms:.1f} / {p95_ms:.1f} / {p99_ms:.1f}"
            parts = [form.format(stage, **times) for stage, times in stages.items()]
            print("  {}, ms p50 / p95 / p99: {}".format(name, ", ".join(parts)))
    names = [column.name for column in columns]
    return {row[0]: dict(zip(names[1:], row[1:])) for row in rows}


def scaled(clip: Path, size: str, folder: Path) -> Path:
    """`clip` at another size, so that decoding costs what it costs for a clip of that size."""
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise UsageError("--sizes {}: write WIDTHxHEIGHT, such as 1280x720.".format(size))
    target = folder / "{}_{}.mp4".format(clip.stem, size)
    capture = cv2.VideoCapture(str(clip))
    writer = cv2.VideoWriter(
        str(target), cv2.VideoWriter.fourcc(*"mp4v"), capture.get(cv2.CAP_PROP_FPS), (int(width), int(height))
    )
    while True:
        more, image = capture.read()
        if not more:
            writer.release()
            return target
        writer.write(cv2.resize(image, (int(width), int(height)), interpolation=cv2.INTER_CUBIC))


def repeat(picture: Optional[Path], options: argparse.Namespace) -> None:
    """Detect, align and embed every face of one picture, again and again: no tracks help here."""
    path = picture or options.data / "photos" / "group" / "meeting5_1280x853.jpg"
    image = cv2.imread(str(path))
    if image is None:
        raise UsageError("{}: cannot be read as a picture.".format(path))
    for detector in options.detectors:
        changes = ["threads={}".format(options.threads)]
        changes += ["embedder.model=" + options.embedder, "detector.model=" + detector]
        with Recognizer.from_settings(load(ROOT / "config.yaml", changes)) as recognizer:
            recognizer(image)
            start = time.perf_counter()
            for count in range(1, options.repeat + 1):
                faces = recognizer.search(image)
                recognizer.embed(image, faces.take(faces.scores >= recognizer.strong).landmarks)
                if not count % max(1, options.repeat // 10):
                    rate = count / (time.perf_counter() - start)
                    left = (options.repeat - count) / rate
                    print("{}: {} of {}, {:.1f} fps, {:.0f} s left".format(detector, count, options.repeat, rate, left))
            rate = options.repeat / (time.perf_counter() - start)
            print("{}, {}: {} faces, {:.2f} frames a second".format(path.name, detector, faces.count, rate), flush=True)


def main() -> int:
    options = arguments()
    os.environ.setdefault("KIOSK_MODELS", str(options.data / "models"))
    print("{}; {} rounds, cases in turns".format(machine(options.threads), options.rounds))
    if options.repeat:
        repeat(options.picture, options)
        return 0
    for name in [*options.detectors, options.embedder]:
        build.ensure(name)  # before the clock runs
    result: Dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one in options.clips:
            clip = Path(one) if Path(one).exists() else options.data / "video" / one
            if not clip.exists():
                raise UsageError("{}: is not there, and {} is neither.".format(one, clip))
            for size in options.sizes or [None]:
                made = clip if size is None else scaled(clip, size, folder)
                result[made.name] = shown(made, measure(made, options, folder))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
