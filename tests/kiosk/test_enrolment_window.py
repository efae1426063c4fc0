"""Somebody walks up, is enrolled at the window by hand, and is known from then on, also after a restart."""
import json
import subprocess
import sys

import cv2
import pytest

from app.capture import demo
from tests import ROOT
from tests.kiosk.window import start

NAME = "Zoë Quinn"  # a letter that the keyboard lacks, and the key that quits when no name is typed
WHO = "Eileen Collins"  # the first to walk up in the clip, alone until frame 215
LARGE_ENOUGH = 100  # pixels: from this size on she is enrolled
SAME_FACE = 0.3  # IoU of a track's box and the true one


def frames(path):
    """The whole lines of a --tracks file so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]


def overlap(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


def named_faces(lines):
    """(frame, name, whose face that really is) of every name in a --tracks file."""
    truth = demo.truth()
    found = []
    for line in lines:
        for face in line["faces"]:
            if face["name"] is not None:
                true = max(truth[line["frame"]], key=lambda one: overlap(one.box, face["box"]), default=None)
                same = true is not None and overlap(true.box, face["box"]) >= SAME_FACE
                found.append((line["frame"], face["name"], true.name if same else None))
    return found


def arguments(folder, output, tracks, *more):
    (folder / "photos").mkdir(exist_ok=True)
    return [
        str(demo.clip()), output,
        "--set", "gallery.database={}".format(folder / "gallery.db"),
        "--set", "gallery.photos={}".format(folder / "photos"),
        "--tracks", str(tracks), "--debug",
    ] + [str(one) for one in more]  # fmt: skip


@pytest.fixture(scope="module")
def walk_up():
    """The first frame in which she is large enough."""
    for index, faces in enumerate(demo.truth()):
        if any(face.name == WHO and face.size >= LARGE_ENOUGH for face in faces):
            return index
    return pytest.fail("nobody named {} walks up in the demo".format(WHO))


def test_n_name_enter_and_known_from_then_on(tmp_path, walk_up):
    tracks, figures = tmp_path / "tracks.jsonl", tmp_path / "stats.json"
    with start(arguments(tmp_path, "window", tracks, "--stats", figures), (1280, 720)) as kiosk:
        kiosk.wait_for(kiosk.has_window, what="a window")
        kiosk.wait_for(lambda: len(frames(tracks)) > walk_up, what="somebody who walks up")
        before = kiosk.screenshot(tmp_path / "before.png")
        kiosk.key("n")
        pressed = len(frames(tracks))
        kiosk.wait_for(lambda: len(frames(tracks)) >= pressed + 3, what="the clip going on after N")
        kiosk.type(NAME[:3])
        half_typed = len(frames(tracks))
        kiosk.wait_for(lambda: len(frames(tracks)) >= half_typed + 10, what="the clip going on while a name is typed")
        kiosk.type(NAME[3:])
        during = kiosk.screenshot(tmp_path / "during.png")
        kiosk.key("enter")
        kiosk.wait_for(lambda: len(named_faces(frames(tracks))) >= 20, what="her name on 20 frames")
        kiosk.screenshot(tmp_path / "after.png")
        kiosk.key("q")
        assert kiosk.wait() == 0, kiosk.errors
        report = kiosk.out

    assert cv2.absdiff(before, during).mean() > 1, "the picture stands still"
    lines = frames(tracks)
    assert len(lines) < len(demo.truth()), "the clip ended by itself, Q did nothing"
    found = named_faces(lines)
    assert {(name, who) for _, name, who in found} == {(NAME, WHO)}
    assert min(frame for frame, _, _ in found) >= pressed

    assert "frames a second" in report and "people seen" in report and NAME in report
    stats = json.loads(figures.read_text(encoding="utf-8"))
    assert stats["frames"] == len(lines)
    assert stats["people"] == {NAME: {"frames": len(found)}}
    assert stats["longest_gap_ms"] >= stats["median_gap_ms"] > 0
    assert {"frame", "detect"} <= set(stats["stages"])

    again = tmp_path / "again.jsonl"
    command = [sys.executable, str(ROOT / "run_kiosk.py")] + arguments(tmp_path, "headless", again, "--seconds", "8")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode()
    found = named_faces(frames(again))
    assert {(name, who) for _, name, who in found} == {(NAME, WHO)}
    assert len(found) >= 60, "known again in few frames only"


def test_escape_cancels_the_enrolment_and_then_quits(tmp_path, walk_up):
    tracks = tmp_path / "tracks.jsonl"
    with start(arguments(tmp_path, "window", tracks), (1280, 720)) as kiosk:
        kiosk.wait_for(kiosk.has_window, what="a window")
        kiosk.wait_for(lambda: len(frames(tracks)) > walk_up, what="somebody who walks up")
        kiosk.key("n")
        kiosk.type("Eve q")
        kiosk.key("escape")
        cancelled = len(frames(tracks))
        kiosk.wait_for(lambda: len(frames(tracks)) >= cancelled + 20, what="the clip going on")
        kiosk.key("escape")
        assert kiosk.wait() == 0, kiosk.errors
        assert "nobody known was seen" in kiosk.out
    assert named_faces(frames(tracks)) == []
