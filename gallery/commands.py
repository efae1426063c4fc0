"""What each command of `python -m gallery` does: takes the arguments, gives lines, data and an exit code.

No command here opens a recognizer but `enroll`, and it is handed one. All of them work while the
kiosk runs: it notices within a second.
"""
import argparse
import io
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from errors import UsageError
from gallery import folder as photo_folder
from gallery import histogram, transfer
from gallery.calibrate import Cohort, Proposal, Stored, interval, propose
from gallery.database import create
from gallery.photos import Photo, PhotoEnroller, key_of
from gallery.reader import readable
from gallery.records import Records, clean_name
from gallery.report import Result
from gallery.store import Gallery
from settings import Settings

CAREFUL = 10  # photos: when all of so many are missing, the folder is more likely not mounted than emptied
UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Answer(NamedTuple):
    """`lines` for people, `data` for --json, `problems` for stderr; `code` is the exit code."""

    lines: List[str]
    data: Dict[str, Any]
    problems: List[str] = []
    code: int = 0


def show_list(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    people = records.people(settings.embedder.model)
    lines = ["{:<32} {:>10} {:>7}  {:<16}  {:<16}".format("name", "embeddings", "photos", "added", "last seen")]
    for one in people:
        lines.append(
            "{:<32} {:>10} {:>7}  {:<16}  {:<16}".format(
                one.name, one.embeddings, one.photos, _day(one.added), _day(one.last_seen) if one.last_seen else "never"
            )
        )
    blind = [one.name for one in people if not one.embeddings]
    problems = []
    if blind:
        problems = [
            "{}: not known to the model {}, which is in use; 'python -m gallery reembed' embeds what is kept.".format(
                ", ".join(blind), settings.embedder.model
            )
        ]
    data = [dict(one._asdict(), added=_iso(one.added), last_seen=_iso(one.last_seen)) for one in people]
    return Answer(lines if people else ["Nobody is enrolled yet."], {"people": data}, problems)


def show_person(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    name = clean_name(arguments.name)
    rows = records.embeddings(name, chips=True)
    person = next(one for one in records.people(settings.embedder.model) if one.name == name)
    photos = records.photos("person = ?", [name])
    results = [
        Result(row.path, row.person, row.outcome, row.reason, row.other, row.similarity, row.detail) for row in photos
    ]
    last = _day(person.last_seen) if person.last_seen else "never"
    lines = [name, "  added {}, last seen {}".format(_day(person.added), last)]
    for row in rows:
        where = " " + row.photo if row.photo else ""
        chip = "" if row.chip is None else ", chip kept"
        lines.append(
            "  embedding {} {} quality {:.2f} from {}{}, {}{}".format(
                row.id, row.model, row.quality, row.source, where, _day(row.added), chip
            )
        )
    lines += ["  " + result.line for result in results]
    data = {
        "name": name,
        "added": _iso(person.added),
        "last_seen": _iso(person.last_seen),
        "embeddings": [
            {
                "id": row.id,
                "model": row.model,
                "quality": row.quality,
                "source": row.source,
                "photo": row.photo,
                "added": _iso(row.added),
                "chip": row.chip is not None,
            }
            for row in rows
        ],
        "photos": [result.plain() for result in results],
    }
    return Answer(lines, data)


def enroll(gallery: Gallery, recognizer: Any, settings: Settings, arguments: argparse.Namespace) -> Answer:
    enroller = PhotoEnroller(gallery, recognizer, settings, arguments.anyway)
    photos: Optional[List[Photo]] = None
    if arguments.name is not None:
        name = clean_name(arguments.name)
        files = [file for given in arguments.photos for file in _given(Path(given))]
        if not files:
            raise UsageError("Name the photos of {}: enroll {} PHOTO...".format(name, name))
        photos = [Photo(name, file, key_of(file, enroller.folder), asked=True) for file in files]

    def tell(result: Result) -> None:  # printed as soon as it is stored: what was told survives a kill
        if not arguments.json and result.outcome != "unchanged":
            from tqdm import tqdm

            tqdm.write(result.line, file=sys.stdout)
            sys.stdout.flush()

    report = enroller.run(photos, progress=True, told=tell)
    code = 130 if report.interrupted else int(photos is not None and report.count("enrolled") < report.total)
    return Answer([report.summary()], report.plain(), [], code)


def rename(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    moves = photo_folder.rename(records, Path(settings.gallery.photos), arguments.old, arguments.new)
    line = "{} is now called {}".format(arguments.old, clean_name(arguments.new))
    return _scrubbed(records, _moved(line, moves))


def merge(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    moves = photo_folder.merge(records, Path(settings.gallery.photos), arguments.source, arguments.target)
    return _scrubbed(records, _moved("{} is part of {} now".format(arguments.source, arguments.target), moves))


def delete(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    folder = Path(settings.gallery.photos)
    files = photo_folder.photos_of(folder, arguments.name)
    if not files and not records.photos("person = ?", [clean_name(arguments.name)]):
        records.find(arguments.name)
    if files and not arguments.keep_photos:
        _sure("These photos of {} will be deleted:".format(arguments.name), files, arguments)
    done = photo_folder.delete(records, folder, arguments.name, arguments.keep_photos)
    lines = ["{} is deleted, with {} photos".format(arguments.name, len(done.deleted))]
    lines += ["kept: " + path for path in done.kept]
    data = {"deleted": clean_name(arguments.name), "photos": done.deleted, "kept": done.kept}
    return _scrubbed(records, Answer(lines, data, done.problems, int(bool(done.problems))))


def prune(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    folder = Path(settings.gallery.photos)
    missing = photo_folder.gone(records, folder)
    if missing and not folder.is_dir():
        raise UsageError("{}: the photo folder is not there, so nobody can tell what was removed.".format(folder))
    known = len({row.path for row in records.photos() if not os.path.isabs(row.path)})
    if len(missing) == known >= CAREFUL and not arguments.yes:
        raise UsageError("{}: all {} photos are gone; if that is meant, add --yes.".format(folder, known))
    forgotten = records.forget_photos(missing)
    lines = ["removed: {}".format(path) for path in missing]
    removed, problems = [], []  # type: List[str], List[str]
    if arguments.unseen:
        limit = records.clock() - _duration(arguments.unseen)
        people = [one for one in records.people("") if max(one.added, one.last_seen or 0) < limit]
        if people:
            files = [file for one in people for file in photo_folder.photos_of(folder, one.name)]
            names = ", ".join(one.name for one in people)
            _sure("Not seen for {}: {}. They will be deleted with these photos:".format(arguments.unseen, names), files,
                  arguments)  # fmt: skip
        for one in people:
            done = photo_folder.delete(records, folder, one.name, keep_photos=False)
            forgotten.append(one.name)
            removed += done.deleted
            problems += done.problems
    lines += ["deleted: {}".format(path) for path in removed]
    lines += ["forgotten: {}".format(name) for name in forgotten]
    data = {"removed": missing, "deleted": removed, "forgotten": forgotten}
    answer = Answer(lines or ["nothing to remove"], data, problems, int(bool(problems)))
    return _scrubbed(records, answer) if missing or forgotten else answer


def export(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    if arguments.file == "-":
        if arguments.json:
            raise UsageError("export - --json: both write to the standard output; export to a file.")
        out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="\n", write_through=True)
        transfer.write_people(records, out, arguments.people or (), not arguments.no_chips)
        out.detach()
        return Answer([], {})
    target = Path(arguments.file)
    try:
        part = target.with_name(target.name + ".part")
        if part.exists():
            part.unlink()
        create(part)  # readable by its owner only: faces are personal data
        try:
            with part.open("w", encoding="utf-8", newline="\n") as out:
                people, count = transfer.write_people(records, out, arguments.people or (), not arguments.no_chips)
            os.replace(str(part), str(target))
        finally:
            if part.exists():
                part.unlink()
    except OSError as error:
        raise UsageError("{}: cannot be written ({}).".format(target, error.strerror)) from error
    data = {"file": str(target), "people": people, "embeddings": count}
    return Answer(["{}: {} people with {} embeddings".format(target, people, count)], data)


def import_(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    try:
        with open(arguments.file, encoding="utf-8") as lines:
            done = transfer.read_people(records, lines, arguments.file, settings.gallery.keep_chips, _teller(arguments))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError("{}: cannot be read ({}).".format(arguments.file, reason)) from error
    line = "{} people: {} embeddings added, {} were here already".format(
        len(done["people"]), done["added"], done["known"]
    )
    return Answer([line], done)


def backup(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    target = Path(arguments.file)
    transfer.backup(records, target)
    size = target.stat().st_size
    return Answer(["{}: {:.1f} MB".format(target, size / 1e6)], {"file": str(target), "bytes": size})


def check(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    problems = transfer.unsound(records)
    if records.unscrubbed() and not records.db.read_only:
        left = records.db.scrub()
        problems += [left] if left else []
    notes = [records.db.problem] if records.db.problem else []
    if records.db.path.stat().st_mode & 0o077:
        notes.append("{0}: others can read it; 'chmod 600 {0}' ends that.".format(records.db.path))
    people = records.people(settings.embedder.model)
    rows = records.db.read("SELECT model, count(*) FROM embeddings GROUP BY model")
    models = dict(rows)
    blind = [one.name for one in people if not one.embeddings]
    if blind:
        notes.append("{}: not known to the model {}.".format(", ".join(blind), settings.embedder.model))
    counts = ", ".join("{} of {}".format(count, model) for model, count in sorted(models.items())) or "none"
    lines = ["{}: {}".format(records.db.path, "damaged" if problems else "sound")]
    lines += ["{} people; embeddings: {}".format(len(people), counts)] + ["note: " + note for note in notes]
    data = {"sound": not problems, "problems": problems, "notes": notes, "people": len(people), "embeddings": models}
    return Answer(lines, data, problems, int(bool(problems)))


def calibrate(records: Records, settings: Settings, arguments: argparse.Namespace) -> Answer:
    model = settings.embedder.model
    if arguments.forget:
        records.calibrate(model, None)
        return Answer(["The calibration of {} is forgotten; its own threshold counts again.".format(model)], {})
    cohort = Cohort.of(model)
    found = propose(records.samples(model), cohort, arguments.far)
    lines = ["{} people, {} pictures, known to {}; beside them {} faces of strangers".format(
        found.people, found.embeddings, model, cohort.faces)]  # fmt: skip
    lines += [""] + histogram.text(found) + [""] + _proposed(found)
    if not arguments.dry_run:
        stored = Stored(found.threshold, found.margin, found.wanted, found.people, found.embeddings, records.clock())
        records.calibrate(model, stored)
        lines.append("Stored; 'recognition.threshold: auto' uses it from the next start on.")
    if arguments.picture:
        try:
            Path(arguments.picture).write_text(histogram.svg(found, "Calibration of " + model), encoding="utf-8")
        except OSError as error:
            raise UsageError("{}: cannot be written ({}).".format(arguments.picture, error.strerror)) from error
    fields = ("threshold", "margin", "wanted", "named", "recognised", "people", "embeddings", "alike", "few", "bad")
    data = dict({name: getattr(found, name) for name in fields}, model=model, stored=not arguments.dry_run)
    return Answer(lines, data)


def _proposed(found: Proposal) -> List[str]:
    """What the measurement says, a line for each finding."""
    right, known = found.recognised
    low, high = interval(right, known)
    lines = [
        "threshold {:.3f}, margin {:.3f}".format(found.threshold, found.margin),
        "strangers named at one look: {:.2f} % (95 % sure: {:.2f} to {:.2f} %)".format(*(100 * r for r in found.named)),
    ]
    if known:
        message = "pictures recognised by the same person's others: {} of {} ({:.0f} to {:.0f} %)"
        lines.append(message.format(right, known, 100 * low, 100 * high))
    lines += ["alike: {} and {} ({:.2f}); more pictures of both help".format(*one) for one in found.alike]
    lines += ["few pictures: {} ({})".format(name, count) for name, count in found.few]
    lines += ["bad picture: {}, {}: {}".format(*one) for one in found.bad]
    return lines


COMMANDS: Dict[str, Callable[[Records, Settings, argparse.Namespace], Answer]] = {
    "list": show_list,
    "show": show_person,
    "rename": rename,
    "merge": merge,
    "delete": delete,
    "prune": prune,
    "export": export,
    "import": import_,
    "backup": backup,
    "check": check,
    "calibrate": calibrate,
}


def _scrubbed(records: Records, answer: Answer) -> Answer:
    """`answer`, after what was deleted has left the files, too; or saying that it could not yet."""
    left = records.db.scrub()
    if left is None:
        return answer._replace(data=dict(answer.data, scrubbed=True))
    return answer._replace(data=dict(answer.data, scrubbed=False), problems=answer.problems + [left], code=1)


def _moved(line: str, moves: List[Any]) -> Answer:
    lines = [line] + ["moved: {} -> {}".format(old, new) for old, new in moves]
    return Answer(lines, {"moved": [{"from": old, "to": new} for old, new in moves]})


def _given(path: Path) -> List[Path]:
    """A photo named on the command line, or all photos of a folder."""
    if path.is_dir():
        return [file for file in sorted(path.iterdir()) if readable(file) is None and file.is_file()]
    return [path]


def _sure(question: str, files: List[Path], arguments: argparse.Namespace) -> None:
    """Lists what goes; asks on a terminal unless --yes. A script that names the command means it."""
    print("\n".join([question] + ["  {}".format(file) for file in files]), file=sys.stderr)
    if arguments.yes or not sys.stdin.isatty():
        return
    print("Delete? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was deleted.")


def _teller(arguments: argparse.Namespace) -> Callable[[str], None]:
    def tell(name: str) -> None:
        if not arguments.json:
            print("imported  {}".format(name), flush=True)

    return tell


def _duration(text: str) -> float:
    """'90d' -> seconds. Raises UsageError."""
    match = re.match(r"^(\d+(?:\.\d+)?)([mhdw])$", text.strip())
    if not match:
        raise UsageError("--unseen {}: write a number and m, h, d or w, for example 90d.".format(text))
    return float(match.group(1)) * UNITS[match.group(2)]


def _iso(when: Optional[float]) -> Optional[str]:
    return None if when is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
