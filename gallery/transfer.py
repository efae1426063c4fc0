"""People between kiosks, and the whole gallery into a backup.

An export is a text file of JSON lines: a header, then one person a line with the embeddings as
base64 of little-endian float32. It carries what another kiosk needs to recognise, and no photos. A
backup is a database file like the kiosk's own, written beside it and moved into place when complete.
"""
import base64
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, TextIO, Tuple

import cv2
import numpy as np

from errors import GalleryError, UsageError
from gallery.database import MIGRATIONS, create
from gallery.records import Records, clean_name, unit

FORMAT = "face-kiosk-gallery"
VERSION = 1
TABLES = ("people", "photos", "embeddings", "chips", "ignored", "counters")  # in the order of their references
CHIP_SIDE = 1024  # pixels: more is no aligned face


def write_people(records: Records, out: TextIO, names: Sequence[str] = (), chips: bool = True) -> Tuple[int, int]:
    """Write `names` (default: everybody) to a text file. Returns how many people and embeddings."""
    everybody = {person.name: person for person in records.people("")}
    wanted = [clean_name(name) for name in names] or sorted(everybody)
    for name in wanted:
        records.find(name)
    out.write(json.dumps({"format": FORMAT, "version": VERSION, "people": len(wanted)}) + "\n")
    total = 0
    for name in wanted:
        rows = records.embeddings(name, chips)
        total += len(rows)
        line = {
            "name": name,
            "added": everybody[name].added,
            "embeddings": [
                {
                    "model": row.model,
                    "quality": row.quality,
                    "source": row.source,
                    "vector": base64.b64encode(row.vector.astype("<f4").tobytes()).decode(),
                    "chip": None if row.chip is None else base64.b64encode(row.chip).decode(),
                }
                for row in rows
            ],
        }
        out.write(json.dumps(line, ensure_ascii=False) + "\n")
    return len(wanted), total


def read_people(
    records: Records,
    lines: TextIO,
    origin: str,
    keep_chips: bool = True,
    told: Callable[[str], None] = lambda name: None,
) -> Dict[str, Any]:
    """Add the people of an export; one transaction a person, and `told` hears the name after it. People who
    are there already get the embeddings that they lack. Raises UsageError naming the line that is
    wrong; the people of the lines before it are stored."""
    header = _json(lines.readline(), origin, 1)
    if header.get("format") != FORMAT:
        raise UsageError("{}: is no export of a gallery; 'python -m gallery export' makes one.".format(origin))
    if header.get("version", 0) > VERSION:
        raise UsageError("{}: was exported by a newer kiosk; update this one.".format(origin))
    done: Dict[str, Any] = {"people": [], "added": 0, "known": 0}
    for number, text in enumerate(lines, 2):
        if not text.strip():
            continue
        name, added, known = _add_person(records, _json(text, origin, number), origin, number, keep_chips)
        told(name)
        done["people"].append(name)
        done["added"] += added
        done["known"] += known
    expected = header.get("people")
    if expected is not None and expected != len(done["people"]):
        raise UsageError(
            "{}: ends after {} of {} people, which are stored; copy the file again.".format(
                origin, len(done["people"]), expected
            )
        )
    return done


def backup(records: Records, target: Path) -> None:
    """Copy the whole gallery, as of one moment, to a new database file that only its owner reads.
    Raises UsageError when `target` exists, GalleryError when it cannot be written."""
    if target.exists():
        raise UsageError("{}: is there already; name a new file for the backup.".format(target))
    part = target.with_name(target.name + ".part")
    try:
        if part.exists():
            part.unlink()
        create(part)
        Records(part, records.clock).close()
        records.db.attach(part)
        try:
            with records.db.reading():
                for table in TABLES:
                    records.db.read("DELETE FROM copy.{}".format(table))
                    records.db.read("INSERT INTO copy.{0} SELECT * FROM main.{0}".format(table))
        finally:
            records.db.detach()
        os.replace(str(part), str(target))
    except OSError as error:
        raise GalleryError("{}: the backup cannot be written ({}).".format(target, error.strerror)) from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            left = Path(str(part) + suffix)
            if left.exists():
                left.unlink()


def _add_person(records: Records, line: Dict[str, Any], origin: str, number: int, keep: bool) -> Tuple[str, int, int]:
    try:
        name = clean_name(line["name"])
        entries = [_entry(item) for item in line["embeddings"]]
    except UsageError as error:
        raise UsageError("{}: line {}: {}".format(origin, number, error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError("{}: line {} is damaged ({}); copy the file again.".format(origin, number, error)) from error
    with records.db.transaction() as db:
        here = set()
        if db.read("SELECT 1 FROM people WHERE name = ?", [name]):
            here = {(row.model, row.vector.tobytes()) for row in records.embeddings(name)}
        added = 0
        for model, vector, quality, chip in entries:
            if (model, vector.tobytes()) in here:
                continue
            chips = None if chip is None or not keep else chip[np.newaxis]
            records.add(name, model, vector[np.newaxis], [quality], "import", chips)
            added += 1
    return name, added, len(entries) - added


def _entry(item: Dict[str, Any]) -> Tuple[str, np.ndarray, float, Optional[np.ndarray]]:
    vector = np.frombuffer(base64.b64decode(item["vector"], validate=True), "<f4").astype(np.float32)
    if not len(vector) or not unit(vector[np.newaxis]).all():
        raise ValueError("an embedding is not of unit length")
    if not item["model"] or not isinstance(item["model"], str):
        raise ValueError("an embedding without its model")
    chip = None
    if item.get("chip"):
        data = np.frombuffer(base64.b64decode(item["chip"], validate=True), np.uint8)
        chip = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if chip is None or max(chip.shape[:2]) > CHIP_SIDE:
            raise ValueError("a chip is no picture of an aligned face")
    return item["model"], vector, min(max(float(item["quality"]), 0.0), 1.0), chip


def _json(text: str, origin: str, number: int) -> Dict[str, Any]:
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    except ValueError:
        pass
    raise UsageError("{}: line {} is not what 'python -m gallery export' writes.".format(origin, number))


def unsound(records: Records) -> List[str]:
    """What is wrong with the database, one sentence each; [] when it is sound."""
    found = []
    for (text,) in records.db.read("PRAGMA integrity_check"):
        if text != "ok":
            found.append("SQLite: {}".format(text))
    for table, row, parent, _ in records.db.read("PRAGMA foreign_key_check"):
        found.append("{} row {} belongs to a row of {} that is gone.".format(table, row, parent))
    applied = {name for (name,) in records.db.read("SELECT name FROM migrations")}
    if applied != {migration.__name__ for migration in MIGRATIONS}:
        found.append("the tables are not those of this version.")
    sizes: Dict[str, int] = {}
    with records.db.reading():
        for chunk in records.db.chunks("SELECT id, model, vector FROM embeddings ORDER BY id", (), 4096):
            for number, model, blob in chunk:
                size = sizes.setdefault(model, len(blob))
                whole = len(blob) == size and size % 4 == 0 and size > 0
                if not whole or not unit(np.frombuffer(blob, np.float32)[np.newaxis])[0]:
                    found.append("embedding {} of {} is damaged.".format(number, model))
    return found
