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
    """Of a nets.Net. `plan`: 'share' of the channels of every layer that go, in `rounds` steps, a multiple of
    'multiple' channels staying."""

    def __init__(self, net: Any, plan: Dict[str, Any], size: int, device: str, rounds_done: int = 0) -> None:
        import torch_pruning

        self.rounds, self.rounds_done = plan["rounds"], rounds_done
        share = plan["share"]
        if rounds_done:  # what is left to go of what is left
            share = 1 - (1 - share) / (1 - share * rounds_done / self.rounds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._pruner = torch_pruning.pruner.BasePruner(
                net,
                torch.zeros(2, 3, size, size, device=device),
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                iterative_steps=max(self.rounds - rounds_done, 1),
                pruning_ratio=share,
                ignored_layers=list(net.heads.values()),
                round_to=plan["multiple"],
            )

    def due(self, progress: float) -> bool:
        return self.rounds_done < self.rounds and progress >= PRUNED_BY * self.rounds_done / self.rounds

    def step(self) -> None:
        self._pruner.step()
        self.rounds_done += 1
