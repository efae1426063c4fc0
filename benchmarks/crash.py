"""Kill a writing process again and again: is the database sound, and is everything there that was told?

    python -m benchmarks.crash [--kills 50] [--seed 1]

One database takes all of it. A child process enrols like the camera does (camera), enrols a folder of
photos (photos) or reads an export (import), says on its output what is stored, and gets SIGKILL at a
random moment. After each kill `python -m gallery check` must find the database sound, and everybody
who was told must be in it. Faces and embeddings are the test suite's drawn ones: what is tested is the storing.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Sequence

from gallery.photos import PhotoEnroller
from gallery.records import Records
from gallery.report import Result
from gallery.store import Gallery
from gallery.transfer import write_people
from settings import Settings

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("camera", "photos", "import")
PHOTOS = 400
LONGEST_S = 0.5  # from the first word of the child to its end


def _settings(work: Path) -> Settings:
    settings = Settings()
    settings.gallery.database = str(work / "gallery.db")
    settings.gallery.photos = str(work / "photos")
    return settings


def prepare(work: Path) -> None:
    """Photos to enrol."""
    from tests.doubles.recognizer import portrait

    for number in range(PHOTOS):
        portrait(work / "photos" / "photo{}".format(number) / "a.png", number % 12, 60, seed=number)


def exported(work: Path, first: int) -> Path:
    """An export of people whom no child before imported."""
    from tests.doubles.recognizer import FakeRecognizer, embedding

    fake = FakeRecognizer()
    folder = work / "export{}".format(first)
    with Gallery.open(_settings(folder), fake.model, fake.dimension, fake.threshold) as gallery:
        people = [("import{}".format(first + n), embedding(n % 12, n).reshape(1, -1)) for n in range(PHOTOS)]
        gallery.enroll_many([(name, rows, [1.0], "camera", None, None) for name, rows in people])
        with (folder / "people.jsonl").open("w", encoding="utf-8") as out:
            write_people(gallery.records, out)
    return folder / "people.jsonl"


def child(kind: str, work: Path, first: int) -> None:
    """Runs until it is killed; one line for each person that is stored."""
    from tests.doubles.recognizer import FakeRecognizer, embedding

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    if kind == "import":
        from gallery.__main__ import main as command

        people = exported(work, first)
        say("ready")
        while True:
            command(["--set", "gallery.database={}".format(work / "gallery.db"), "import", str(people)])
    fake = FakeRecognizer()
    settings = _settings(work)
    with Gallery.open(settings, fake.model, fake.dimension, fake.threshold) as gallery:
        say("ready")
        if kind == "photos":

            def told(result: Result) -> None:
                if result.outcome == "enrolled":
                    say("stored " + result.person)

            while True:
                PhotoEnroller(gallery, fake, settings, anyway=True).run(told=told)
                with gallery.records.db.transaction() as db:  # all were enrolled: begin anew with the photos' rows
                    db.write("UPDATE photos SET size = 0, hash = ''")
        number = first
        while True:
            name = "camera{}".format(number)
            gallery.enroll(name, embedding(number % 12, number).reshape(1, -1), [1.0], "camera")
            say("stored " + name)
            number += 1


def kill_once(kind: str, work: Path, first: int, after_s: float) -> List[str]:
    """Start a child, kill it `after_s` seconds after its first word; the people whom it told."""
    command = [sys.executable, "-m", "benchmarks.crash", "--child", kind, "--work", str(work), "--first", str(first)]
    process = subprocess.Popen(command, cwd=str(ROOT), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    lines = process.stdout.read().decode("utf-8").splitlines(True)
    process.stdout.close()
    if process.wait() != -signal.SIGKILL:
        raise SystemExit("the child ended by itself")
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [words[1] for words in whole if words and words[0] in ("stored", "imported")]


def missing(work: Path, told: Sequence[str]) -> List[str]:
    """People who were told and are not in the database with an embedding."""
    with Records(work / "gallery.db") as records:
        here = {person.name for person in records.people("fake") if person.embeddings}
    return [name for name in told if name not in here]


def check(work: Path) -> None:
    """Ends the run when `python -m gallery check` finds something."""
    command = [sys.executable, "-m", "gallery", "--set", "gallery.database={}".format(work / "gallery.db"), "check"]
    done = subprocess.run(command, cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit("the database is not sound:\n" + done.stdout.decode("utf-8"))


def run(work: Path, kills: int, seed: int, kinds: Sequence[str] = KINDS) -> Dict[str, int]:
    """Kill `kills` times, the kinds in turn. Raises SystemExit when anything is lost or damaged."""
    chance = random.Random(seed)
    prepare(work)
    told: List[str] = []
    counts = dict.fromkeys(kinds, 0)
    for number in range(kills):
        kind = kinds[number % len(kinds)]
        stored = kill_once(kind, work, 100000 * number, chance.uniform(0, LONGEST_S))
        counts[kind] += len(stored)
        told += stored
        check(work)
        lost = missing(work, told)
        if lost:
            raise SystemExit("after kill {} ({}) these were told and are not stored: {}".format(number, kind, lost[:5]))
    return counts


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.work, arguments.first)
        return
    with tempfile.TemporaryDirectory() as work:
        counts = run(Path(work), arguments.kills, arguments.seed)
        with Records(Path(work) / "gallery.db") as records:
            people = len(records.people("fake"))
    print(json.dumps({"kills": arguments.kills, "told": counts, "people": people, "lost": 0, "sound": True}))


if __name__ == "__main__":
    main()
