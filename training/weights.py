"""What of a network a running mean follows, and what several processes share."""
from typing import List

from torch import Tensor, nn


def floats(network: nn.Module) -> List[Tensor]:
    """Weights and running statistics, in their order."""
    return list(network.parameters()) + [one for one in network.buffers() if one.is_floating_point()]
