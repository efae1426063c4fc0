import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from app.events import GRACE_S, Events, Face, Lines, Tracks
from errors import KioskError

ROOT = Path(__file__).resolve().parent.parent.parent


def face(name, track=1, similarity=0.7, reason=None):
    return Face(track, (1.0, 2.0, 3.0, 4.0), name, similarity if name else None, reason)


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(path, scenes, **options):
    """Play (time, names) through an event log; its records."""
    events = Events(str(path), **options)
    for time, names in scenes:
        events.frame(time, [face(name) for name in names])
    events.close()
    return records(path)


def told(lines):
    return [(record["event"], record["name"], record["time"]) for record in lines]


def test_nobody_leaves_no_line(tmp_path):
    assert run(tmp_path / "e", [(0.0, []), (1.0, [None])]) == []


def test_arrive_and_leave_at_the_end(tmp_path):
    lines = run(tmp_path / "e", [(0.1 * index, ["Zoë"]) for index in range(21)])
    assert told(lines) == [("arrive", "Zoë", 0.0), ("leave", "Zoë", 2.0)]
    assert lines[1]["seconds"] == 2.0
    assert "seconds" not in lines[0]
    assert set(lines[0]) == {"time", "wall", "event", "name", "similarity", "track"}


def test_flicker_and_cuts_are_no_events(tmp_path):
    times = np.arange(0, 30, 0.1)
    scenes = [(t, ["Anna"] if int(t) % 4 == 0 else [None]) for t in times]  # away for three seconds each time
    assert told(run(tmp_path / "e", scenes)) == [("arrive", "Anna", 0.0), ("leave", "Anna", 29.9)]


def test_leaves_after_the_grace_and_comes_back(tmp_path):
    times = [0.5 * index for index in range(60)]
    scenes = [(t, ["Anna"] if t <= 2 or t >= 20 else []) for t in times]
    lines = run(tmp_path / "e", scenes)
    assert told(lines) == [
        ("arrive", "Anna", 0.0),
        ("leave", "Anna", 2 + GRACE_S + 0.5),
        ("arrive", "Anna", 20.0),
        ("leave", "Anna", 29.5),
    ]
    assert [line.get("seconds") for line in lines] == [None, 2.0, None, 9.5]


def test_a_gap_without_frames_is_an_absence(tmp_path):
    lines = run(tmp_path / "e", [(0.0, ["Anna"]), (3600.0, ["Anna"])])
    assert told(lines) == [
        ("arrive", "Anna", 0.0),
        ("leave", "Anna", 3600.0),
        ("arrive", "Anna", 3600.0),
        ("leave", "Anna", 3600.0),
    ]


def test_two_people_and_a_new_track(tmp_path):
    events = Events(str(tmp_path / "e"))
    events.frame(0.0, [face("Anna", track=1, similarity=0.61), face("Bob", track=2), face(None, track=3)])
    events.frame(1.0, [face("Anna", track=9, similarity=np.float32(0.5)), face("Bob", track=2)])
    events.close()
    lines = records(tmp_path / "e")
    assert [(line["event"], line["name"], line["track"]) for line in lines] == [
        ("arrive", "Anna", 1),
        ("arrive", "Bob", 2),
        ("leave", "Anna", 9),
        ("leave", "Bob", 2),
    ]
    assert lines[0]["similarity"] == 0.61 and lines[2]["similarity"] == 0.5


def test_wall_time_has_its_offset(tmp_path):
    moment = datetime(2024, 2, 29, 13, 5, 6, 789123, timezone(timedelta(hours=5, minutes=30)))
    lines = run(tmp_path / "e", [(0.0, ["Anna"])], now=lambda: moment)
    assert lines[0]["wall"] == "2024-02-29T13:05:06.789+05:30"
    lines = run(tmp_path / "other", [(0.0, ["Anna"])])
    assert lines[0]["wall"][-6] in "+-"


def test_a_restart_adds_to_the_file_and_heals_a_torn_line(tmp_path):
    path = tmp_path / "e"
    run(path, [(0.0, ["Anna"])])
    with path.open("a") as file:
        file.write('{"time": 1.0, "ev')
    events = Events(str(path))
    events.frame(0.0, [face("Bob")])
    events.close()
    lines = path.read_text().splitlines()
    assert len(lines) == 5
    assert [json.loads(line)["name"] for line in lines[:2] + lines[3:]] == ["Anna", "Anna", "Bob", "Bob"]


def test_each_line_is_there_at_once(tmp_path):
    events = Events(str(tmp_path / "e"))
    events.frame(0.0, [face("Anna")])
    assert told(records(tmp_path / "e")) == [("arrive", "Anna", 0.0)]
    events.close()
    events.close()


def test_tracks_have_one_line_for_each_frame(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("of the run before\n")
    tracks = Tracks(str(path))
    tracks.frame(0, 0.0, [])
    box = np.array([1.123456, -2, 3, 4], np.float32)
    zoe = Face(np.int64(7), box, "Zoë", np.float32(0.71239), None)
    tracks.frame(np.int64(1), np.float32(0.25), [zoe, face(None, 8, reason="too_dark")])
    tracks.close()
    assert records(path) == [
        {"frame": 0, "time": 0.0, "faces": []},
        {
            "frame": 1,
            "time": 0.25,
            "faces": [
                {"track": 7, "box": [1.12, -2.0, 3.0, 4.0], "name": "Zoë", "similarity": 0.7124, "reason": None},
                {"track": 8, "box": [1.0, 2.0, 3.0, 4.0], "name": None, "similarity": None, "reason": "too_dark"},
            ],
        },
    ]
    assert "Zoë" in path.read_text(encoding="utf-8")


def test_names_that_json_could_not_hold(tmp_path):
    with Lines(str(tmp_path / "l")) as lines:
        lines.write({"name": "An\udcffna", "value": np.float32(0.5), "values": np.arange(2)})
    assert records(tmp_path / "l") == [{"name": "An\udcffna", "value": 0.5, "values": [0, 1]}]


def test_full_disk_is_told_once_and_stops_nothing():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    said = []
    events = Events("/dev/full", say=said.append)
    for time in range(100):
        events.frame(10.0 * time, [face("Anna")])
    events.close()
    assert len(said) == 1
    assert said[0].startswith("/dev/full: lines are lost (No space left")


def test_a_line_cut_by_a_full_pipe_spoils_no_other(tmp_path):
    """A pipe that nobody empties takes part of a line; what comes later is whole again."""
    os.mkfifo(str(tmp_path / "pipe"))
    read = os.open(str(tmp_path / "pipe"), os.O_RDONLY | os.O_NONBLOCK)
    said = []
    lines = Lines(str(tmp_path / "pipe"), append=True, say=said.append)
    os.set_blocking(lines._file.fileno(), False)
    while not said:
        lines.write({"text": "x" * 7000})
    os.read(read, 1 << 20)
    lines.write({"after": True})
    lines.close()
    rest = b""
    while True:
        chunk = os.read(read, 1 << 16)
        if not chunk:
            break
        rest += chunk
    os.close(read)
    assert json.loads(rest.decode().splitlines()[-1]) == {"after": True}
    assert len(said) == 1


@pytest.mark.parametrize("name", ["missing/e", "."])
def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path, name):
    with pytest.raises(KioskError, match="cannot be written"):
        Events(str(tmp_path / name))


def play_to_stdout(environment, **pipes):
    """Events('-') in a process of its own, so that its standard output is a real one."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from app.events import Events, Face\n"
        "events = Events('-')\n"
        "sys.stdin.readline()\n"
        "for time in (0.0, 10.0): events.frame(time, [Face(1, (0, 0, 1, 1), 'Zo\\u00eb', 0.5, None)])\n"
        "events.close()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ, **environment),
    )


def test_standard_output_is_utf8_in_any_locale():
    process = play_to_stdout({"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    out, error = process.communicate(b"\n")
    assert process.returncode == 0, error
    assert [json.loads(line)["name"] for line in out.decode("utf-8").splitlines()] == ["Zoë"] * 4


def test_a_reader_that_went_away_is_told_once():
    process = play_to_stdout({})
    process.stdout.close()
    process.stdin.write(b"\n")
    process.stdin.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0
    assert error.strip() == "standard output: lines are lost (Broken pipe); the kiosk goes on."
