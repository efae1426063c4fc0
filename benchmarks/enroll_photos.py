"""A thousand photos from a folder into a new gallery: photos a second, and what became of each.

    python -m benchmarks.enroll_photos PHOTOS [--count 1000] [--set embedder.model=edgeface_xs]

PHOTOS holds pictures called NAME_0001.jpg (as LFW does); the first by name are copied into one folder
a person, as a user would lay them out. Copying is not timed, making the models ready neither. The
networks run on one thread, as in `python -m gallery enroll`.
"""
import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from engines.recognizer import Recognizer
from gallery.photos import PhotoEnroller
from gallery.store import Gallery
from settings import load


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    pictures = sorted(arguments.photos.glob("*.jpg"))[: arguments.count]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "photos"
        for picture in pictures:
            person = re.sub(r"_\d+$", "", picture.stem)
            (folder / person).mkdir(parents=True, exist_ok=True)
            shutil.copy(str(picture), str(folder / person / picture.name))
        places = ["gallery.database={}/gallery.db".format(work), "gallery.photos={}".format(folder)]
        settings = load("config.yaml", ["embedder.model=edgeface_xs", "threads=1", *places, *arguments.set])
        recognizer = Recognizer.from_settings(settings)
        gallery = Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold)
        with recognizer, gallery:
            before = time.process_time()
            report = PhotoEnroller(gallery, recognizer, settings).run(progress=True)
            cpu_s = time.process_time() - before
            started = time.perf_counter()
            again = PhotoEnroller(gallery, recognizer, settings).run()
            again_s = time.perf_counter() - started
            people = gallery.count
    rate = len(report.results) / report.seconds
    print(report.summary(), file=sys.stderr)
    for result in report.results:
        if result.reason == "looks_like":
            print("  " + result.line, file=sys.stderr)
    print("{:.1f} photos a second, {:.1f} ms of processor time a photo; {} people".format(
        rate, 1000 * cpu_s / len(pictures), people), file=sys.stderr)  # fmt: skip
    print("a second time: {} unchanged in {:.2f} s".format(again.count("unchanged"), again_s), file=sys.stderr)
    if arguments.json:
        data = report.plain()
        data.pop("photos")
        data.update(per_second=round(rate, 2), cpu_s=round(cpu_s, 1), people=people, again_s=round(again_s, 3))
        print(json.dumps(data))
    return int(len(report.results) != len(pictures))


if __name__ == "__main__":
    sys.exit(main())
