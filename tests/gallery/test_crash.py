from pathlib import Path

from benchmarks import crash


def test_a_killed_process_leaves_a_sound_database_with_all_that_it_told(tmp_path: Path) -> None:
    counts = crash.run(tmp_path, kills=6, seed=7)
    assert sum(counts.values()) > 0
