"""The whole lab on a miniature: data, three nets, pruning, int8, distillation, export, the kiosk."""
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.mtcnn import miniature

pytest.importorskip("torch", reason="torch is not installed (requirements-training.txt)")
pytest.importorskip("torch_pruning", reason="torch-pruning is not installed (requirements-training.txt)")

from engines.backends.onnx import OnnxNetwork  # noqa: E402
from engines.detect.mtcnn import Mtcnn  # noqa: E402
from errors import UsageError  # noqa: E402
from training.mtcnn import nets, shipped, train  # noqa: E402
from training.mtcnn.__main__ import main  # noqa: E402
from training.mtcnn.annotations import shards  # noqa: E402
from training.runlog import read_recipe  # noqa: E402

RECIPES = Path(__file__).parent.parent.parent.parent / "training" / "recipes"
SIZES = {"pnet": 12, "rnet": 24, "onet": 48}
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of its next versions


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder of runs, all of them trained for a few steps."""
    data, runs = miniature.write(tmp_path_factory.mktemp("data")), tmp_path_factory.mktemp("runs")
    usual = ["--data", str(data), "--runs", str(runs), "--threads", "1"]
    short = ["--set", "steps=5", "--set", "batch=32", "--device", "cpu"]

    def run(command, *names):
        recipes = [str(RECIPES / "mtcnn_{}.yaml".format(name)) for name in names]
        assert main([command] + recipes + usual + short) == 0

    run("train", "pnet_full", "pnet_large", "pnet_light", "pnet_pruned_zero", "pnet_distilled")
    pnet, rnet = [str(runs / "mtcnn_{}_distilled".format(role) / "net.onnx") for role in ("pnet", "rnet")]
    for name in ("finds_r0.npz", "finds_r.npz", "finds_r2.npz", "finds_r3.npz"):
        assert main(["samples", str(runs / name), "--pnet", pnet] + usual) == 0
    run("train", "rnet_full", "rnet_light", "rnet_pruned_zero", "rnet_distilled")
    for name in ("finds_o0.npz", "finds_o.npz", "finds_o2.npz", "finds_o3.npz"):
        assert main(["samples", str(runs / name), "--pnet", pnet, "--rnet", rnet] + usual) == 0
    run("train", "onet_full", "onet_light", "onet_pruned_zero", "onet_distilled")
    run("prune", "pnet_pruned", "pnet_pruned_less", "rnet_pruned", "onet_pruned")
    run("train", "pnet_pruned_taught", "rnet_pruned_taught", "onet_pruned_taught")
    run("train", "pnet_distilled_longer", "rnet_distilled_longer", "onet_distilled_longer")
    run("quantise", "pnet_int8", "rnet_int8", "onet_int8")
    run("train", "pnet_large_aside", "rnet_full_aside", "onet_full_aside", "pnet_pruned_longer")
    run("train", "pnet_pruned_longest")
    run("train", "pnet_aside", "rnet_aside", "onet_aside", "onet_wide_aside")
    run("quantise", "pnet_aside_int8", "rnet_aside_int8", "onet_aside_int8")
    run("train", "pnet_beards", "rnet_beards")
    return data, runs


def test_every_recipe_has_run(lab):
    _, runs = lab
    for recipe in RECIPES.glob("mtcnn_*.yaml"):
        line = json.loads((runs / recipe.stem / "result.json").read_text())
        assert line["recipe"]["seed"] == 1 and line["revision"]
        assert 0 <= line["metrics"]["accuracy"] <= 1
        assert (runs / recipe.stem / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["full", "light", "pruned", "pruned_zero", "distilled_longer", "int8"])
def test_exported_files_load_in_the_kiosk(lab, kind):
    data, runs = lab
    files = {role: runs / "mtcnn_{}_{}".format(role, kind) / "net.onnx" for role in SIZES}
    networks = [OnnxNetwork(path, 1) for path in files.values()]
    for network, size in zip(networks, SIZES.values()):
        found = network.run({"input": np.random.RandomState(0).uniform(-1, 1, (2, 3, size, size)).astype(np.float32)})
        np.testing.assert_allclose(found["probability"].reshape(2, 2).sum(1), 1, atol=1e-3)
        assert found["regression"].reshape(2, -1).shape == (2, 4)
    assert found["landmarks"].shape == (2, 10)
    stride = 2 if kind in ("full", "pruned", "pruned_zero") else 4
    detector = Mtcnn(networks[0], networks[1], networks[2], 40, (0.1, 0.1, 0.1), stride=stride)
    faces = detector.detect(next(iter(shards(data, "train"))).image())
    assert faces.landmarks.shape == (faces.count, 5, 2)


def test_pruning_halves_the_channels(lab):
    _, runs = lab
    assert nets.load(runs / "mtcnn_onet_full" / "net.pt").shape()["dense"] == 256
    shape = nets.load(runs / "mtcnn_onet_pruned" / "net.pt").shape()
    assert shape == nets.load(runs / "mtcnn_onet_pruned_zero" / "net.pt").shape()


def test_int8_file_gives_what_rounded_training_gave(lab):
    """The file's int8 arithmetic against the trained net's own rounding, through its metrics."""
    import onnx

    _, runs = lab
    for role in SIZES:
        model = onnx.load(str(runs / "mtcnn_{}_int8".format(role) / "net.onnx"))
        kinds = {node.op_type for node in model.graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        whole = {item.name for item in model.graph.initializer if item.data_type == onnx.TensorProto.INT8 and item.dims}
        weights = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
        layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
        assert len(weights & whole) == len(layers)  # every layer's weights are int8


def test_int8_file_is_a_quarter(lab):
    _, runs = lab
    for role in SIZES:
        first = runs / "mtcnn_{}_distilled_longer".format(role) / "net.onnx"  # of the shape that ships
        small = runs / "mtcnn_{}_aside_int8".format(role) / "net.onnx"
        float_shape = nets.load(runs / "mtcnn_{}_aside".format(role) / "net.pt").shape()
        assert float_shape == nets.load(first.parent / "net.pt").shape()
        assert 4 * small.stat().st_size <= first.stat().st_size


def test_export_writes_what_made_each_file(lab, tmp_path):
    _, runs = lab
    assert main(["export", "--runs", str(runs), "--target", str(tmp_path)]) == 0
    stored = json.loads((tmp_path / "mtcnn_own.json").read_text())
    assert [line["file"] for line in stored] == ["mtcnn_own_pnet.onnx", "mtcnn_own_rnet.onnx", "mtcnn_own_onet.onnx"]
    for line in stored:
        digest = hashlib.sha256((tmp_path / line["file"]).read_bytes()).hexdigest()
        assert line["sha256"] == digest and line["recipe"]["start"] and "accuracy" in line["metrics"]
    with pytest.raises(UsageError, match="train it to its end"):
        shipped.export({"pnet": tmp_path}, tmp_path)


def test_interrupted_run_goes_on_and_ends_the_same(lab, tmp_path, monkeypatch):
    data, _ = lab
    photos = list(shards(data, "train"))
    recipe = dict(read_recipe(RECIPES / "mtcnn_rnet_full.yaml"), steps=6, batch=16, finds=None)
    whole = train.train(recipe, photos, photos[:4], tmp_path / "whole", "cpu")
    monkeypatch.setattr(train, "SAVE", 0)
    step = train._Run._one_step

    def interrupted(self, progress):
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, progress)

    monkeypatch.setattr(train._Run, "_one_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(recipe, photos, photos[:4], tmp_path / "twice", "cpu")
    monkeypatch.setattr(train._Run, "_one_step", step)
    again = train.train(recipe, photos, photos[:4], tmp_path / "twice", "cpu")
    assert again["metrics"] == whole["metrics"]
    first, second = [nets.load(tmp_path / name / recipe["name"] / "net.pt") for name in ("whole", "twice")]
    for one, other in zip(first.state_dict().values(), second.state_dict().values()):
        assert bool((one == other).all())


@pytest.mark.parametrize("change, complaint", [
    ("body=[c16k3]", "sees"), ("body=[x16]", "is no layer"), ("colour=3", "has no 'colour'"),
])  # fmt: skip
def test_wrong_recipe_gets_one_sentence(lab, change, complaint, capsys, tmp_path):
    data, _ = lab
    arguments = ["train", str(RECIPES / "mtcnn_pnet_full.yaml"), "--data", str(data), "--runs", str(tmp_path)]
    assert main(arguments + ["--set", change]) == 2
    assert complaint in capsys.readouterr().err
