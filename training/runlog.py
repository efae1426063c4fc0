"""One training run on disk: its recipe, its progress, its curves, its checkpoint, its result.

A run is a folder. `metrics.jsonl` has a line for every report while it trains, `curves.png` shows
them, `checkpoint.pt` lets it go on after an interruption, and when it ends one line with recipe,
seed, git revision and figures is appended to `runs.jsonl` beside the folder.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import yaml
from tqdm import tqdm

from errors import UsageError

Recipe = Dict[str, Any]
STOPPED = "\nInterrupted; the same command goes on from the last checkpoint."  # under the bar


def read_recipe(path: Path, changes: Optional[List[str]] = None) -> Recipe:
    """The settings of a run from YAML, with `changes` of the form name=value (value in YAML) on top;
    `base` names a recipe beside it that has the rest.

    Raises UsageError for a file that cannot be read and for a name that the recipe does not have.
    """
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError("{}: is no recipe ({}).".format(path, error)) from error
    if "base" in recipe:
        recipe = dict(read_recipe(path.parent / recipe.pop("base")), name=path.stem, **recipe)
    for change in changes or []:
        name, _, value = change.partition("=")
        if name not in recipe:
            raise UsageError("{}: has no '{}'; it has {}.".format(path, name, ", ".join(recipe)))
        recipe[name] = yaml.safe_load(value)
    return dict(recipe, name=recipe.get("name", path.stem))


def revision() -> str:
    """The git revision of the code, with + when it was changed since. A copy without .git names it in
    a file REVISION; else 'unknown'."""
    here = str(Path(__file__).parent)
    noted = Path(__file__).parent.parent / "REVISION"
    if noted.is_file():
        return noted.read_text().strip()
    try:
        commit = subprocess.check_output(["git", "-C", here, "rev-parse", "HEAD"], stderr=subprocess.DEVNULL)
        changed = subprocess.check_output(["git", "-C", here, "status", "--porcelain"], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.decode().strip() + ("+" if changed.strip() else "")


class RunLog:
    """A context manager around a run of `total` steps (or seconds, when the recipe is bounded by time).

    Progress goes to standard error with the time left; nothing else of the run is printed.
    """

    def __init__(self, folder: Path, recipe: Recipe, total: float, unit: str = "step") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.recipe = folder, recipe
        self.started = time.time()
        shown = "{l_bar}{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}{postfix}]"
        self._bar = tqdm(total=total, desc=recipe["name"], unit=unit, bar_format=shown, mininterval=1, file=sys.stderr)
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")

    def advance(self, position: float) -> None:
        """Move the bar to `position` of `total`."""
        self._bar.update(min(position, self._bar.total) - self._bar.n)

    def report(self, step: int, **figures: float) -> None:
        """Keep figures of this moment for the curves, and show them beside the bar."""
        line = dict(figures, step=step, seconds=round(time.time() - self.started, 1))
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()
        self._bar.set_postfix({name: "{:.4g}".format(value) for name, value in figures.items()})

    def finish(self, **figures: Any) -> Dict[str, Any]:
        """Append the run's line to runs.jsonl, draw the curves, and give the line back."""
        line = {
            "name": self.recipe["name"],
            "revision": revision(),
            "seconds": round(time.time() - self.started, 1),
            "recipe": self.recipe,
            "metrics": figures,
        }
        with (self.folder.parent / "runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        draw_curves(self.folder)
        return line

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()
        self._metrics.close()


def save_checkpoint(folder: Path, state: Dict[str, Any]) -> None:
    """Written whole or not at all: an interruption leaves the one before."""
    import torch

    unfinished = folder / "checkpoint.pt.tmp"
    torch.save(state, str(unfinished))
    os.replace(str(unfinished), str(folder / "checkpoint.pt"))


def load_checkpoint(folder: Path, device: str = "cpu") -> Optional[Dict[str, Any]]:
    """The state that was saved last, or None. Only from a folder of one's own: it is a pickle."""
    import torch

    path = folder / "checkpoint.pt"
    return torch.load(str(path), map_location=device, weights_only=False) if path.exists() else None


def draw_curves(folder: Path) -> None:
    """metrics.jsonl as curves.png: one small chart a figure, over the steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    names = sorted({name for line in lines for name in line} - {"step", "seconds"})
    if not names:
        return
    figure, charts = pyplot.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False, layout="constrained")
    for name, chart in zip(names, charts[0]):
        points = [(line["step"], line[name]) for line in lines if name in line]
        chart.plot(*zip(*points))
        chart.set_title(name)
        chart.set_xlabel("step")
        chart.grid(alpha=0.3)
    figure.savefig(str(folder / "curves.png"), dpi=100)
    pyplot.close(figure)
