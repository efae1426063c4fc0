"""The catalogue: what each model is, takes and gives, and where its file comes from.

`engines/models/catalogue.yaml` is data; this module reads it. Detectors, embedders and the build
ask here and nowhere else, so adding a model is adding an entry.
"""
import copy
import difflib
import functools
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple, Union

import yaml

from errors import UsageError
from settings import AUTO, Settings

MODELS = Path(__file__).parent / "models"


def entries() -> Dict[str, Dict[str, Any]]:
    """Every entry by name."""
    path = MODELS / "catalogue.yaml"
    return copy.deepcopy(_parsed(path, path.stat().st_mtime))


@functools.lru_cache(maxsize=2)  # parsing takes 10 ms on a desktop, and several modules ask at start
def _parsed(path: Path, modified: float) -> Dict[str, Dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def names(kind: str) -> List[str]:
    """The names of all entries of one kind: 'detector' or 'embedder'."""
    return [name for name, entry in entries().items() if entry["kind"] == kind]


def entry(name: str, kind: str, key: str) -> Dict[str, Any]:
    """One entry. Raises UsageError naming `key` (of config.yaml) and the nearest names."""
    known = names(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = "did you mean {}?".format(near[0]) if near else "choose from {}.".format(", ".join(known))
        raise UsageError("{}: there is no {} '{}' in the catalogue; {}".format(key, kind, name, hint))
    return dict(entries()[name], name=name)


class Stages(NamedTuple):
    """MTCNN's three networks: lowest scores after each, size of each pyramid level relative to the one
    before, pixels from one cell of PNet's map to the next, and whether R and O count from whole pixels."""

    thresholds: Tuple[float, float, float]
    factor: float
    stride: int
    whole: bool


def stages(settings: Settings) -> Stages:
    """Those of the detector that config.yaml names; what is 'auto' there is the model's own. Another
    kind of detector has none: then they are the original MTCNN's."""
    named = entry(settings.detector.model, "detector", "detector.model")
    model = named if "stages" in named else entries()["mtcnn"]
    own, stage = settings.mtcnn, model["stages"]

    def chosen(wanted: Union[float, str], usual: float) -> float:
        return float(usual if wanted == AUTO else wanted)

    thresholds = (
        chosen(own.pnet_threshold, stage["pnet_threshold"]),
        chosen(own.rnet_threshold, stage["rnet_threshold"]),
        chosen(settings.detector.threshold, model["threshold"]),
    )
    return Stages(thresholds, chosen(own.factor, stage["factor"]), stage["stride"], stage["whole"])


def files(name: str) -> Dict[str, List[Dict[str, Any]]]:
    """The files of one model: role -> sources, first choice first. Raises UsageError for an unknown name."""
    known = entries()
    if name not in known:
        near = difflib.get_close_matches(name, list(known), n=1)
        hint = "did you mean {}?".format(near[0]) if near else "choose from {}.".format(", ".join(known))
        raise UsageError("There is no model '{}' in the catalogue; {}".format(name, hint))
    return known[name]["files"]


def same_template(one: str, other: str) -> bool:
    """Whether the chips of one embedder serve another: both align faces to the same template."""
    known = entries()
    templates = [known.get(name, {}).get("template") for name in (one, other)]
    return one == other or (templates[0] is not None and templates[0] == templates[1])
