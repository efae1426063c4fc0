"""Training in two processes, as on two GPUs, here on the CPU: they count together, and go on from their mean."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests import ROOT
from tests.training.embedder.miniature import RECIPE, crops, webp

torch = pytest.importorskip("torch", reason="torch is not installed (requirements-training.txt)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (requirements-training.txt)")

from training.embedder import faces  # noqa: E402
from training.embedder.learner import Learner  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of its next versions


def test_two_processes_end_a_run_together(tmp_path: Path) -> None:
    pictures = crops(24)
    faces.write(tmp_path / "pack.npz", [webp(one) for one in pictures], [-1] * 24, ["made"] * 24)
    (tmp_path / "miniature.yaml").write_text(RECIPE)
    out = tmp_path / "miniature"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["-m", "training.embedder", "train", str(tmp_path / "miniature.yaml"), "--set", "steps=40"]
    words += ["--packs", str(tmp_path / "pack.npz"), "--out", str(out)]
    alone = dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(words, cwd=str(ROOT), env=alone, stderr=subprocess.PIPE, timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    (line,) = [json.loads(row) for row in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert line["metrics"]["steps"] == 40  # of each process
    assert line["metrics"]["views"] == 2 * 20 * 8  # processes, batches of new views (each is learned from twice), views
    reports = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(reports[-1][name + ".apart"] < reports[0][name + ".apart"] for name in "ab")
    assert all((out / name).is_file() for name in ("a.pt", "b.pt", "checkpoint.pt"))


def _one_of_two(rank: int, folder: str) -> None:
    """A process that learns one step of its own and meets the other; FOLDER/RANK.pt holds before and after."""
    from torch import distributed

    distributed.init_process_group("gloo", init_method="file://{}/meeting".format(folder), rank=rank, world_size=2)
    torch.manual_seed(rank)
    recipe = yaml.safe_load(RECIPE)
    learner = Learner("a", recipe["students"]["a"], 16, recipe, "cpu")
    learner.learn(torch.rand(4, 3, 112, 112), torch.nn.functional.normalize(torch.randn(4, 16)), 1.0, 1)
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    learner.meet(2)
    torch.save((before, learner.network.state_dict()), "{}/{}.pt".format(folder, rank))
    distributed.destroy_process_group()


def test_those_who_meet_go_on_from_their_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(_one_of_two, (str(tmp_path),), nprocs=2)
    (mine, after), (other, also) = [torch.load(str(tmp_path / "{}.pt".format(rank))) for rank in range(2)]
    floats = [name for name, value in mine.items() if value.is_floating_point()]
    assert any(name.endswith("running_mean") for name in floats)
    for name in floats:
        np.testing.assert_allclose(after[name].numpy(), ((mine[name] + other[name]) / 2).numpy(), atol=1e-6)
        assert torch.equal(after[name], also[name])
    moved = [float((mine[name] - other[name]).abs().max()) for name in floats]
    assert max(moved) > 0.1  # they had been apart
