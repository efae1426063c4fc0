#!/usr/bin/env python3
"""Frames a second of the whole kiosk, beside a plain loop that detects and embeds on every frame.

Each case is a process of its own, the cases take turns, and the median of the rounds counts. The
plain loop reads the same clip, runs SCRFD-500M at 640 and EdgeFace-XS on every face of every frame,
and compares with the same people: no tracks, no votes, no drawing.

  benchmarks/speed.py                 three rounds, edgeface_xs, two threads
  benchmarks/speed.py --model own --rounds 1
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.reference_scrfd import ReferenceScrfd  # noqa: E402
from engines import build, catalogue  # noqa: E402
from engines.backends.choose import open_network  # noqa: E402
from engines.embed import Embedder  # noqa: E402
from settings import load  # noqa: E402


def plain_loop(data: Path, clip: Path, threads: int) -> float:
    """Frames a second of the loop that people write first."""
    settings = load(ROOT / "config.yaml", ["threads={}".format(threads)])
    entry = catalogue.entry("edgeface_xs", "embedder", "embedder")
    embedder = Embedder(open_network(build.ensure("edgeface_xs", settings)["embedder"], settings), entry)
    detector = ReferenceScrfd(data / "models" / "scrfd" / "det_500m.onnx", threads=threads)
    people = np.eye(6, embedder.dimension, dtype=np.float32)
    capture, frames = cv2.VideoCapture(str(clip)), 0
    started = time.perf_counter()
    while True:
        more, image = capture.read()
        if not more:
            return frames / (time.perf_counter() - started)
        _, _, points = detector.detect(image)
        embeddings = embedder.embed_chips(embedder.chips(image, points.astype(np.float32)))
        (embeddings @ people.T).argmax(axis=1)
        frames += 1


def kiosk(data: Path, clip: Path, output: str, model: str, threads: int, folder: Path) -> float:
    """Frames a second of run_kiosk.py with the six people of the scene enrolled, as its statistics have it."""
    stats = folder / "stats.json"
    command = [sys.executable, str(ROOT / "run_kiosk.py"), str(clip), output, "--stats", str(stats)]
    for setting in (
        "embedder.model=" + model,
        "threads={}".format(threads),
        "gallery.database={}".format(folder / "gallery.db"),
        "gallery.photos={}".format(data / "video" / "friends_gallery"),
    ):
        command += ["--set", setting]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return float(json.loads(stats.read_text(encoding="utf-8"))["fps"])


def scaled(clip: Path, width: int, height: int, target: Path) -> Path:
    """`clip` at another size, losslessly enough, so that decoding costs the same as for a clip of that size."""
    capture = cv2.VideoCapture(str(clip))
    rate = capture.get(cv2.CAP_PROP_FPS)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    while True:
        more, image = capture.read()
        if not more:
            writer.release()
            return target
        writer.write(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared", help="folder with video/ and models/")
    parser.add_argument("--model", default="edgeface_xs", help="the kiosk's embedder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    video = options.data / "video"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        single = scaled(video / "single.mp4", 1280, 720, folder / "single.mp4")

        def ours(clip: Path, output: str = "headless") -> Callable[[], float]:
            return lambda: kiosk(options.data, clip, output, options.model, options.threads, folder)

        cases: Dict[str, Callable[[], float]] = {
            "plain loop, friends1": lambda: plain_loop(options.data, video / "friends1.mp4", options.threads),
            "kiosk, friends1": ours(video / "friends1.mp4"),
            "kiosk, friends1, drawn and recorded": ours(video / "friends1.mp4", str(folder / "out.mp4")),
            "kiosk, one face (single, 1280x720)": ours(single),
            "kiosk, 9-10 faces (mosaic_4shots)": ours(video / "mosaic_4shots.mp4"),
        }
        figures: Dict[str, List[float]] = {case: [] for case in cases}
        for _ in range(options.rounds):
            for case, run in cases.items():
                figures[case].append(run())
    middle = {case: statistics.median(values) for case, values in figures.items()}
    plain, _, _, one, many = middle.values()
    print("{:<38} {:>8} {:>16} {:>10}".format("", "fps", "(min - max)", "to plain"))
    for case, values in figures.items():
        spread = "({:.1f} - {:.1f})".format(min(values), max(values))
        print("{:<38} {:>8.1f} {:>16} {:>9.2f}x".format(case, middle[case], spread, middle[case] / plain))
    print("frame rate with 9-10 faces: {:.0f} % of that with one".format(100 * many / one))
    return 0


if __name__ == "__main__":
    sys.exit(main())
