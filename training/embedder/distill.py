"""Distillation by function matching (Beyer et al. 2022): teachers and students see the same changed
picture, for a long time; no labels. The loss is the angle between both embeddings, and the difference
of all similarities within the batch (relations, Park et al. 2019).

The teachers cost most of the time. So several students share one pass, and each view is learned from
`reuse` times, mixed with other views of the last minute. Runs on one device, or with `torchrun` on
several GPUs of one machine: each has its own batches, and every few steps all go on from their mean.
"""
import itertools
import math
import os
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, distributed

from training.embedder import augment, evaluate, faces, students
from training.embedder.learner import Learner, sized
from training.embedder.teachers import Teachers
from training.runlog import Recipe, RunLog, load_checkpoint, save_checkpoint

TEACHER_SIZE = 112
SAME_FACE = 0.8  # cosine (teachers) from which a training crop counts as a picture of a held-out face
LONGEST_STEP = 5.0  # seconds that count: neither the minutes of compiling nor a pause is training
REPORTS = 40  # a run
REMEMBERED = 64  # batches of views that are learned from again
ALONE = 4  # steps between two meetings of several GPUs
TURNS = 10  # batches of views between two looks at the time there: a look waits for the GPU


def train(recipe: Recipe, packs: List[Path], out: Path, models_dir: Optional[Path], held_out: List[Path]) -> List[Path]:
    """Train the students of `recipe` until its seconds or steps are over; give back their files, out/NAME.pt.

    `held_out` are packs of faces that no training crop may show; students are judged on the first as they go.
    """
    read = faces.read(packs, workers=min(16, os.cpu_count() or 1))  # its processes start before CUDA does
    judged = [faces.read([path]) for path in held_out]
    device, rank, world = _device()
    torch.manual_seed(recipe["seed"])  # the same students in every process
    teachers = Teachers(recipe["teachers"], models_dir).to(device)
    chosen = np.random.RandomState(recipe["seed"]).permutation(len(read.images))[: recipe["limit"]]
    crops = _training_crops(read.images[chosen], judged, teachers, device)
    learners = [Learner(name, spec, teachers.dimension, recipe, device) for name, spec in recipe["students"].items()]
    run = _Run(recipe, out, learners, teachers, device)
    run.resume()
    if teachers.basis is None:
        sample = crops[torch.randperm(len(crops), device=device)[:40000]]
        teachers.fit(torch.cat([augment.plain(part) for part in sample.split(1024)]))
        for one in (teachers.mean, teachers.basis):
            if world > 1 and one is not None:
                distributed.broadcast(one, 0)
    with RunLog(out, recipe, run.total, run.unit) as log:
        run.loop(crops, judged[0] if judged else None, log, rank, world)
        if rank == 0:
            run.save()
            figures = {one.name: _figures(one, judged[0] if judged else None) for one in learners}
            log.finish(
                faces=len(crops), views=run.views, steps=run.step, train_seconds=round(run.seconds),
                teachers_kept=teachers.kept, students=figures,
            )  # fmt: skip
    if world > 1:
        distributed.destroy_process_group()
    return [out / (one.name + ".pt") for one in learners]


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


def _figures(learner: Learner, judged: Optional[faces.Faces]) -> Dict[str, float]:
    multiply_adds, parameters = students.cost(learner.average, learner.size)
    figures = {"million_multiply_adds": multiply_adds, "million_parameters": parameters}
    if judged:
        figures.update(evaluate.verification(learner.embed(judged.images), judged.identity))
    return figures


class _Remembered:
    """The last views and their targets, as many as REMEMBERED batches: a ring."""

    def __init__(self) -> None:
        self._views: List[Tensor] = []  # (B, 3, S, S) uint8
        self._targets: List[Tensor] = []
        self._next = 0

    def add(self, views: Tensor, targets: Tensor) -> None:
        small = (views * 255).round().to(torch.uint8)
        if len(self._views) < REMEMBERED:
            self._views.append(small)
            self._targets.append(targets)
        else:
            self._views[self._next], self._targets[self._next] = small, targets
            self._next = (self._next + 1) % REMEMBERED

    def batch(self) -> Tuple[Tensor, Tensor]:
        """As many views as a batch has, an equal part of each of 8 remembered ones (at first: of one)."""
        count = 8 if len(self._views) >= 8 and len(self._views[0]) % 8 == 0 else 1
        chosen = np.random.choice(len(self._views), count, replace=False)
        size = len(self._views[0]) // count
        begin = int(np.random.randint(count)) * size
        views = torch.cat([self._views[place][begin : begin + size] for place in chosen])
        return views.float() / 255, torch.cat([self._targets[place][begin : begin + size] for place in chosen])


class _Run:
    """What a checkpoint holds, and the loop that changes it."""

    def __init__(self, recipe: Recipe, out: Path, learners: List[Learner], teachers: Teachers, device: str) -> None:
        self.recipe, self.out, self.device = recipe, out, device
        self.learners, self.teachers = learners, teachers
        self.step = self.views = 0  # steps of each student; different views that the teachers saw
        self.seconds = 0.0
        self.total, self.unit = (recipe["seconds"], "s") if recipe["seconds"] else (recipe["steps"], "step")

    def loop(self, crops: Tensor, judged: Optional[faces.Faces], log: RunLog, rank: int, world: int) -> None:
        compiled = self.device == "cuda" and self.recipe["compile"]
        teach = torch.compile(self.teachers) if compiled else self.teachers
        for learner in self.learners:
            learner.prepare(compiled)
        torch.manual_seed(self.recipe["seed"] + rank)
        np.random.seed(self.recipe["seed"] + rank)
        remembered = _Remembered()
        running: Optional[Tensor] = None
        last, saved, reported = time.time(), time.time(), -1.0
        for turn in itertools.count():
            if world == 1 or turn % TURNS == 0:
                progress = self._progress(world)
            if progress >= 1:
                return
            remembered.add(*self._fresh(crops, teach))
            for _ in range(self.recipe["reuse"]):
                apart = self._learn(*remembered.batch(), progress)
                if world > 1 and self.step % ALONE == 0:
                    for learner in self.learners:
                        learner.meet(world)
            self.views += self.recipe["batch"] * world
            running = apart if running is None else running.lerp(apart, 0.02)
            now = time.time()
            self.seconds += min(now - last, LONGEST_STEP)
            last = now
            if rank:
                continue
            log.advance(self.seconds if self.unit == "s" else self.step)
            if progress - reported >= 1 / REPORTS:
                reported = progress
                log.report(self.step, views=self.views, **self._report(running, judged))
            if time.time() - saved > 60:
                self.save()
                saved = time.time()

    def _progress(self, world: int) -> float:
        """0 to 1, the same in all processes."""
        progress = (self.seconds if self.unit == "s" else self.step) / self.total
        if world == 1:
            return progress
        shared = torch.tensor(progress, device=self.device)
        distributed.broadcast(shared, 0)
        return float(shared)

    def _fresh(self, crops: Tensor, teach: object) -> Tuple[Tensor, Tensor]:
        """A batch of new views, at the largest size that anybody looks at, and what the teachers say."""
        chosen = crops[torch.randint(len(crops), (self.recipe["batch"],), device=self.device)]
        largest = max([TEACHER_SIZE] + [learner.size for learner in self.learners])
        x = augment.views(chosen, largest, self.recipe["mixed"], self.recipe["clear"])
        with torch.no_grad():
            return x, teach(sized(x, TEACHER_SIZE)).clone()  # type: ignore[operator]

    def _learn(self, views: Tensor, target: Tensor, progress: float) -> Tensor:
        """One step of every student; gives what each is apart from the teachers, (students,)."""
        pace = min(1, (self.step + 1) / self.recipe["warmup"]) * decayed(progress, self.recipe["decay"])
        self.step += 1
        return torch.stack([learner.learn(views, target, pace, self.step) for learner in self.learners])

    def _report(self, apart: Tensor, judged: Optional[faces.Faces]) -> Dict[str, float]:
        figures = {}
        for learner, value in zip(self.learners, apart.tolist()):
            figures[learner.name + ".apart"] = value
            if judged:
                embeddings = learner.embed(judged.images)
                for name, figure in evaluate.verification(embeddings, judged.identity).items():
                    figures["{}.{}".format(learner.name, name)] = figure
        return figures

    def save(self) -> None:
        """The checkpoint, and each student's own file."""
        state = {learner.name: learner.state() for learner in self.learners}
        position = (self.step, self.views, self.seconds)
        target = (self.teachers.mean, self.teachers.basis, self.teachers.kept)
        save_checkpoint(self.out, {"students": state, "position": position, "target": target})
        for learner in self.learners:
            learner.save(self.out / (learner.name + ".pt"), self.recipe)

    def resume(self) -> None:
        """Go on from the run's own checkpoint, where there is one."""
        state = load_checkpoint(self.out, self.device)
        if not state:
            return
        for learner in self.learners:
            learner.load_state(state["students"][learner.name])
        self.step, self.views, self.seconds = state["position"]
        self.teachers.mean, self.teachers.basis, self.teachers.kept = state["target"]


def decayed(progress: float, decay: float) -> float:
    """1, and a cosine towards 0 over the last `decay` of the run."""
    return 0.5 * (1 + math.cos(math.pi * min(1, max(0.0, progress - 1 + decay) / decay))) + 1e-3
