#!/usr/bin/env python3
"""Our MTCNN beside facenet-pytorch's: the same weights, photos, threads and min face, in one run.

The two take turns, photo by photo and round by round, so that whatever else the machine does meets
both. Given are medians and the middle half of the rounds; reading the photo is not counted.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engines.detect.boxes import overlaps  # noqa: E402
from engines.detect.mtcnn import Mtcnn  # noqa: E402
from errors import KioskError, UsageError  # noqa: E402
from settings import Settings  # noqa: E402

PHOTOS = ["friends_stairs_1200x630", "friends_table_1280x886", "meeting5_1280x853", "bbt_sofa"]
GROUP = ROOT.parent / "shared" / "photos" / "group"
SAME = 0.5  # IoU from which two boxes are one face
PAUSE = 0.02  # seconds between two turns, so that the threads of the one are asleep when the other starts
SET_UP = """make the peer's environment first:
  python3 -m venv .venv-peers
  .venv-peers/bin/pip install torch==2.13.0
  .venv-peers/bin/pip install pillow numpy tqdm requests opencv-python-headless
  .venv-peers/bin/pip install --no-deps facenet-pytorch==2.6.0"""
EXAMPLES = """examples:
  .venv/bin/python benchmarks/detect.py
  .venv/bin/python benchmarks/detect.py --threads 1 --rounds 5 photo.jpg
  .venv/bin/python benchmarks/detect.py --min-face 80 --json detect.json

"""


class Peer:
    """The peer's process; a context manager."""

    def __init__(self, python):
        if not Path(python).exists():
            raise UsageError("{}: is not there; {}".format(python, SET_UP))
        script = str(ROOT / "benchmarks" / "peers" / "facenet_pytorch_mtcnn.py")
        self._process = subprocess.Popen(
            [str(python), script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True, bufsize=1
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def detect(self, photo, threads, min_face):
        """(milliseconds, boxes (N, 4)) of one photo."""
        found = self.ask(photo, threads, min_face)
        return found["ms"], np.array(found["boxes"], float).reshape(-1, 4)

    def ask(self, photo, threads, min_face, threshold=0.7):
        """The peer's answer for one photo: ms, boxes, scores, points."""
        question = {"photo": str(photo), "threads": threads, "min_face": min_face, "threshold": threshold}
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise KioskError("the peer ended; its message stands above.")
        return json.loads(answer)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES + SET_UP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="*", help="photos (default: four of ../shared/photos/group)")
    parser.add_argument("--threads", type=int, default=2, help="threads for either (default 2)")
    parser.add_argument("--min-face", type=int, default=40, help="pixels (default 40)")
    parser.add_argument("--rounds", type=int, default=15, help="turns that count, after two that do not (default 15)")
    parser.add_argument("--peer", default=str(ROOT / ".venv-peers" / "bin" / "python"), help="the peer's Python")
    parser.add_argument("--model", default="mtcnn", help="mtcnn (the same weights as the peer's) or mtcnn_own")
    parser.add_argument("--live", action="store_true", help="ours as in a live picture: shrunk in steps of two")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


def measure(detector, peer, path, options):
    """One row of the table: both timed in turns on one photo."""
    image = cv2.imread(str(path))
    if image is None:
        raise UsageError("{}: cannot be read as a picture.".format(path))
    ours, theirs = [], []
    for turn in range(options.rounds + 2):
        if sys.stderr.isatty():
            print("\r{}: turn {} of {}".format(path.name, turn + 1, options.rounds + 2), end="\x1b[K", file=sys.stderr)
        time.sleep(PAUSE)
        start = time.perf_counter()
        faces = (detector.search if options.live else detector.detect)(image)
        ours.append((time.perf_counter() - start) * 1e3)
        time.sleep(PAUSE)
        spent, boxes = peer.detect(path.resolve(), options.threads, options.min_face)
        theirs.append(spent)
    if sys.stderr.isatty():
        print("\r", end="\x1b[K", file=sys.stderr)
    overlap = overlaps(faces.boxes, boxes).reshape(faces.count, len(boxes))
    matched = overlap.max(axis=1, initial=0) >= SAME
    return {
        "photo": path.name,
        "ours_ms": np.percentile(ours[2:], [25, 50, 75]).tolist(),
        "peer_ms": np.percentile(theirs[2:], [25, 50, 75]).tolist(),
        "ratio": float(np.median(theirs[2:]) / np.median(ours[2:])),
        "ours_faces": faces.count,
        "peer_faces": len(boxes),
        "matched": int(matched.sum()),
        "mean_iou": float(overlap.max(axis=1, initial=0)[matched].mean()) if matched.any() else 0.0,
    }


def main():
    options = arguments()
    paths = [Path(photo) for photo in options.photos] or [GROUP / (name + ".jpg") for name in PHOTOS]
    settings = Settings(backend="onnx", threads=options.threads)
    settings.detector.model = options.model
    settings.detector.min_face = options.min_face
    cv2.setNumThreads(options.threads)
    rows = []
    with Peer(options.peer) as peer:
        detector = Mtcnn.from_settings(settings)
        print("{} threads, min face {}; milliseconds: median (middle half of {} turns)".format(
            options.threads, options.min_face, options.rounds))  # fmt: skip
        print("{:32} {:>20} {:>22} {:>6}  {}".format("photo", "ours", "facenet-pytorch", "ratio", "faces (mean IoU)"))
        for path in paths:
            row = measure(detector, peer, path, options)
            rows.append(row)
            low, middle, high = row["ours_ms"]
            peer_low, peer_middle, peer_high = row["peer_ms"]
            line = "{:32} {:6.1f} ({:5.1f}-{:5.1f}) {:7.1f} ({:6.1f}-{:6.1f}) {:5.1f}x  {} and {}, {} the same ({:.3f})"
            print(line.format(
                row["photo"], middle, low, high, peer_middle, peer_low, peer_high, row["ratio"],
                row["ours_faces"], row["peer_faces"], row["matched"], row["mean_iou"]))  # fmt: skip
        detector.close()
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except KioskError as error:
        sys.exit("detect.py: {}".format(error))
