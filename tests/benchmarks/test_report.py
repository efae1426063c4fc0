"""The report: one file that loads nothing, with the best figures marked."""
import re

import numpy as np

from benchmarks.report import Axis, Column, Report, chart, printed, sheet, table

COLUMNS = [Column("detector"), Column("AP %", "{:.1f}", "max"), Column("ms", "{:.0f}", "min")]
ROWS = [["one <b>", 81.25, 30.0], ["two", 75.5, 12.4], ["three", None, 50.0]]


def test_the_best_of_each_column_is_marked_and_names_are_escaped():
    drawn = table(COLUMNS, ROWS)
    assert re.findall(r'<td class="best">([^<]*)', drawn) == ["81.2", "12"]
    assert "one &lt;b&gt;" in drawn and "<td>–</td>" in drawn


def test_the_same_table_for_a_terminal():
    lines = printed(COLUMNS, ROWS).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["two", "75.5", "12"]


def test_a_line_goes_where_its_numbers_are():
    drawn = chart("title", Axis("x", 0, 1), Axis("y", 0, 1), [("line", np.array([0.0, 1.0]), np.array([0.0, 1.0]))])
    (points,) = re.findall(r'polyline points="([^"]*)"', drawn)
    (x1, y1), (x2, y2) = (tuple(map(float, pair.split(","))) for pair in points.split())
    assert x1 < x2 and y1 > y2  # up is up


def test_a_logarithmic_axis_has_equal_decades():
    axis = Axis("x", 1e-3, 1, True)
    assert np.allclose(axis.place(np.array([1e-3, 1e-2, 1e-1, 1.0])), [0, 1 / 3, 2 / 3, 1])
    assert [label for _, label in axis.ticks()] == ["0.001", "0.01", "0.1", "1"]


def test_the_file_stands_alone(tmp_path):
    report = Report("Accuracy", "of something")
    picture = np.full((40, 60, 3), 200, np.uint8)
    report.section("One", "text", table(COLUMNS, ROWS), sheet("wrong", [([picture, picture], "two people")]))
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page
    assert not re.search(r'(src|href)="(?!data:)', page) and "@import" not in page
