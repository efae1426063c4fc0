"""Muon (Jordan et al. 2024): a step that turns every direction of a weight matrix by the same amount.

torch.optim.Muon takes matrices alone and one at a time; a convolution is a matrix, too (out, in * k * k), and
those of one shape are orthogonalised here together, or launching the small products would take longer than
they do.
"""
from collections import defaultdict
from typing import Any, Dict, Iterable, List, Tuple

import torch
from torch import Tensor
from torch.optim import Optimizer

# Coefficients and number of the quintic Newton-Schulz steps, momentum: as published with the method.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
MOMENTUM = 0.95


class Muon(Optimizer):
    """For the weights of convolutions and linear layers; all else (vectors, depthwise) needs another optimiser.

    Nothing of a step waits for the GPU, and `lr` may be a tensor there: it can be recorded.
    """

    def __init__(self, weights: Iterable[Tensor], lr: Any, weight_decay: float = 0.0) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            alike: Dict[Tuple[int, int], List[Tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape[0], weight[0].numel()].append((weight, weight.grad))
            for (rows, columns), pairs in alike.items():
                turned = orthogonal(torch.stack([self._moved(weight, gradient) for weight, gradient in pairs]))
                rate = group["lr"] * max(1, rows / columns) ** 0.5
                for (weight, _), turn in zip(pairs, turned):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_(turn.view(weight.shape) * rate)

    def _moved(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """The gradient with Nesterov's momentum, as a matrix."""
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(MOMENTUM).add_(gradient)
        return gradient.add(state["momentum"], alpha=MOMENTUM).flatten(1)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices (N, R, C) whose singular values are all about 1 (0.7 to 1.2)."""
    x = matrices.to(torch.bfloat16 if matrices.is_cuda else matrices.dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    first, second, third = COEFFICIENTS
    for _ in range(STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=second, alpha=third), x, beta=first)
    return (x.mT if tall else x).to(matrices.dtype)
