"""Whole runs of run_kiosk.py as a process: what a newcomer, a script and a clumsy user see."""
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import cv2
import pytest

from tests import ROOT, shared

PEOPLE = ("Barack Obama", "Eileen Collins")


def kiosk(folder: Path, *arguments: str, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    """Run the command with a gallery of its own in `folder`, without a camera and without a screen."""
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, str(ROOT / "run_kiosk.py")] + list(arguments)
    command += ["--set", "gallery.database={}".format(folder / "gallery.db")]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        universal_newlines=True, timeout=timeout, cwd=str(folder), env=environment,
    )  # fmt: skip


def lines(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def overlap(one: List[float], other: List[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared_area = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared_area / (areas - shared_area)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run of the demo, to its end: the process, its statistics, its tracks and its events."""
    folder = tmp_path_factory.mktemp("demo")
    files = ["--stats", "stats.json", "--tracks", "tracks.jsonl", "--events", "events.jsonl"]
    done = kiosk(folder, *files)  # no input named: there is no camera, so it is the demo
    assert done.returncode == 0, done.stderr
    stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
    return done, stats, lines(folder / "tracks.jsonl"), lines(folder / "events.jsonl")


def test_without_a_camera_and_a_screen_it_says_so_in_a_line_each_and_shows_the_demo(demo):
    done, stats, _, _ = demo
    told = done.stderr.splitlines()
    assert [line for line in told if "/dev/video0" in line and "demo" in line]
    assert [line for line in told if "Going on without pictures" in line]
    assert "Traceback" not in done.stderr
    assert "600 frames in" in done.stdout
    assert stats["frames"] == 600
    for key in ("seconds", "fps", "dropped", "longest_gap_ms", "unknown_tracks"):
        assert isinstance(stats[key], (int, float)), key
    assert set(stats["stages"]["detect"]) == {"p50_ms", "p95_ms", "p99_ms"}


def test_both_demo_people_are_named_for_most_of_their_frames_and_the_stranger_never(demo):
    _, stats, tracks, _ = demo
    seen = dict.fromkeys(PEOPLE, 0)
    named = dict.fromkeys(PEOPLE, 0)
    wrong = []
    for truth, found in zip(lines(ROOT / "demo" / "truth.jsonl"), tracks):
        assert truth["frame"] == found["frame"]
        for one in found["faces"]:  # whose face a box is: the one that it overlaps most
            owners = sorted((overlap(one["box"], face["box"]), face["name"]) for face in truth["faces"])
            if owners and owners[-1][0] > 0 and one["name"] not in (None, owners[-1][1]):
                wrong.append((found["frame"], owners[-1][1], one["name"]))
        for face in truth["faces"]:
            here = [one for one in found["faces"] if overlap(one["box"], face["box"]) > 0.3]
            large = face["box"][2] - face["box"][0] >= 40 and face["visible"] > 0.9
            if face["name"] in PEOPLE and large:
                seen[face["name"]] += 1
                named[face["name"]] += any(one["name"] == face["name"] for one in here)
    assert wrong == []
    for person in PEOPLE:
        assert named[person] >= 0.9 * seen[person], (person, named, seen)
        assert stats["people"][person]["frames"] >= named[person]
    assert set(stats["people"]) == set(PEOPLE)
    assert stats["unknown_tracks"] >= 1


def test_events_tell_who_came_and_left_without_repeats(demo):
    events = demo[3]
    for person in PEOPLE:
        kinds = [event["event"] for event in events if event["name"] == person]
        assert kinds and kinds == ["arrive", "leave"] * (len(kinds) // 2)
        assert len(kinds) <= 4


def test_the_same_file_gives_the_same_tracks_and_names(tmp_path):
    told = []
    for run in ("first", "second"):
        folder = tmp_path / run
        folder.mkdir()
        done = kiosk(folder, "demo", "headless", "--tracks", "tracks.jsonl", "--seconds", "6")
        assert done.returncode == 0, done.stderr
        told.append((folder / "tracks.jsonl").read_bytes())
    assert told[0] == told[1]
    assert b"Eileen Collins" in told[0]


def test_a_video_with_the_overlay_has_every_frame(tmp_path):
    done = kiosk(tmp_path, "demo", "named.mp4", "--seconds", "4")
    assert done.returncode == 0, done.stderr
    plain, drawn = cv2.VideoCapture(str(ROOT / "demo" / "clip.mp4")), cv2.VideoCapture(str(tmp_path / "named.mp4"))
    changed = []
    while True:
        more, picture = drawn.read()
        if not more:
            break
        changed.append(float((cv2.absdiff(picture, plain.read()[1]).max(axis=2) > 100).mean()))
    assert len(changed) == 100
    assert min(changed) > 0.001, "every frame has the count and the frame rate drawn into it"


def test_a_picture_is_named_at_one_look(tmp_path):
    portrait = ROOT / "demo" / "portraits" / "Barack Obama.jpg"
    photos = "gallery.photos={}".format(portrait.parent)
    done = kiosk(tmp_path, str(portrait), "headless", "--tracks", "tracks.jsonl", "--set", photos)
    assert done.returncode == 0, done.stderr
    assert [face["name"] for face in lines(tmp_path / "tracks.jsonl")[0]["faces"]] == ["Barack Obama"]


def test_a_folder_of_pictures_names_each_and_passes_over_what_is_no_picture(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in PEOPLE:
        (folder / (name + ".jpg")).write_bytes((ROOT / "demo" / "portraits" / (name + ".jpg")).read_bytes())
    (folder / "broken.jpg").write_bytes(b"this is text")
    photos = "gallery.photos={}".format(ROOT / "demo" / "portraits")
    done = kiosk(tmp_path, str(folder), "headless", "--tracks", "tracks.jsonl", "--set", photos)
    assert done.returncode == 0, done.stderr
    told = [[face["name"] for face in line["faces"]] for line in lines(tmp_path / "tracks.jsonl")]
    assert told == [[name] for name in PEOPLE]
    assert "broken.jpg" in done.stderr


@pytest.mark.parametrize(
    "arguments, code, sentence",
    [
        (["nowhere.mp4", "headless"], 1, "nowhere.mp4: there is no such file"),
        (["demo", "somewhere"], 2, "output 'somewhere'"),
        (["demo", "headless", "--set", "detector.minface=60"], 2, "did you mean detector.min_face?"),
        (["demo", "headless", "--set", "embedder.model=edgface_xs"], 2, "did you mean edgeface_xs?"),
        (["demo", "headless", "--set", "detector.min_face=small"], 2, "detector.min_face is 'small'"),
        (["demo", "headless", "--stats", "no/where/stats.json"], 2, "--stats no/where/stats.json"),
        (["demo", "headless", "--config", "none.yaml"], 2, "none.yaml: cannot be read"),
        (["ftp://door/1", "headless"], 2, "ftp://door/1: this input is not known"),
    ],
)
def test_wrong_use_gets_one_sentence_and_an_exit_code(tmp_path, arguments, code, sentence):
    done = kiosk(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert sentence in errors[0]
    assert "Traceback" not in done.stderr


def test_a_damaged_database_is_kept_and_said(tmp_path):
    database = tmp_path / "gallery.db"
    database.write_bytes(b"this was a gallery once" * 500)
    done = kiosk(tmp_path, "demo", "headless")
    assert done.returncode == 1
    assert str(database) in done.stderr and "Traceback" not in done.stderr
    assert database.read_bytes() == b"this was a gallery once" * 500


def test_help_has_examples():
    command = [sys.executable, str(ROOT / "run_kiosk.py"), "--help"]
    done = subprocess.run(command, stdout=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert done.returncode == 0
    assert "examples:" in done.stdout


def test_a_bigger_clip_runs_too(tmp_path):
    clip = shared("video/mosaic_4shots.mp4")
    done = kiosk(tmp_path, str(clip), "headless", "--tracks", "tracks.jsonl", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    assert max(len(line["faces"]) for line in lines(tmp_path / "tracks.jsonl")) >= 9
