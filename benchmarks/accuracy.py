#!/usr/bin/env python3
"""How often the kiosk is right, in four measurements, beside what people use instead.

  verification    one person or two? 1,000 LFW development pairs, 10 folds; every embedder
  identification  who is it, or a stranger? people enrolled from three photos each; every embedder
  detection       faces found, by size, and false ones; every detector and its peers
  alignment       how far off the five points are; the same detectors
  wider           WIDER FACE easy, medium and hard, where its validation photos are at hand

Prints the tables and writes accuracy.json and accuracy.html (one file, with curves and what went
wrong as small pictures) into --out. Models are catalogue names; whatever is not at hand is left out.
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import alignment, detection, identification, measures, report, verification  # noqa: E402
from benchmarks.detectors import PEER_PYTHON, SHARED, USUAL, at_hand, megabytes, open_named  # noqa: E402
from benchmarks.report import Axis, Column, Report, chart, charts, printed, sheet, table  # noqa: E402
from engines import catalogue  # noqa: E402
from engines.recognizer import Recognizer  # noqa: E402
from errors import UsageError, guarded  # noqa: E402
from gallery.calibrate import MARGIN, Cohort  # noqa: E402
from settings import Settings, load  # noqa: E402

KINDS = ("verification", "identification", "detection", "alignment")
NEEDS = {"verification": "an embedder", "identification": "an embedder",
         "detection": "a detector", "alignment": "a detector", "wider": "a detector"}  # fmt: skip
LOW = 0.05  # score down to which detectors answer for their curves
FAILURES = 12  # pictures in a contact sheet
EXAMPLES = """examples:
  benchmarks/accuracy.py all                               everything that is at hand: half an hour on two cores
  benchmarks/accuracy.py verification --models own edgeface_xs
  benchmarks/accuracy.py detection --models mtcnn scrfd_500m yunet --limit 20
  benchmarks/accuracy.py identification --people photos/ --strangers others/ --photos 2
  benchmarks/accuracy.py wider --models scrfd_500m --images WIDER_val/images
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="+", choices=(*KINDS, "wider", "all"), metavar="WHAT", help=", ".join(KINDS) + ", wider or all"
    )
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="catalogue names and peers (yunet, facenet-pytorch)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="so many pairs, strangers or photos, to try it")
    parser.add_argument("--threads", type=int, default=2, help="for the networks (default: 2)")
    parser.add_argument(
        "--out", type=Path, default=Path("."), metavar="FOLDER", help="for accuracy.json and .html (default: here)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="no photo of anybody in the report")
    parser.add_argument("--pairs", type=Path, default=SHARED / "lfw_dev", metavar="FOLDER", help="with pairs.csv")
    parser.add_argument("--aligned", action="store_true", help="its pictures are aligned faces already")
    parser.add_argument(
        "--people", type=Path, default=SHARED / "photos" / "portraits", metavar="FOLDER", help="one folder each"
    )
    parser.add_argument("--strangers", type=Path, default=SHARED / "photos" / "strangers", metavar="FOLDER")
    parser.add_argument("--photos", type=int, default=3, metavar="N", help="enrolled of each person (default: 3)")
    parser.add_argument(
        "--detection", type=Path, default=SHARED / "detection", metavar="FOLDER", help="with annotations.jsonl"
    )
    parser.add_argument(
        "--dlib", type=Path, default=SHARED / "photos" / "dlib_faces", metavar="FOLDER", help="with annotations.json"
    )
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="WIDER FACE's validation photos")
    parser.add_argument("--min-face", type=int, default=10, metavar="PIXELS", help="in detection (default: 10)")
    parser.add_argument(
        "--models-dir", type=Path, default=SHARED / "models", metavar="FOLDER", help="where model files are"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of config.yaml")
    return parser.parse_args()


class Bench:
    """One run: what was asked for, the report, and the figures for the JSON."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        changes = ["threads={}".format(options.threads)]
        self.settings: Settings = load(ROOT / "config.yaml", changes + options.set)
        self._named = {
            "an embedder": self._names("embedder", []),
            "a detector": self._names("detector", list(USUAL)),
        }
        self.figures: Dict[str, Any] = {"machine": report.machine(options.threads)}
        subtitle = "Measured by benchmarks/accuracy.py; {}".format(self.figures["machine"])
        self.report = Report("Accuracy of the face recognition kiosk", subtitle)

    def run(self, what: Sequence[str]) -> None:
        for kind in KINDS if "all" in what else what:
            if self._named[NEEDS[kind]]:
                getattr(self, "measure_" + kind)()
            else:
                print("left out: {} (it takes a model that is {})".format(kind, NEEDS[kind]), file=sys.stderr)

    def write(self) -> None:
        self.options.out.mkdir(parents=True, exist_ok=True)
        target = self.options.out / "accuracy"
        target.with_suffix(".json").write_text(json.dumps(self.figures, indent=1) + "\n", encoding="utf-8")
        self.report.write(target.with_suffix(".html"))
        print("\nwritten: {0}.json, {0}.html".format(target))

    def tell(self, kind: str, title: str, text: str, columns: List[Column], rows: List[List[Any]], *parts: str) -> None:
        """One measurement: on the terminal, into the JSON and into the report."""
        print("\n{}\n{}".format(title, printed(columns, rows)), flush=True)
        names = [column.name for column in columns]
        self.figures[kind] = {row[0]: dict(zip(names[1:], row[1:])) for row in rows}
        self.report.section(title, text, table(columns, rows), *parts)

    def _names(self, kind: str, peers: List[str]) -> List[str]:
        """The models of --models that are of this kind; by default all that are at hand, with the peers."""
        known = catalogue.names(kind) + peers
        if self.options.models:
            both = catalogue.names("detector") + catalogue.names("embedder") + list(USUAL)
            for name in self.options.models:
                if name not in both:
                    raise UsageError("--models: there is no '{}'; choose from {}.".format(name, ", ".join(both)))
            return [name for name in self.options.models if name in known]
        found = at_hand(kind, self.options.models_dir) + peers
        for name in [name for name in known if name not in found]:
            print("left out: {} (its file is not at hand)".format(name), file=sys.stderr)
        if "facenet-pytorch" in found and not PEER_PYTHON.exists():
            print("left out: facenet-pytorch (no .venv-peers; see benchmarks/detect.py --help)", file=sys.stderr)
            found.remove("facenet-pytorch")
        return found

    # ---- embedders ----------------------------------------------------------------------------
    def measure_verification(self) -> None:
        options = self.options
        pairs = verification.read_pairs(options.pairs, options.limit)
        embedders = verification.open_embedders(self._named["an embedder"], self.settings)
        judged = verification.measure(options.pairs, pairs, embedders, self.settings, options.aligned)
        columns = [Column("embedder"), Column("accuracy %", "{:.2f}", "max"), Column("± error", "{:.2f}"),
                   Column("TAR % at FAR 1e-2", "{:.1f}", "max"), Column("TAR % at FAR 1e-3", "{:.1f}", "max"),
                   Column("AUC", "{:.4f}", "max"), Column("EER %", "{:.2f}", "min"), Column("threshold", "{:.3f}"),
                   Column("no face"), Column("ms a face", "{:.1f}", "min"), Column("MB", "{:.1f}", "min")]  # fmt: skip
        rows = []
        for name, one in judged.items():
            figures = one.figures
            percent = [figures.accuracy, figures.error, *figures.tar, figures.auc / 100, figures.eer]
            row = [name, *(100 * share for share in percent), figures.threshold]
            rows.append([*row, one.missing, one.ms, megabytes(name)])
        same = np.array([pair[2] for pair in pairs])
        curves = [(name, *measures.roc(one.scores, same)) for name, one in judged.items()]
        drawn = chart("ROC: true accepts by false accepts", Axis("false-accept rate", 1e-3, 1, True),
                      Axis("true-accept rate", 0.9, 1), curves)  # fmt: skip
        text = (
            "{} pairs of photos, half of them of one person, the whole pipeline, 10 folds: each is judged by the "
            "threshold that is best on the other nine. With {} false pairs, a FAR of 1e-3 is decided by the first."
        )
        self.tell("verification", "Verification: one person or two?", text.format(len(pairs), int((~same).sum())),
                  columns, rows, charts(drawn), self._wrong_pairs(pairs, judged))  # fmt: skip

    def _wrong_pairs(self, pairs: Sequence[verification.Pair], judged: Dict[str, verification.Judged]) -> str:
        """The pairs that the best embedder gets most wrong."""
        name = max(judged, key=lambda one: judged[one].figures.accuracy)
        one = judged[name]
        lack = np.where(
            [pair[2] for pair in pairs], one.figures.threshold - one.scores, one.scores - one.figures.threshold
        )
        worst = [int(at) for at in np.argsort(-lack)[:FAILURES] if lack[at] > 0]
        if self.options.no_pictures:
            return ""
        pictures = []
        for at in worst:
            first, second, same = pairs[at]
            group = [np.asarray(cv2.imread(str(self.options.pairs / path))) for path in (first, second)]
            kind = "one person" if same else "two people"
            line = "{}, similarity {:.2f}: {} / {}".format(kind, one.scores[at], Path(first).stem, Path(second).stem)
            pictures.append((group, line))
        return sheet("What {} gets wrong (threshold {:.2f})".format(name, one.figures.threshold), pictures)

    def measure_identification(self) -> None:
        options = self.options
        counted = ["known named", "wrongly", "strangers named"]
        columns = [Column("embedder"), Column("DIR % at FAR 1 %", "{:.1f}", "max")]
        columns += [Column("model's threshold", "{:.3f}"), *(Column(one) for one in counted)]
        columns += [Column("calibrated threshold", "{:.3f}")]
        columns += [Column(one + ", calibrated") for one in counted]
        rows: List[List[Any]] = []
        curves, misses, looks = [], [], {}
        for name in self._named["an embedder"]:
            own = dataclasses.replace(self.settings, embedder=dataclasses.replace(self.settings.embedder, model=name))
            try:
                cohort = Cohort.of(name)
            except UsageError as error:
                print("{}: not calibrated ({})".format(name, error), file=sys.stderr)
                cohort = None
            with Recognizer.from_settings(own) as recognizer:
                found = identification.measure(
                    options.people, options.strangers, recognizer, own, options.photos, 0.01, options.limit, cohort
                )
            threshold, looks[name] = recognizer.threshold, found
            right = np.array([look.match.person == look.person for look in found.known])
            curve = measures.identification(identification.similarities(found.known), right,
                                            identification.similarities(found.strangers))  # fmt: skip
            curves.append((name, *curve))
            misses.append((name, *_misnaming(found)))
            row = [name, 100 * measures.rate_at(curve, 0.01), threshold, *_counts(found, threshold, MARGIN)]
            if found.proposal:
                row += [found.proposal.threshold, *_counts(found, found.proposal.threshold, found.proposal.margin)]
            else:
                row += [None] * 4
            rows.append(row)
        drawn = [
            chart("Right names by false alarms", Axis("strangers named (FAR)", 0.005, 1, True),
                  Axis("known people named rightly (DIR)", 0.8, 1), curves),
            chart("Strangers named by threshold", Axis("threshold", 0.1, 0.5),
                  Axis("share of strangers", 0, 0.5), misses),
        ]  # fmt: skip
        first = looks[rows[0][0]]
        text = (
            "{} pictures of {} people enrolled ({} of each asked for), {} other pictures of them and {} strangers, one "
            "picture each. Calibrated: python -m gallery calibrate, which does not see the strangers."
        )
        people = len({look.person for look in first.known})
        text = text.format(first.enrolled, people, options.photos, len(first.known), len(first.strangers))
        self.tell("identification", "Identification: who is it, or a stranger?", text, columns, rows, charts(*drawn),
                  self._wrong_looks(rows[0][0], first))  # fmt: skip

    def _wrong_looks(self, name: str, found: identification.Identification) -> str:
        if self.options.no_pictures or found.proposal is None:
            return ""
        threshold, margin = found.proposal.threshold, found.proposal.margin
        wrong = [look for look in found.looks if look.named(threshold, margin) != look.person]
        pictures = [
            ([np.asarray(cv2.imread(str(look.photo)))], "{}: nearest {} ({:.2f})".format(
                look.person or "stranger", look.match.person, look.match.similarity))
            for look in wrong[:FAILURES]
        ]  # fmt: skip
        return sheet(
            "Not named, or wrongly, by {} at its calibrated threshold {:.2f}".format(name, threshold), pictures
        )

    # ---- detectors ----------------------------------------------------------------------------
    def measure_detection(self) -> None:
        options = self.options
        photos = detection.read_photos(options.detection, "val", options.limit)
        street = _large_picture()
        sizes = [detection.label(size) for size in detection.SIZES]
        columns = [Column("detector"), Column("AP %", "{:.1f}", "max")]
        columns += [
            Column("recall % at {:g} false a photo".format(rate), "{:.1f}", "max") for rate in detection.FALSE_PER_PHOTO
        ]
        columns += [Column("recall % " + size, "{:.0f}", "max") for size in [*sizes, "all"]]
        columns += [
            Column("false faces"),
            Column("ms", "{:.0f}", "min"),
            Column("ms 1280x720", "{:.0f}", "min"),
            Column("MB", "{:.1f}", "min"),
        ]
        rows: List[List[Any]] = []
        curves, missed = [], {}
        for name in self._named["a detector"]:
            how = (name, options.models_dir, options.set, options.threads)
            with open_named(*how, options.min_face, LOW) as wide, open_named(*how, options.min_face) as usual:
                one = detection.measure(photos, wide, usual)
                files = usual.megabytes
            with open_named(*how, 40) as daily:
                large = _median_time(daily, street)
            recall = [100 * one.recall[size] for size in [*sizes, "all"]]
            rows.append(
                [name, 100 * one.ap, *(100 * rate for rate in one.recall_at), *recall, one.false, one.ms, large, files]
            )
            curves.append((name, *measures.precision_recall(one.judged)))
            missed[name] = one.misses
        drawn = chart("Precision by recall", Axis("recall", 0, 1), Axis("precision", 0.5, 1), curves)
        text = (
            "{} photos with {} faces that count, boxes by human hand, IoU {} or more; faces from {} pixels on are "
            "looked for. Recall by size (pixels, shorter side) and false faces are at the score that each detector is "
            "used at; 1280x720: a photo of that size, faces from 40 pixels on."
        )
        faces = sum(int((~photo.ignored).sum()) for photo in photos)
        text = text.format(len(photos), faces, detection.OVERLAP, options.min_face)
        self.tell("detection", "Detection: which faces are found?", text, columns, rows, charts(drawn),
                  self._missed(rows[0][0], photos, missed[rows[0][0]]))  # fmt: skip

    def _missed(self, name: str, photos: List[detection.Photo], misses: List[Tuple[str, np.ndarray]]) -> str:
        if self.options.no_pictures:
            return ""
        images = {photo.name: photo.image for photo in photos}
        largest = sorted(misses, key=lambda one: -np.prod(one[1][2:] - one[1][:2]))[:FAILURES]
        pictures = []
        for photo, box in largest:
            image, side = images[photo], float(max(box[2:] - box[:2]))
            x, y = (box[:2] + box[2:]) / 2
            part = image[max(0, int(y - side)) : int(y + side) + 1, max(0, int(x - side)) : int(x + side) + 1]
            pictures.append(([part], "{}, {:.0f} px".format(photo, side)))
        return sheet("The largest faces that {} missed".format(name), pictures)

    def measure_alignment(self) -> None:
        options = self.options
        sets = [("by hand", alignment.human(detection.read_photos(options.detection, "val", options.limit))),
                ("dlib's", alignment.read_dlib(options.dlib)[: options.limit])]  # fmt: skip
        columns = [Column("detector")]
        for label, _ in sets:
            columns += [
                Column("median %, " + label, "{:.1f}", "min"),
                Column("90th percentile %, " + label, "{:.1f}", "min"),
                Column("found, " + label),
            ]
        rows = []
        for name in self._named["a detector"]:
            row: List[Any] = [name]
            with open_named(name, options.models_dir, options.set, options.threads, 20) as detector:
                for _, pictures in sets:
                    one = alignment.measure(pictures, detector)
                    row += [100 * one.median, 100 * one.p90, "{} of {}".format(one.found, one.faces)]
            rows.append(row)
        text = (
            "How far a detector's five points are from those set by hand (old grey scans of the CMU+MIT set) and from "
            "those of dlib's 68-point model (nine photos), in % of the distance of the eyes."
        )
        self.tell("alignment", "Alignment: how far off are the five points?", text, columns, rows)

    def measure_wider(self) -> None:
        options = self.options
        if options.images is None:
            raise UsageError("wider: name the folder of WIDER FACE's validation photos with --images.")
        columns = [Column("detector"), *(Column(one + " AP %", "{:.1f}", "max") for one in ("easy", "medium", "hard"))]
        rows = []
        for name in self._named["a detector"]:
            how = (name, options.models_dir, options.set, options.threads, options.min_face)
            with open_named(*how, 0.02) as detector:
                found = detection.measure_wider(options.images, options.detection / "wider", detector, options.limit)
            rows.append([name, *(100 * found[one] for one in ("easy", "medium", "hard"))])
        self.tell("wider", "WIDER FACE", "The official protocol on its validation photos.", columns, rows)


def _counts(found: identification.Identification, threshold: float, margin: float) -> List[Any]:
    return ["{} of {}".format(found.right(threshold, margin), len(found.known)), found.wrong(threshold, margin),
            "{} of {}".format(found.misnamed(threshold, margin), len(found.strangers))]  # fmt: skip


def _misnaming(found: identification.Identification) -> Tuple[np.ndarray, np.ndarray]:
    """Share of strangers who are named, by threshold."""
    thresholds = np.linspace(0.1, 0.5, 81)
    best = identification.similarities(found.strangers)
    return thresholds, np.array([(best >= one).mean() for one in thresholds])


def _large_picture() -> np.ndarray:
    path = SHARED / "photos" / "group" / "meeting5_1280x853.jpg"
    image = cv2.imread(str(path))
    if image is None:
        raise UsageError("{}: is not there; the time at 1280x720 is taken on it.".format(path))
    return np.ascontiguousarray(image[:720])


def _median_time(detector: Any, image: np.ndarray, rounds: int = 7) -> float:
    times = []
    for _ in range(rounds):
        detector.detect(image)
        times.append(detector.ms)
    return float(np.median(times[1:]))


def main() -> int:
    options = arguments()
    os.environ.setdefault("KIOSK_MODELS", str(options.models_dir))
    cv2.setNumThreads(options.threads)
    bench = Bench(options)
    try:
        bench.run(options.what)
    except KeyboardInterrupt:
        print("interrupted; what was measured before is written.", file=sys.stderr)
    bench.write()
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
