"""A report in one HTML file: sentences, tables, curves and small pictures, nothing loaded from anywhere."""

import base64
import platform
import time
from html import escape
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

COLOURS = ("#2f6f8f", "#c0562f", "#4c8f4f", "#8a5a9e", "#b38a1d", "#3b4a8c", "#9c3d5e", "#5b7f86", "#777777")
DASHES = ("", "6 3", "2 3")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 544, 370, 58, 16, 16, 52
MOST_POINTS = 400
THUMB = 112  # pixels
STYLE = """
:root { color-scheme: light; --ink: #1f2a30; --soft: #5d6b73; --line: #dfe5e8; --accent: #2f6f8f; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; color: var(--ink);
       background: #f4f6f7; margin: 0; }
main { max-width: 1220px; margin: 0 auto; padding: 40px 28px 80px; }
header p, section > p, figcaption { color: var(--soft); }
h1 { font-size: 30px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 21px; margin: 0 0 6px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 24px 26px;
          margin-top: 26px; }
section > p { margin: 0 0 16px; max-width: 78ch; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 15px; font-variant-numeric: tabular-nums; margin: 6px 0 20px; }
th { font-weight: 600; color: var(--soft); border-bottom: 2px solid var(--line); }
th, td { padding: 7px 11px; text-align: right; white-space: nowrap; }
th { white-space: normal; min-width: 66px; max-width: 108px;
     vertical-align: bottom; line-height: 1.25; font-size: 14px; }
th:first-child, td:first-child { text-align: left; padding-left: 2px; }
tbody tr + tr td { border-top: 1px solid var(--line); }
td.best { font-weight: 650; color: var(--accent); }
.key { display: inline-block; margin-right: 14px; }
.charts { display: flex; flex-wrap: wrap; gap: 18px; }
figure { margin: 0; }
figcaption { font-size: 14px; margin: 2px 0 8px; }
.sheet { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 10px; }
.sheet img { height: 112px; border-radius: 4px; display: block; }
.sheet figcaption { font-size: 12px; max-width: 230px; margin-top: 3px; }
"""


class Column(NamedTuple):
    """`best` max or min: that value is marked; `form` a format for numbers."""

    name: str
    form: str = "{}"
    best: Optional[str] = None


class Report:
    """Sections are added in order; `write` puts them into one file."""

    def __init__(self, title: str, subtitle: str) -> None:
        self._parts = ["<header><h1>{}</h1><p>{}</p></header>".format(escape(title), escape(subtitle))]

    def section(self, title: str, text: str, *parts: str) -> None:
        """`parts` are tables, charts and sheets of this module."""
        self._parts.append(
            "<section><h2>{}</h2><p>{}</p>{}</section>".format(escape(title), escape(text), "".join(parts))
        )

    def write(self, path: Path) -> None:
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            'content="width=device-width"><title>Accuracy</title><style>{}</style></head><body><main>{}</main></body></html>\n'
        )
        path.write_text(page.format(STYLE, "".join(self._parts)), encoding="utf-8")


def machine(threads: int) -> str:
    """Where and when the figures were taken, in a line."""
    import onnxruntime

    return "{}, {} threads, ONNX Runtime {}, OpenCV {}, Python {}; {}".format(
        processor(), threads, onnxruntime.__version__, cv2.__version__, platform.python_version(),
        time.strftime("%Y-%m-%d %H:%M", time.localtime()),
    )  # fmt: skip


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.machine()


def table(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> str:
    """The best number of a column is set in bold; None is a dash."""
    best = []
    for at, column in enumerate(columns):
        numbers = [row[at] for row in rows if isinstance(row[at], (int, float))]
        pick = {"max": max, "min": min}.get(column.best or "")
        best.append(pick(numbers) if pick and len(numbers) > 1 else None)
    head = "".join("<th>{}</th>".format(escape(column.name)) for column in columns)
    body = "".join("<tr>{}</tr>".format("".join(_cell(*one) for one in zip(columns, row, best))) for row in rows)
    return '<div class="wide"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'.format(head, body)


def _cell(column: Column, value: Any, best: Any) -> str:
    mark = ' class="best"' if best is not None and value == best else ""
    return "<td{}>{}</td>".format(mark, escape(shown(column, value)))


def shown(column: Column, value: Any) -> str:
    if value is None:
        return "–"
    return column.form.format(value) if isinstance(value, (int, float)) else str(value)


def printed(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> str:
    """The same table for a terminal."""
    cells = [[column.name for column in columns]] + [[shown(*one) for one in zip(columns, row)] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not at else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths))
        )
        for row in cells
    )


class Axis(NamedTuple):
    label: str
    low: float
    high: float
    log: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """0..1 along the axis."""
        low, high = (np.log10(self.low), np.log10(self.high)) if self.log else (self.low, self.high)
        values = np.log10(np.maximum(values, self.low)) if self.log else np.asarray(values, float)
        return np.clip((values - low) / (high - low), 0, 1)

    def ticks(self) -> List[Tuple[float, str]]:
        if self.log:
            powers = range(int(np.ceil(np.log10(self.low))), int(np.floor(np.log10(self.high))) + 1)
            return [(10.0**power, "{:g}".format(10.0**power)) for power in powers]
        return [(float(one), "{:.3g}".format(one)) for one in np.linspace(self.low, self.high, 6)]


def chart(caption: str, x: Axis, y: Axis, series: Sequence[Tuple[str, np.ndarray, np.ndarray]]) -> str:
    """Lines over a grid, as SVG, with a legend."""
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = []
    for value, label in x.ticks():
        at = LEFT + wide * float(x.place(np.array(value)))
        parts.append('<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}" stroke="#e6ebee"/>'.format(at, TOP, TOP + high))
        parts.append(_text(at, TOP + high + 18, label, "middle"))
    for value, label in y.ticks():
        at = TOP + high * (1 - float(y.place(np.array(value))))
        parts.append(
            '<line x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}" stroke="#e6ebee"/>'.format(LEFT, LEFT + wide, at)
        )
        parts.append(_text(LEFT - 8, at + 4, label, "end"))
    for row, (_, xs, ys) in enumerate(series):
        pick = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), MOST_POINTS)).astype(int))
        across, down = LEFT + wide * x.place(xs[pick]), TOP + high * (1 - y.place(ys[pick]))
        line = " ".join("{:.1f},{:.1f}".format(*point) for point in zip(across, down))
        colour, dash = COLOURS[row % len(COLOURS)], DASHES[row // len(COLOURS) % len(DASHES)]
        parts.append('<polyline points="{}" fill="none" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>'.format(
            line, colour, dash))  # fmt: skip
    parts.append(_text(LEFT + wide / 2, HEIGHT - 12, x.label, "middle"))
    parts.append(
        '<g transform="rotate(-90 16 {:.0f})">{}</g>'.format(
            TOP + high / 2, _text(16, TOP + high / 2, y.label, "middle")
        )
    )
    keys = "".join(
        '<span class="key"><span style="color:{}">&#9632;</span> {}</span>'.format(
            COLOURS[row % len(COLOURS)], escape(name)
        )
        for row, (name, _, _) in enumerate(series)
    )
    picture = '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" font-size="12" fill="#5d6b73">{body}</svg>'.format(
        w=WIDTH, h=HEIGHT, body="".join(parts)
    )
    return '<figure style="max-width:{}px"><figcaption><b>{}</b><br>{}</figcaption>{}</figure>'.format(
        WIDTH, escape(caption), keys, picture
    )


def charts(*drawn: str) -> str:
    return '<div class="charts">{}</div>'.format("".join(drawn))


def sheet(caption: str, pictures: Sequence[Tuple[Sequence[np.ndarray], str]]) -> str:
    """Small pictures (BGR, each a group side by side) with a line under each; empty for none."""
    if not pictures:
        return ""
    cells = []
    for group, line in pictures:
        height = min(THUMB * 2, min(one.shape[0] for one in group))
        images = [cv2.resize(one, (max(1, one.shape[1] * height // one.shape[0]), height)) for one in group]
        data = cv2.imencode(".jpg", np.hstack(images), [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
        source = "data:image/jpeg;base64," + base64.b64encode(data).decode()
        cells.append('<figure><img src="{}" alt=""><figcaption>{}</figcaption></figure>'.format(source, escape(line)))
    return '<figure><figcaption><b>{}</b></figcaption><div class="sheet">{}</div></figure>'.format(
        escape(caption), "".join(cells))  # fmt: skip


def _text(x: float, y: float, label: str, anchor: str) -> str:
    return '<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'.format(x, y, anchor, escape(label))
