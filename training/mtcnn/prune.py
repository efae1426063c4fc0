"""Iterative structured pruning: whole channels go, the least important first, between stretches of
training. torch-pruning finds which tensors hang together."""
import warnings
from typing import Any, Dict

import torch

PRUNED_BY = 0.6  # share of the run after which the last channels have gone; the rest is fine-tuning


def narrowed(net: Any, plan: Dict[str, Any], size: int) -> Any:
    """A nets.Net without a 'share' of its channels, a multiple of 'multiple' staying; as it stands, not trained on."""
    pruner = Pruner(net, dict(plan, rounds=1), size, "cpu")
    pruner.step()
    return net


class Pruner:
    """Of a nets.Net. `plan`: 'share' of the channels that go (of every layer, or a list of each one's), in
    `rounds` steps, a multiple of 'multiple' channels staying."""

    def __init__(self, net: Any, plan: Dict[str, Any], size: int, device: str, rounds_done: int = 0) -> None:
        import torch_pruning

        self.rounds, self.rounds_done = plan["rounds"], rounds_done
        done = rounds_done / self.rounds
        layers, shares = [modules[0] for _, modules in net.steps()], plan["share"]
        if not isinstance(shares, list):
            shares = [shares] * len(layers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._pruner = torch_pruning.pruner.BasePruner(
                net,
                torch.zeros(2, 3, size, size, device=device),
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                iterative_steps=max(self.rounds - rounds_done, 1),
                # What is left to go of what is left.
                pruning_ratio_dict={layer: 1 - (1 - one) / (1 - one * done) for layer, one in zip(layers, shares)},
                ignored_layers=list(net.heads.values()),
                round_to=plan["multiple"],
            )

    def due(self, progress: float) -> bool:
        return self.rounds_done < self.rounds and progress >= PRUNED_BY * self.rounds_done / self.rounds

    def step(self) -> None:
        self._pruner.step()
        self.rounds_done += 1
