"""One student while it learns: its network, the average of its weights over time, its optimiser."""
import copy
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from training.embedder import augment, students
from training.embedder.muon import Muon
from training.runlog import Recipe, revision
from training.weights import floats

SIZE = 112  # pixels of a student's input, where its recipe says nothing else


class Learner:
    """`spec` is the student's part of the recipe; its outputs have as many numbers as the teachers' joined basis."""

    def __init__(self, name: str, spec: Dict[str, Any], dimension: int, recipe: Recipe, device: str) -> None:
        self.name, self.spec, self.device = name, spec, device
        self.size = spec.get("size", SIZE)
        self.dimension = dimension
        network = students.build({key: value for key, value in spec.items() if key != "size"}, dimension).to(device)
        self.network = network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval()  # what is kept in the end
        self.optimizer, self.turner = _optimizers(network, recipe, device)
        self._recipe = recipe
        # On the device, so that a recorded step reads what holds when it is played.
        self._rates = [torch.zeros((), device=device) for _ in range(2)]
        self._follows = torch.zeros((), device=device)
        self._lend_rates()
        self._forward: Any = self.network
        self._recorded: Any = None
        self._records = False

    def prepare(self, compiled: bool) -> None:
        """Compile the forward pass and record the step: launched one by one, its thousand small kernels keep
        the GPU waiting (two students: 7 steps a second, recorded 12, on an H100)."""
        if compiled:
            self._forward = torch.compile(self._forward)
        self._records = compiled

    @torch.no_grad()
    def meet(self, world: int) -> None:
        """Go on from the mean of the networks of all `world` processes (local SGD, Stich 2019): gradients need
        not be shared within a step, which so can be recorded."""
        mine = floats(self.network)
        together = torch.cat([one.flatten() for one in mine])
        distributed.all_reduce(together)
        means = (together / world).split([one.numel() for one in mine])
        torch._foreach_copy_(mine, [mean.view_as(one) for mean, one in zip(means, mine)])

    def learn(self, pictures: Tensor, target: Tensor, pace: float, step: int) -> Tensor:
        """One step, `pace` (0 to 1) times as far as the recipe says, on views (B, 3, S, S) in 0..1 and the
        teachers' embeddings (B, D); gives 1 - cosine, meaned."""
        for rate, name in zip(self._rates, ("rate", "turn")):
            rate.fill_(pace * self._recipe[name])
        self._follows.fill_(1 - min(self._recipe["average"], step / (step + 20)))
        if not self._records:
            return self._step(pictures, target)
        if self._recorded is None:
            self._recorded = _Recorded(self._step, pictures, target)
        return self._recorded(pictures, target)

    def _step(self, pictures: Tensor, target: Tensor) -> Tensor:
        pictures = ((sized(pictures, self.size) - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            out = self._forward(pictures)
        apart, relations = agreement(out.float(), target)
        self.network.zero_grad(set_to_none=True)
        (4 * apart + self._recipe["relations"] * relations).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.turner.step()
        self._follow()
        return apart.detach()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average a little towards the network."""
        now, average = floats(self.network), floats(self.average)
        ways = torch._foreach_sub(now, average)
        torch._foreach_mul_(ways, self._follows)
        torch._foreach_add_(average, ways)

    def _lend_rates(self) -> None:
        for optimizer, rate in zip((self.optimizer, self.turner), self._rates):
            for group in optimizer.param_groups:
                group["lr"] = rate

    @torch.no_grad()
    def embed(self, images: np.ndarray) -> np.ndarray:
        """Crops (N, 128, 128, 3) uint8 -> (N, D) of unit length, by the average."""
        rows = []
        for start in range(0, len(images), 256):
            x = augment.plain(torch.from_numpy(images[start : start + 256]).to(self.device), self.size)
            rows.append(functional.normalize(self.average((x - 0.5) / 0.5), dim=1).cpu().numpy())
        return np.concatenate(rows)

    def state(self) -> Dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer", "turner")}

    def load_state(self, state: Dict[str, Any]) -> None:
        for name, value in state.items():
            mine = getattr(self, name)
            if isinstance(mine, torch.optim.Optimizer):
                value = dict(value, param_groups=mine.state_dict()["param_groups"])
            mine.load_state_dict(value)
        self._lend_rates()

    def save(self, path: Path, recipe: Recipe) -> None:
        """What an export needs: the average in half precision, and the recipe that it came from."""
        half = {
            name: value.half() if value.is_floating_point() else value
            for name, value in self.average.state_dict().items()
        }
        kept = {"spec": self.spec, "dimension": self.dimension, "recipe": recipe, "revision": revision()}
        torch.save(dict(kept, state=half), str(path))


class _Recorded:
    """A step as a CUDA graph, played on other inputs of the same shapes."""

    def __init__(self, step: Callable[..., Tensor], *inputs: Tensor) -> None:
        self._inputs = [one.clone() for one in inputs]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):  # compiles, and makes what the optimisers keep
                step(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # other threads may watch NCCL
            self._output = step(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        for mine, one in zip(self._inputs, inputs):
            mine.copy_(one)
        self._graph.replay()
        return self._output.clone()


def _optimizers(network: nn.Module, recipe: Recipe, device: str) -> Tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """AdamW for vectors, the first convolution and depthwise ones, Muon for all other weights."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    vectors = [weight for weight in weights if weight.ndim <= 1]
    small = [weight for weight in weights if weight.ndim > 1 and weight.shape[1] <= 3]
    turned = [weight for weight in weights if weight.ndim > 1 and weight.shape[1] > 3]
    groups = [{"params": small, "weight_decay": recipe["weight_decay"]}, {"params": vectors, "weight_decay": 0}]
    cuda = device == "cuda"
    adam = torch.optim.AdamW(groups, lr=recipe["rate"], betas=(0.9, 0.99), fused=cuda, capturable=cuda)
    return adam, Muon(turned, recipe["turn"], recipe["weight_decay"])


def agreement(out: Tensor, target: Tensor) -> Tuple[Tensor, Tensor]:
    """1 - cosine, meaned; and the mean squared difference of all similarities within the batch.

    `out` (B, D) as the student gives it, `target` (B, D) of unit length.
    """
    out = functional.normalize(out, dim=1)
    return (1 - (out * target).sum(1)).mean(), (out @ out.T - target @ target.T).square().mean()


def sized(x: Tensor, size: int) -> Tensor:
    if x.shape[-1] == size:
        return x
    return functional.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)


def load(path: Path) -> Tuple[nn.Module, int, Dict[str, Any]]:
    """A trained student from its file: the network, its input size, and what it was saved with."""
    saved = torch.load(str(path), map_location="cpu", weights_only=True)
    spec = dict(saved["spec"])
    size = spec.pop("size", SIZE)
    student = students.build(spec, saved["dimension"])
    student.load_state_dict({name: value.float() for name, value in saved["state"].items()})
    return student.eval(), size, saved
