"""One trainer for P, R and O, whole, light, pruned, rounded and taught: what differs is the recipe.

A recipe bounded by `steps` gives the same weights again on the same machine; one bounded by
`seconds` ends in time on any. The weights that are kept are the running mean of those that were
trained. A folder that holds a checkpoint goes on from it.
"""
import copy
import json
import math
import time
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

import torch
from torch import nn
from torch.nn import functional

from errors import UsageError
from training.mtcnn import losses, mine, nets, quantise
from training.mtcnn.annotations import Photo
from training.mtcnn.augment import augmented
from training.mtcnn.nets import SIZES, Net, Outputs
from training.mtcnn.prune import Pruner, narrowed
from training.mtcnn.quantise import QuantisedNet
from training.mtcnn.samples import Sampler, Samples
from training.runlog import Recipe, RunLog, load_checkpoint, save_checkpoint
from training.weights import floats

MEAN, SCALE = 127.5, 1 / 128
KEEP = 0.998  # of the running mean of the weights, in each step
WARM_UP, LAST = 0.03, 0.01  # share of the run in which the rate rises; share of it that is left at the end
REPORT, SAVE = 10, 30  # seconds between reports, and between checkpoints
JUDGED = 8192  # samples of the development photos that a run is judged on
Model = Union[Net, QuantisedNet]


def start(recipe: Recipe, runs: Path) -> Model:
    """The net that a recipe begins with: of its own layers, in the shape of another run ('like'), or
    that run's whole net ('start'), somewhat narrower ('narrow'), with its layers rounded if it says so."""
    torch.manual_seed(recipe["seed"])
    if recipe.get("start"):
        net = nets.load(runs / recipe["start"] / "net.pt")
    elif recipe.get("like"):
        net = Net(**nets.load(runs / recipe["like"] / "net.pt").shape())
    else:
        net = Net(recipe["role"], recipe["body"], recipe.get("dense", 0))
    if recipe.get("narrow"):
        net = narrowed(net, recipe["narrow"], SIZES[recipe["role"]])
    return QuantisedNet(net.eval()) if recipe.get("quantised") else net


def train(
    recipe: Recipe, fit: Sequence[Photo], development: Sequence[Photo], runs: Path, device: str
) -> Dict[str, Any]:
    """Train one net into `runs`/name: net.pt, net.onnx, curves.png. Returns the run's line; a run that
    is done already is not repeated."""
    folder = runs / recipe["name"]
    done = folder / "result.json"
    if done.is_file():
        print("{}: is done already; remove {} to train it again.".format(recipe["name"], folder))
        return json.loads(done.read_text(encoding="utf-8"))
    run = _Run(recipe, fit, development, runs, device)
    with RunLog(folder, recipe, run.total, "step" if recipe["steps"] else "s") as log:
        run.train(log)
        net = run.finished()
        figures = dict(judge(net, run.judged), steps=run.step)
        export(net, folder)
        line = log.finish(**figures)
    done.write_text(json.dumps(line), encoding="utf-8")
    return line


def export(net: Model, folder: Path) -> None:
    if isinstance(net, QuantisedNet):
        torch.save(net.state_dict(), str(folder / "quantised.pt"))
        quantise.export(net, folder / "net.onnx")
    else:
        nets.save(net, folder / "net.pt")
        nets.export(net, folder / "net.onnx")


class _Run:
    def __init__(self, recipe: Recipe, fit: Sequence[Photo], development: Sequence[Photo], runs: Path, device: str):
        if not recipe["steps"] and not recipe["seconds"]:
            raise UsageError("{}: neither steps nor seconds bound the run.".format(recipe["name"]))
        self.recipe, self.folder, self.device = recipe, runs / recipe["name"], device
        self.total = recipe["steps"] or recipe["seconds"]
        finds = mine.read(runs / recipe["finds"], fit) if recipe.get("finds") else None
        size = SIZES[recipe["role"]]
        self.net = start(recipe, runs).to(device)
        teacher = recipe.get("teacher")
        self.teacher = nets.load(runs / teacher / "net.pt").to(device).eval() if teacher else None
        drawn = recipe["oftener"], recipe["lean"], recipe["face"]
        self.sampler = Sampler(fit, size, recipe["seed"], device, finds, *drawn)
        self.judged = Sampler(development, size, 1, device).draw(min(JUDGED, recipe["batch"] * 4), view=False)
        self.pruner = Pruner(self.net, recipe["prune"], size, device) if recipe.get("prune") else None
        self.step, self.before = 0, 0.0
        self._renew()

    def _renew(self) -> None:
        """An optimiser and a running mean for the net as it is now."""
        self.mean = copy.deepcopy(self.net)
        rate, decay = self.recipe["rate"], self.recipe["decay"]
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=rate, weight_decay=decay)

    def train(self, log: RunLog) -> None:
        self._resume()
        began, reported, saved = time.time() - self.before, 0.0, time.time()
        while True:
            spent = time.time() - began
            position = self.step if self.recipe["steps"] else spent
            if position >= self.total:
                break
            loss = self._one_step(position / self.total)
            log.advance(position)
            if spent - reported >= REPORT:
                reported = spent
                log.report(self.step, loss=float(loss), **judge(self.mean, self.judged))
            if time.time() - saved >= SAVE:
                saved = time.time()
                self._save(spent)
        log.report(self.step, loss=float(loss) if self.step else 0.0, **judge(self.mean, self.judged))

    def finished(self) -> Model:
        return self.mean.eval()

    def _one_step(self, progress: float) -> torch.Tensor:
        if self.pruner is not None and self.pruner.due(progress):
            self.pruner.step()
            self._renew()
        rate = self.recipe["rate"] * min(1.0, progress / WARM_UP + 1e-3) * _cosine(progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        samples = self.sampler.draw(self.recipe["batch"])
        crops = augmented(samples.crops, samples.offsets, self.sampler.generator)
        pictures = (crops - MEAN) * SCALE
        self.net.train()
        half = self.device.startswith("cuda") and not self.recipe.get("quantised")
        with torch.autocast("cuda" if half else "cpu", torch.bfloat16, enabled=half):
            outputs = flat(self.net(pictures))
            with torch.no_grad():
                taught = flat(self.teacher(pictures)) if self.teacher is not None else None
        loss = losses.total(outputs, samples, self.recipe, taught)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        self._average()
        self.step += 1
        return loss.detach()

    def _average(self) -> None:
        keep = min(KEEP, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(floats(self.mean), floats(self.net), 1 - keep)

    def _save(self, spent: float) -> None:
        """A pruned net's shape changes under way, so its modules are kept whole."""
        state = {"net": self.net, "mean": self.mean, "optimiser": self.optimiser.state_dict(), "step": self.step,
                 "spent": spent, "generator": self.sampler.generator.get_state(),
                 "rounds": self.pruner.rounds_done if self.pruner else 0}  # fmt: skip
        save_checkpoint(self.folder, state)

    def _resume(self) -> None:
        state = load_checkpoint(self.folder, self.device)
        if state is None:
            return
        self.net = state["net"]
        self._renew()
        self.mean = state["mean"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.before = state["step"], state["spent"]
        self.sampler.generator.set_state(state["generator"].cpu())
        if self.pruner is not None:
            size = SIZES[self.recipe["role"]]
            self.pruner = Pruner(self.net, self.recipe["prune"], size, self.device, state["rounds"])


def flat(outputs: Outputs) -> Outputs:
    """P's map of one cell as (N, channels), as the others give it."""
    return {name: value.flatten(1) for name, value in outputs.items()}


@torch.no_grad()
def judge(net: Model, samples: Samples) -> Dict[str, float]:
    """Class loss, accuracy (faces and background), loss of the box (smooth L1), landmark error in
    distances of the eyes."""
    net = net.eval()
    outputs = flat(net((samples.crops.round() - MEAN) * SCALE))
    return measured(outputs["probability"], outputs["regression"], outputs.get("landmarks"), samples)


def measured(
    logits: torch.Tensor, offsets: torch.Tensor, landmarks: Optional[torch.Tensor], samples: Samples
) -> Dict[str, float]:
    judged, known = samples.face >= 0, ~torch.isnan(samples.offsets[:, 0])
    figures = {
        "class_loss": float(functional.cross_entropy(logits[judged], samples.face[judged])),
        "accuracy": float((logits[judged].argmax(1) == samples.face[judged]).float().mean()),
        "box_loss": float(functional.smooth_l1_loss(offsets[known], samples.offsets[known])),
    }
    if landmarks is not None:
        points = samples.landmarks
        sure = ~torch.isnan(points).flatten(1).any(1) & (samples.face == 1)
        away = (landmarks[sure].view(-1, 2, 5).transpose(1, 2) - points[sure]).norm(dim=2).mean(1)
        eyes = (points[sure, 0] - points[sure, 1]).norm(dim=1).clamp(min=1e-3)
        figures["landmark_error"] = float((away / eyes).mean()) if int(sure.sum()) else float("nan")
    return figures


def _cosine(progress: float) -> float:
    return LAST + (1 - LAST) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def ready(threads: int) -> None:
    """PyTorch's own settings, once."""
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
