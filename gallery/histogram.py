"""The picture of a calibration: how alike the same and different people are, and where the threshold lies.

As text for the terminal, and as SVG for a browser.
"""

from html import escape
from typing import Any, List, Tuple

import numpy as np

STEP = 0.05
EDGES = np.round(np.arange(-0.3, 1.0 + STEP, STEP), 2) + 0.0  # no -0.0
BAR = 28  # characters
WIDTH, HEIGHT, LEFT, TOP, GROUND = 720, 300, 46, 40, 250  # pixels of the SVG
OTHERS, SAME = "#b9583a", "#2f6f8f"


def shares(values: np.ndarray) -> np.ndarray:
    """The share of `values` in each step, the outermost ones taking what lies beyond."""
    counts = np.histogram(np.clip(values, EDGES[0], EDGES[-1] - 1e-6), EDGES)[0]
    return counts / max(counts.sum(), 1)


def text(proposal: Any) -> List[str]:
    """Two columns of bars, a line for each step of similarity, the threshold drawn in."""
    others, same = shares(proposal.impostor), shares(proposal.genuine)
    scale = BAR / max(others.max(), same.max(), 1e-9)
    used = np.flatnonzero(others + same)
    lines = ["similarity  {:<{}}  same person".format("different people", BAR)]
    for row in range(used[0], used[-1] + 1):
        bars = ["#" * max(round(share * scale), int(share > 0)) for share in (others[row], same[row])]
        lines.append("{:>6.2f}      {:<{}}  {}".format(EDGES[row], bars[0], BAR, bars[1]).rstrip())
        if EDGES[row] <= proposal.threshold < EDGES[row + 1]:
            lines.append("{:>6.2f} {}".format(proposal.threshold, "- threshold " + "-" * (BAR + 20)))
    return lines


def svg(proposal: Any, title: str) -> str:
    """The same as a picture that stands alone."""
    drawn = [_bars(shares(proposal.impostor), OTHERS), _bars(shares(proposal.genuine), SAME)]
    at = _x(proposal.threshold)
    marks = "".join(
        '<text x="{:.0f}" y="{}" text-anchor="middle">{:.1f}</text>'.format(_x(edge), GROUND + 18, edge)
        for edge in np.arange(-0.2, 1.01, 0.2)
    )
    legend: List[Tuple[int, str, str]] = [(LEFT, OTHERS, "different people"), (LEFT + 150, SAME, "the same person")]
    keys = "".join(
        '<rect x="{}" y="{}" width="12" height="12" fill="{}"/><text x="{}" y="{}">{}</text>'.format(
            x, HEIGHT - 22, colour, x + 18, HEIGHT - 12, label
        )
        for x, colour, label in legend
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        'font-family="sans-serif" font-size="12" fill="#333"><rect width="100%" height="100%" fill="#fff"/>'
        '<text x="{l}" y="22" font-size="15">{title}</text>{bars}'
        '<line x1="{l}" x2="{r}" y1="{g}" y2="{g}" stroke="#999"/>{marks}'
        '<line x1="{at:.1f}" x2="{at:.1f}" y1="{t}" y2="{g}" stroke="#222" stroke-width="1.5" stroke-dasharray="5 3"/>'
        '<text x="{lx:.1f}" y="{ty}">threshold {threshold:.2f}</text>{keys}</svg>\n'
    ).format(
        w=WIDTH, h=HEIGHT, l=LEFT, r=WIDTH - 20, g=GROUND, t=TOP, ty=TOP + 10, at=at, lx=at + 6,
        title=escape(title), bars="".join(drawn), marks=marks, threshold=proposal.threshold, keys=keys,
    )  # fmt: skip


def _x(similarity: float) -> float:
    return LEFT + (similarity - EDGES[0]) / (EDGES[-1] - EDGES[0]) * (WIDTH - 20 - LEFT)


def _bars(heights: np.ndarray, colour: str) -> str:
    """Each histogram has its own scale: there are many more pairs of different people."""
    scale = (GROUND - TOP - 20) / max(float(heights.max()), 1e-9)
    width = _x(STEP) - _x(0) - 1
    return "".join(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" fill-opacity="0.75"/>'.format(
            _x(edge), GROUND - share * scale, width, share * scale, colour
        )
        for edge, share in zip(EDGES, heights)
        if share
    )
