"""Which threshold and margin fit this gallery: measured on its own people and on a cohort of impostors.

A stranger is compared with every stored picture, so what one comparison may let pass depends on how
many there are. How often two different people are as alike as t is known from the cohort
(cohort.json, made by benchmarks/cohort.py: statistics of thousands of faces, no picture and no
embedding of any). Its curve is moved to the mean and spread that this gallery's own people show
among each other, the more so the more people there are.
"""

import json
import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from errors import UsageError

COHORTS = Path(__file__).parent / "cohort.json"
MARGIN = 0.05  # lead over the second person, where nothing was calibrated
LARGEST_MARGIN = 0.2
TRUSTED_PEOPLE = 10  # people whose pairs count as much as the whole cohort
FEW_PICTURES = 2  # a person with fewer is recognised badly
LOW_QUALITY = 0.3
Z95 = 1.96  # 95 % of a normal distribution


class Sample(NamedTuple):
    """One stored embedding: whose, `quality` 0..1, from which photo, and the unit vector (D,)."""

    person: str
    quality: float
    photo: Optional[str]
    vector: np.ndarray


class Stored(NamedTuple):
    """A calibration as the database keeps it; `wanted` is the share of strangers that may be named."""

    threshold: float
    margin: float
    wanted: float
    people: int
    embeddings: int
    made: float  # seconds since 1970


class Cohort:
    """How alike two different people are to one model: the share of pairs at or above a similarity."""

    def __init__(self, data: Dict[str, Any]) -> None:
        self.faces = int(data["faces"])
        self.mean, self.spread = float(data["mean"]), float(data["spread"])
        self._similarity = np.array(data["similarity"], float)  # ascending
        self._curves = {key: np.log(np.array(data[key], float)) for key in ("rate", "low", "high")}

    @classmethod
    def of(cls, model: str) -> "Cohort":
        """Raises UsageError for a model that has none."""
        cohorts = json.loads(COHORTS.read_text(encoding="utf-8"))
        if model not in cohorts:
            raise UsageError(
                "There are no impostor statistics of the model {} in {} (only of {}); make them with "
                "'benchmarks/cohort.py {}'.".format(model, COHORTS, ", ".join(sorted(cohorts)), model)
            )
        return cls(cohorts[model])

    def rate(self, similarity: float, curve: str = "rate") -> float:
        """The share of pairs; `curve` low or high: the ends of its 95 % interval. Beyond the table it
        falls on as it fell at its end."""
        logs = self._curves[curve]
        if similarity <= self._similarity[-1]:
            return float(np.exp(np.interp(similarity, self._similarity, logs)))
        return float(np.exp(logs[-1] + self._slope() * (similarity - self._similarity[-1])))

    def similarity(self, rate: float) -> float:
        """The similarity that a share `rate` of the pairs reaches."""
        wanted, logs = math.log(rate), self._curves["rate"]
        if wanted < logs[-1]:
            return float(self._similarity[-1] + (wanted - logs[-1]) / self._slope())
        return float(np.interp(-wanted, -logs, self._similarity))

    def _slope(self) -> float:
        logs = self._curves["rate"]
        return float((logs[-1] - logs[-6]) / (self._similarity[-1] - self._similarity[-6]))


class Proposal(NamedTuple):
    """What was measured and what follows. Rates are shares 0..1 with the ends of their 95 % interval."""

    threshold: float
    margin: float
    wanted: float
    named: Tuple[float, float, float]  # strangers named at one look: rate, low, high
    recognised: Tuple[int, int]  # own pictures that the person's others recognise, of how many
    people: int
    embeddings: int
    genuine: np.ndarray  # of each picture the best similarity to the same person's others
    impostor: np.ndarray  # of each two pictures of different people
    alike: List[Tuple[str, str, float]]  # people who could be taken for each other, most alike first
    few: List[Tuple[str, int]]  # people with too few pictures
    bad: List[Tuple[str, str, str]]  # person, picture, what is wrong with it


def propose(samples: Sequence[Sample], cohort: Cohort, wanted: float) -> Proposal:
    """Threshold and margin at which a share `wanted` of strangers is named at one look.

    Raises UsageError when fewer than two people are enrolled, or `wanted` is no share."""
    if not 0 < wanted < 1:
        raise UsageError("--far {}: write the share of strangers that may be named, such as 0.01.".format(wanted))
    names = sorted({sample.person for sample in samples})
    if len(names) < 2:
        raise UsageError("Calibrating takes two people or more, and {} are enrolled.".format(len(names)))
    owner = np.array([names.index(sample.person) for sample in samples])
    vectors = np.stack([sample.vector for sample in samples])
    cosines = (vectors @ vectors.T).astype(float)
    impostor = cosines[owner[:, None] < owner]
    best = _best_of_each(cosines, owner, len(names))
    rows = np.arange(len(samples))
    others = best.copy()
    others[rows, owner] = np.nan
    mean, spread = _blended(impostor, len(names), cohort)

    def in_cohort(similarity: float) -> float:
        return cohort.mean + cohort.spread * (similarity - mean) / spread

    each = 1 - (1 - wanted) ** (1 / len(samples))  # what one comparison of many may let pass
    threshold = round(mean + spread * (cohort.similarity(each) - cohort.mean) / cohort.spread, 3)
    one_look = [min(cohort.rate(in_cohort(threshold), curve), 1.0) for curve in ("rate", "low", "high")]
    rate, low, high = (1 - (1 - share) ** len(samples) for share in one_look)
    genuine, rival = best[rows, owner], np.nanmax(others, axis=1)
    known = ~np.isnan(genuine)
    wrong = (rival - genuine)[known & (rival >= threshold)]
    margin = round(float(np.clip(wrong.max(initial=0) + 0.01, MARGIN, LARGEST_MARGIN)), 3)
    right = known & (genuine >= threshold) & (genuine - rival >= margin)
    counts = np.bincount(owner)
    return Proposal(
        threshold,
        margin,
        wanted,
        (rate, low, high),
        (int(right.sum()), int(known.sum())),
        len(names),
        len(samples),
        genuine[known],
        impostor,
        _alike(others, owner, names, threshold - margin),
        [(name, int(count)) for name, count in zip(names, counts) if count < FEW_PICTURES],
        _bad(samples, genuine, rival, threshold),
    )


def interval(count: int, total: int) -> Tuple[float, float]:
    """The 95 % interval of a share count / total (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    share, square = count / total, Z95**2 / total
    middle = (share + square / 2) / (1 + square)
    half = Z95 / (1 + square) * math.sqrt(share * (1 - share) / total + square / 4 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def _best_of_each(cosines: np.ndarray, owner: np.ndarray, people: int) -> np.ndarray:
    """(N, N) -> (N, people): the best cosine of each picture to each person, itself left out; NaN
    where nothing is left."""
    cosines = cosines.copy()
    np.fill_diagonal(cosines, np.nan)
    best = np.full((len(cosines), people), np.nan)
    for person in range(people):
        columns = cosines[:, owner == person]
        some = ~np.isnan(columns).all(axis=1)
        best[some, person] = np.nanmax(columns[some], axis=1)
    return best


def _blended(impostor: np.ndarray, people: int, cohort: Cohort) -> Tuple[float, float]:
    """Mean and spread of different people's similarities: the gallery's and the cohort's, weighted."""
    pairs, trusted = people * (people - 1), TRUSTED_PEOPLE * (TRUSTED_PEOPLE - 1)
    weight = pairs / (pairs + trusted)
    mean = weight * float(impostor.mean()) + (1 - weight) * cohort.mean
    return mean, weight * float(impostor.std()) + (1 - weight) * cohort.spread


def _alike(others: np.ndarray, owner: np.ndarray, names: List[str], least: float) -> List[Tuple[str, str, float]]:
    found: Dict[Tuple[str, str], float] = {}
    for row, column in zip(*np.where(np.nan_to_num(others, nan=-1.0) >= least)):
        first, second = sorted((names[owner[row]], names[column]))
        found[first, second] = max(found.get((first, second), -1.0), float(others[row, column]))
    return sorted(((a, b, similarity) for (a, b), similarity in found.items()), key=lambda one: -one[2])


def _bad(samples: Sequence[Sample], genuine: np.ndarray, rival: np.ndarray, least: float) -> List[Tuple[str, str, str]]:
    found = []
    for at, (sample, own, other) in enumerate(zip(samples, genuine, rival)):
        picture = sample.photo or "picture {}".format(at + 1)
        if not np.isnan(own) and own < max(least, other):
            text = "{:.2f} to the others of the same person, {:.2f} to somebody else".format(own, other)
            found.append((sample.person, picture, text))
        elif sample.quality < LOW_QUALITY:
            found.append((sample.person, picture, "quality {:.2f}".format(sample.quality)))
    return found
