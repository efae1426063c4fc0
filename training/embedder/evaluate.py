"""How good embeddings are, on people whom no training picture shows. Plain numpy, for every embedder."""
from typing import Any, Dict, Tuple

import numpy as np

PAIRS = 3000  # genuine and as many impostor pairs for the accuracy


def verification(embeddings: np.ndarray, identity: np.ndarray, seed: int = 0) -> Dict[str, float]:
    """Figures of embeddings (N, D) of unit length with identities (N,).

    `tar_1e3`, `tar_1e2`: share of all genuine pairs above the similarity that a thousandth, a hundredth
    of all impostor pairs pass; `threshold_1e3` is the former similarity. `accuracy`: best threshold of
    nine folds on the tenth, over 3,000 genuine and 3,000 impostor pairs drawn with `seed`.
    """
    genuine, impostor = similarities(embeddings, identity)
    strict, loose = [np.quantile(impostor, 1 - share) for share in (1e-3, 1e-2)]
    rates = {
        "tar_1e3": float(np.mean(genuine > strict)),
        "tar_1e2": float(np.mean(genuine > loose)),
        "threshold_1e3": float(strict),
    }
    rng = np.random.default_rng(seed)
    count = min(PAIRS, len(genuine), len(impostor))
    same = rng.choice(genuine, count, replace=False)
    different = rng.choice(impostor, count, replace=False)
    return dict(rates, accuracy=folds(same, different))


def similarities(embeddings: np.ndarray, identity: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The cosines of all pairs: of one person, of two."""
    cosines = embeddings @ embeddings.T
    first, second = np.triu_indices(len(identity), 1)
    same = identity[first] == identity[second]
    values = cosines[first, second]
    return values[same], values[~same]


def folds(same: np.ndarray, different: np.ndarray, count: int = 10) -> float:
    """Mean accuracy of `count` folds, the threshold of each from the others."""
    thresholds = np.linspace(-0.2, 0.9, 221)
    right = np.stack([(same[:, None] > thresholds), (different[:, None] <= thresholds)])  # (2, pairs, thresholds)
    count = min(count, len(same))
    fold = np.arange(len(same)) % count
    accuracies = []
    for number in range(count):
        best = right[:, fold != number].mean((0, 1)).argmax()
        accuracies.append(right[:, fold == number][..., best].mean())
    return float(np.mean(accuracies))


def by_group(plain: np.ndarray, changed: np.ndarray, group: np.ndarray, threshold: float) -> Dict[str, Dict[str, Any]]:
    """For each group: how often two of its people pass as one, and how often a face passes as itself.

    `plain` and `changed` (N, D) are embeddings of one picture a person, as it is and as a kiosk may see
    it (augment.views): where no second photo of a person exists, that is all that can be measured.
    """
    table = {}
    for name in sorted(set(group)):
        members = group == name
        _, impostor = similarities(plain[members], np.arange(members.sum()))
        table[str(name)] = {
            "people": int(members.sum()),
            "false_accepts": float(np.mean(impostor > threshold)),
            "true_accepts": float(np.mean((plain[members] * changed[members]).sum(1) > threshold)),
        }
    return table
