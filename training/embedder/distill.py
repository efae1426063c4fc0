"""Distillation by function matching (Beyer et al. 2022): teacher and student see the same changed and
mixed picture, for a long time; no labels. The loss is the angle between both embeddings, and the
difference of all similarities within the batch (relations, Park et al. 2019).

Runs on one device, or with `torchrun` on several GPUs of one machine (each has its own batches).
"""
import copy
import math
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from training.embedder import augment, evaluate, faces, students
from training.embedder.teachers import Teachers
from training.runlog import Recipe, RunLog, load_checkpoint, revision, save_checkpoint

TEACHER_SIZE = 112
SAME_FACE = 0.8  # cosine (teachers) from which a training crop counts as a picture of a held-out face
REPORTS = 40  # a run


def train(recipe: Recipe, packs: List[Path], out: Path, models_dir: Optional[Path], held_out: List[Path]) -> Path:
    """Train the student of `recipe` until its seconds or steps are over; give back the file of its weights.

    `held_out` are packs of faces that no training crop may show; the student is judged on the first as it goes.
    """
    read = faces.read(packs, workers=min(16, os.cpu_count() or 1))  # its processes start before CUDA does
    judged = [faces.read([path]) for path in held_out]
    device, rank, world = _device()
    torch.manual_seed(recipe["seed"] + rank)
    teachers = Teachers(recipe["teachers"], models_dir).to(device)
    crops = _training_crops(read.images[: recipe.get("limit")], judged, teachers, device)
    student = students.build(recipe["student"], teachers.dimension).to(device, memory_format=torch.channels_last)
    run = _Run(recipe, out, student, teachers, device)
    run.resume()
    if run.teachers.basis is None:
        sample = crops[torch.randperm(len(crops), device=device)[:40000]]
        run.teachers.fit(torch.cat([augment.plain(part) for part in sample.split(1024)]))
        if world > 1 and run.teachers.basis is not None:
            distributed.broadcast(run.teachers.basis, 0)
    with RunLog(out, recipe, run.total, run.unit) as log:
        run.loop(crops, judged[0] if judged else None, log, rank, world)
        if rank == 0:
            path = run.save()
            multiply_adds, parameters = students.cost(run.average, recipe["size"])
            log.finish(
                faces=len(crops), seen=run.seen, steps=run.step, train_seconds=round(run.seconds), **run.judge(judged),
                teachers_kept=run.teachers.kept, million_multiply_adds=multiply_adds, million_parameters=parameters,
            )  # fmt: skip
    if world > 1:
        distributed.destroy_process_group()
    return out / "student.pt" if rank else path


def _device() -> Tuple[str, int, int]:
    """This process's device, its number and how many there are."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if not torch.cuda.is_available():
        return "cpu", rank, world
    torch.cuda.set_device(rank % torch.cuda.device_count())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return "cuda", rank, world


def _training_crops(images: np.ndarray, held_out: List[faces.Faces], teachers: Teachers, device: str) -> Tensor:
    """(N, 128, 128, 3) uint8 on the device, without the pictures of held-out faces."""
    crops = torch.from_numpy(images).to(device)
    if not held_out:
        return crops
    embed = lambda images: torch.cat([teachers(augment.plain(part)) for part in images.split(512)])  # noqa: E731
    with torch.no_grad():
        known = embed(torch.from_numpy(np.concatenate([one.images for one in held_out])).to(device))
        nearest = torch.cat([(part @ known.T).amax(1) for part in embed(crops).split(4096)])
    return crops[nearest < SAME_FACE]


class _Run:
    """What a checkpoint holds, and the loop that changes it."""

    def __init__(self, recipe: Recipe, out: Path, student: nn.Module, teachers: Teachers, device: str) -> None:
        self.recipe, self.out, self.device = recipe, out, device
        self.student, self.teachers = student, teachers
        self.average = copy.deepcopy(student).eval()  # of the weights over time: what is kept in the end
        matrices = [weight for weight in student.parameters() if weight.ndim > 1 and weight.requires_grad]
        vectors = [weight for weight in student.parameters() if weight.ndim <= 1 and weight.requires_grad]
        groups = [{"params": matrices, "weight_decay": recipe["weight_decay"]}, {"params": vectors, "weight_decay": 0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe["rate"], betas=(0.9, 0.99), fused=device == "cuda")
        self.step = self.seen = 0
        self.seconds = 0.0
        self.total, self.unit = (recipe["seconds"], "s") if recipe.get("seconds") else (recipe["steps"], "step")

    def loop(self, crops: Tensor, judged: Optional[faces.Faces], log: RunLog, rank: int, world: int) -> None:
        student: nn.Module = self.student
        if world > 1:
            student = nn.parallel.DistributedDataParallel(student)
        compiled = self.device == "cuda" and self.recipe.get("compile", True)
        teach = torch.compile(self.teachers) if compiled else self.teachers
        learn = torch.compile(student) if compiled else student
        running: Optional[Tensor] = None
        started, reported, saved = time.time(), 0.0, time.time()
        stop = False
        while True:
            progress = (self.seconds if self.unit == "s" else self.step) / self.total
            if world > 1 and self.step % 20 == 0:  # all processes end at the same step
                shared = torch.tensor(progress, device=self.device)
                distributed.broadcast(shared, 0)
                progress = float(shared)
                stop = progress >= 1
            elif world == 1:
                stop = progress >= 1
            if stop:
                return
            cosine = self._step(crops, teach, learn, progress, world)
            if running is None:  # the first step compiles: minutes that are not training
                running, started = cosine, time.time() - self.seconds
            running = 0.98 * running + 0.02 * cosine
            self.seconds = time.time() - started
            if rank == 0:
                log.advance(self.seconds if self.unit == "s" else self.step)
                if progress >= reported:
                    reported += 1 / REPORTS
                    log.report(self.step, apart=float(running), seen=self.seen, **self.judge([judged] if judged else []))
                if time.time() - saved > 60:
                    self.save()
                    saved = time.time()

    def _step(self, crops: Tensor, teach: Any, learn: Any, progress: float, world: int) -> Tensor:
        recipe = self.recipe
        rate = recipe["rate"] * min(1, (self.step + 1) / recipe["warmup"]) * _decayed(progress, recipe["decay"])
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = crops[torch.randint(len(crops), (recipe["batch"],), device=self.device)]
        x = augment.views(batch, max(recipe["size"], TEACHER_SIZE), recipe["mixed"])
        with torch.no_grad():
            target = teach(_sized(x, TEACHER_SIZE)).clone()
        pictures = ((_sized(x, recipe["size"]) - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            out = learn(pictures)
        apart, relations = agreement(out.float(), target)
        self.optimizer.zero_grad(set_to_none=True)
        (4 * apart + recipe["relations"] * relations).backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self.seen += len(batch) * world
        self._follow(min(recipe["average"], self.step / (self.step + 20)))
        return apart.detach()

    @torch.no_grad()
    def _follow(self, keep: float) -> None:
        """Move the average a little towards the student."""
        torch._foreach_lerp_(list(self.average.parameters()), list(self.student.parameters()), 1 - keep)
        for average, now in zip(self.average.buffers(), self.student.buffers()):
            if now.is_floating_point():
                average.lerp_(now, 1 - keep)
            else:
                average.copy_(now)

    @torch.no_grad()
    def embed(self, images: np.ndarray) -> np.ndarray:
        """Crops (N, 128, 128, 3) uint8 -> (N, D) of unit length, by the average."""
        rows = []
        for start in range(0, len(images), 256):
            x = augment.plain(torch.from_numpy(images[start : start + 256]).to(self.device), self.recipe["size"])
            rows.append(functional.normalize(self.average((x - 0.5) / 0.5), dim=1).cpu().numpy())
        return np.concatenate(rows)

    def judge(self, held_out: List[faces.Faces]) -> Dict[str, float]:
        return evaluate.verification(self.embed(held_out[0].images), held_out[0].identity) if held_out else {}

    def save(self) -> Path:
        """The checkpoint, and beside it what is needed to export: the average's weights in half precision."""
        state = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "basis": self.teachers.basis,
            "kept": self.teachers.kept,
            "position": (self.step, self.seen, self.seconds),
        }
        save_checkpoint(self.out, state)
        path = self.out / "student.pt"
        half = {name: value.half() if value.is_floating_point() else value for name, value in state["average"].items()}
        basis = None if self.teachers.basis is None else self.teachers.basis.half()
        kept = {"recipe": self.recipe, "revision": revision(), "dimension": self.teachers.dimension}
        torch.save(dict(kept, state=half, basis=basis), str(path))
        return path

    def resume(self) -> None:
        """Go on from the run's own checkpoint, or begin with the weights that the recipe names (`start`)."""
        state = load_checkpoint(self.out, self.device)
        if state:
            self.student.load_state_dict(state["student"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seen, self.seconds = state["position"]
            self.teachers.basis, self.teachers.kept = state["basis"], state["kept"]
        elif self.recipe.get("start"):
            state = torch.load(str(self.recipe["start"]), map_location=self.device, weights_only=True)
            for network in (self.student, self.average):
                network.load_state_dict(state["state"])
            self.teachers.basis = None if state["basis"] is None else state["basis"].float()


def agreement(out: Tensor, target: Tensor) -> Tuple[Tensor, Tensor]:
    """1 - cosine, meaned; and the mean squared difference of all similarities within the batch.

    `out` (B, D) as the student gives it, `target` (B, D) of unit length.
    """
    out = functional.normalize(out, dim=1)
    return (1 - (out * target).sum(1)).mean(), (out @ out.T - target @ target.T).square().mean()


def _decayed(progress: float, decay: float) -> float:
    """1, and a cosine towards 0 over the last `decay` of the run."""
    return 0.5 * (1 + math.cos(math.pi * min(1, max(0.0, progress - 1 + decay) / decay))) + 1e-3


def _sized(x: Tensor, size: int) -> Tensor:
    if x.shape[-1] == size:
        return x
    return functional.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)


def load(path: Path) -> Tuple[nn.Module, Dict[str, Any]]:
    """A trained student from student.pt, and what it was saved with."""
    saved = torch.load(str(path), map_location="cpu", weights_only=True)
    student = students.build(saved["recipe"]["student"], saved["dimension"])
    student.load_state_dict({name: value.float() if value.is_floating_point() else value
                             for name, value in saved["state"].items()})  # fmt: skip
    return student.eval(), saved
