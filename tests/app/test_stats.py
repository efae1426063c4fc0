import json
import os
import stat

import numpy as np
import pytest

from app.stats import TRACKS_KEPT, Histogram, Stats
from errors import KioskError


class Clock:
    """Time that passes only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_nothing_happened():
    stats = Stats()
    figures = stats.as_dict()
    assert figures["frames"] == 0 and figures["fps"] == 0.0 and figures["seconds"] == 0.0
    assert figures["stages"] == {} and figures["people"] == {}
    assert "0 frames in 0.0 seconds" in stats.report()
    assert "nobody known was seen" in stats.report()


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_percentiles_are_within_one_percent_of_exact(spread):
    times = np.random.RandomState(3).lognormal(np.log(0.02), spread, 20000)
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    for percent in (1, 50, 95, 99):
        exact = np.sort(times)[int(np.ceil(len(times) * percent / 100.0)) - 1]
        assert histogram.percentile(percent) == pytest.approx(exact, rel=0.0101)
    assert histogram.longest == times.max()


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e-6, 0.5, 2000.0, 1e9])
def test_any_time_finds_a_bin(seconds):
    histogram = Histogram()
    histogram.add(seconds)
    assert histogram.longest == seconds
    assert histogram.percentile(50) == seconds  # one value is every percentile


def test_nearest_rank_of_few_values():
    histogram = Histogram()
    for seconds in (0.001, 0.010, 0.100):
        histogram.add(seconds)
    assert histogram.percentile(50) == pytest.approx(0.010, rel=0.01)
    assert histogram.percentile(99) == pytest.approx(0.100, rel=0.01)
    assert Histogram().percentile(50) == 0.0


def scene():
    """Ten frames, 40 ms apart; detection takes 10 ms; Zoë is in all, Bob in the last four."""
    clock = Clock()
    stats = Stats(clock)
    for index in range(10):
        with stats.stage("frame"):
            with stats.stage("detect"):
                clock.now += 0.010
            clock.now += 0.020
            stats.shown()
        stats.frame(["Zoë", "Bob"] if index > 5 else ["Zoë", "Zoë"], faces=3)
        clock.now += 0.010
    stats.dropped = 4
    return stats, clock


def test_figures_of_a_run():
    figures = scene()[0].as_dict()
    assert figures["frames"] == 10 and figures["faces"] == 30 and figures["dropped"] == 4
    assert figures["seconds"] == pytest.approx(0.39)
    assert figures["fps"] == pytest.approx(10 / 0.39, abs=0.01)
    assert figures["people"] == {"Bob": {"frames": 4}, "Zoë": {"frames": 10}}
    assert set(figures["stages"]) == {"frame", "detect"}
    assert set(figures["stages"]["detect"]) == {"p50_ms", "p95_ms", "p99_ms"}
    assert figures["stages"]["detect"]["p50_ms"] == pytest.approx(10, rel=0.01)
    assert figures["stages"]["frame"]["p99_ms"] == pytest.approx(30, rel=0.01)


def test_longest_gap_between_shown_pictures():
    stats, clock = scene()
    clock.now += 0.5
    stats.shown()
    figures = stats.as_dict()
    assert figures["longest_gap_ms"] == pytest.approx(510, abs=0.1)
    assert figures["median_gap_ms"] == pytest.approx(40, rel=0.01)


def test_one_picture_has_no_gap():
    stats = Stats()
    stats.shown()
    assert stats.as_dict()["longest_gap_ms"] == 0.0
    assert "gap" not in stats.report()


def test_live_rate_follows_a_change():
    clock = Clock()
    stats = Stats(clock)
    stats.frame()
    assert stats.fps == 0.0
    for _ in range(5):
        clock.now += 0.05
        stats.frame()
    assert stats.fps == pytest.approx(20)
    for _ in range(100):
        clock.now += 0.1
        stats.frame()
    assert stats.fps == pytest.approx(10, rel=0.02)


def test_a_stage_that_fails_is_timed_too():
    clock = Clock()
    stats = Stats(clock)
    with pytest.raises(ValueError), stats.stage("draw"):
        clock.now += 1
        raise ValueError
    assert stats.as_dict()["stages"]["draw"]["p50_ms"] == 1000


def test_unknown_tracks_are_those_that_never_had_a_name():
    stats = Stats()
    for name in (None, None, "Anna", None):
        stats.track(1, name)
        stats.track(2, None)
    stats.track(3, "Bob")
    assert stats.unknown_tracks == 1


def test_tracks_of_months_are_counted_but_not_kept():
    stats = Stats()
    stats.track(0, "Anna")
    for track in range(1, 3 * TRACKS_KEPT):
        stats.track(track, None)
        stats.track(0, None)  # stands there all the time
    assert stats.unknown_tracks == 3 * TRACKS_KEPT - 1
    assert len(stats._tracks) == TRACKS_KEPT


def test_report_is_aligned_and_sorted():
    lines = scene()[0].report().splitlines()
    assert lines[0] == "10 frames in 0.4 seconds = 25.6 frames a second"
    table = [line for line in lines if line.split()[0] in ("milliseconds", "frame", "detect")]
    assert [line.split()[0] for line in table] == ["milliseconds", "frame", "detect"]
    assert len({len(line) for line in table}) == 1
    people = lines[lines.index("people seen:") + 1 :]
    assert [line.split()[0] for line in people] == ["Zoë", "Bob"]
    assert len({len(line) for line in people}) == 1


def test_written_file_is_the_figures_in_utf8(tmp_path):
    stats = scene()[0]
    path = tmp_path / "stats.json"
    path.write_text("older and longer " * 1000)
    stats.write(path)
    raw = path.read_bytes().decode("utf-8")
    assert "Zoë" in raw
    assert json.loads(raw) == stats.as_dict()
    assert [entry.name for entry in tmp_path.iterdir()] == ["stats.json"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target.json")
    Stats().write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "target.json").read_text())["frames"] == 0


def test_a_device_is_written_to_and_not_replaced():
    Stats().write(os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("name", ["missing/stats.json", "folder", "file/stats.json"])
def test_what_cannot_be_written_is_one_sentence(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(KioskError, match="statistics cannot be written"):
        Stats().write(tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


def test_full_disk_leaves_the_old_file():
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with pytest.raises(KioskError, match="No space left"):
        Stats().write("/dev/full")
