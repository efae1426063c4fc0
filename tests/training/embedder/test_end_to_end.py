"""The embedder's lab on a miniature: packs, views, a teacher, two students, export, the kiosk."""
import io
import json
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from PIL import Image

from engines.embed import Embedder
from errors import UsageError
from tests.training.embedder.miniature import RECIPE, SHIPPED, crops, webp

torch = pytest.importorskip("torch", reason="torch is not installed (requirements-training.txt)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (requirements-training.txt)")

from engines import build, catalogue  # noqa: E402
from engines.backends.onnx import OnnxNetwork  # noqa: E402
from training.embedder import augment, distill, evaluate, faces, judge, learner, students  # noqa: E402
from training.embedder.__main__ import main  # noqa: E402
from training.embedder.teachers import Teachers  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, of its next versions


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[List[Path], Path]]:
    """Training packs made from a zip with an index, and a pack of held-out faces."""
    folder = tmp_path_factory.mktemp("data")
    pictures = crops(28)
    with zipfile.ZipFile(str(folder / "faces-000.zip"), "w") as archive:
        for number, picture in enumerate(pictures[:24]):
            archive.writestr("{:05d}.webp".format(number), webp(picture))
    lines = ["shard,name,source,identity"]
    lines += ["faces-000.zip,{:05d}.webp,demo,{}".format(n, "AB"[n % 2] if n < 12 else "") for n in range(24)]
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    assert main(["pack", str(folder), str(folder / "packs")]) == 0
    held = folder / "held.npz"
    blank = np.full((128, 128, 3), 90, np.uint8)
    faces.write(held, [webp(one) for one in [blank, blank // 2, blank * 2, blank // 4]], [0, 0, 1, 1], ["made"] * 4)
    yield sorted((folder / "packs").glob("*.npz")), held


@pytest.fixture(scope="module")
def run(packs: Tuple[List[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "miniature.yaml").write_text(RECIPE)
    words = ["train", str(folder / "miniature.yaml"), "--out", str(folder / "miniature"), "--held-out", str(packs[1])]
    assert main(words + ["--packs"] + [str(path) for path in packs[0]]) == 0
    return folder


def test_a_pack_holds_what_the_zip_held(packs: Tuple[List[Path], Path]) -> None:
    read = faces.read(packs[0])
    assert read.images.shape == (24, 128, 128, 3) and read.images.dtype == np.uint8
    assert read.identity.tolist() == [0, 1] * 6 + [-1] * 12 and set(read.source) == {"demo"}
    difference = np.abs(read.images[5].astype(int) - crops(6)[5].astype(int))
    assert difference.mean() < 6  # WebP of quality 80


def test_what_is_no_pack_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(UsageError, match=r"x\.npz: is no pack of faces"):
        faces.read([tmp_path / "x.npz"])
    with pytest.raises(UsageError, match="No training packs were named"):
        faces.read([])


def test_views_are_pictures_and_a_seed_repeats_them() -> None:
    batch = torch.from_numpy(np.stack(crops(16)))
    torch.manual_seed(3)
    first = augment.views(batch, 112)
    torch.manual_seed(3)
    again = augment.views(batch, 112)
    assert first.shape == (16, 3, 112, 112) and float(first.min()) >= 0 and float(first.max()) <= 1
    assert torch.equal(first, again) and not torch.equal(first, augment.views(batch, 112))


def test_jpeg_is_that_of_a_real_encoder() -> None:
    """What `compressed` loses is near what an encoder loses at the middle of its range of qualities."""
    picture = torch.from_numpy(np.stack(crops(5))[:, 8:-8, 8:-8]).permute(0, 3, 1, 2).float() / 255
    torch.manual_seed(0)
    lost = [float((augment.compressed(picture)[-1] - picture[-1]).abs().mean()) for _ in range(8)]
    file = io.BytesIO()
    original = Image.fromarray((picture[-1].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    original.save(file, "JPEG", quality=45)
    encoded = np.asarray(Image.open(file)).astype(float) / 255
    real = np.abs(encoded - np.asarray(original).astype(float) / 255).mean()
    assert 0.4 * real < np.mean(lost) < 2.5 * real


def test_a_teacher_says_what_its_onnx_file_says() -> None:
    teachers = Teachers([SHIPPED])
    pictures = np.stack(crops(4))
    with torch.no_grad():
        said = teachers(augment.plain(torch.from_numpy(pictures))).numpy()
    entry = catalogue.entry(SHIPPED, "embedder", "test")
    embedder = Embedder(OnnxNetwork(build.ensure(SHIPPED)["embedder"], 1), entry)
    expected = judge.embed(embedder, pictures)
    embedder.close()
    assert np.abs(said - expected).max() < 1e-4


@pytest.mark.parametrize("dimension", [None, 16])
def test_the_target_is_what_the_teachers_say_without_what_all_faces_share(dimension: Optional[int]) -> None:
    """No mean, none of the 3 strongest directions; cosines are those of what is left, or of its strongest part."""
    pictures = augment.plain(torch.from_numpy(np.stack(crops(40))))
    teachers = Teachers([SHIPPED])
    teachers.dimension = dimension or teachers.dimension
    with torch.no_grad():
        joined = teachers.joined(pictures).double().numpy()
        teachers.fit(pictures)
        said = teachers(pictures).double().numpy()
    assert teachers.basis is not None
    centred = joined - joined.mean(0)
    _, strengths, directions = np.linalg.svd(centred, full_matrices=False)
    top, kept = directions[:3], directions[3:][:dimension]
    left = centred @ kept.T
    lengths = np.linalg.norm(left, axis=1, keepdims=True)
    back = said @ teachers.basis.double().numpy().T * lengths  # as directions of the joined vectors
    assert said.shape == (40, dimension or 512 - 3)
    assert np.abs(back.mean(0)).max() < 1e-4 < 1e-2 < np.abs(joined.mean(0)).max()
    assert np.abs(back @ top.T).max() < 1e-4 < 1e-1 < np.abs(centred @ top.T).max()
    left /= lengths
    assert np.abs(said @ said.T - left @ left.T).max() < 1e-3
    assert teachers.kept == pytest.approx((strengths[3:][:dimension] ** 2).sum() / (strengths[3:] ** 2).sum(), abs=1e-4)


def test_students_learn_and_the_run_is_on_record(run: Path) -> None:
    line = json.loads((run / "runs.jsonl").read_text().splitlines()[-1])
    assert line["recipe"]["seed"] == 0 and line["metrics"]["steps"] == 12 and line["metrics"]["views"] == 48
    reports = [json.loads(row) for row in (run / "miniature" / "metrics.jsonl").read_text().splitlines()]
    for name in "ab":
        assert reports[-1][name + ".apart"] < reports[0][name + ".apart"]
        assert line["metrics"]["students"][name]["million_multiply_adds"] > 1
    assert (run / "miniature" / "curves.png").stat().st_size > 1000


def test_the_same_command_goes_on(run: Path, packs: Tuple[List[Path], Path]) -> None:
    words = ["train", str(run / "miniature.yaml"), "--out", str(run / "miniature"), "--set", "steps=14", "--packs"]
    assert main(words + [str(path) for path in packs[0]]) == 0
    line = json.loads((run / "runs.jsonl").read_text().splitlines()[-1])
    assert line["metrics"]["steps"] == 14 and line["metrics"]["views"] == 56


def test_held_out_faces_are_not_trained_on(packs: Tuple[List[Path], Path]) -> None:
    read = faces.read(packs[0])
    held = faces.Faces(read.images[:6], read.identity[:6], read.source[:6])
    kept = distill._training_crops(read.images, [held], Teachers([SHIPPED]), "cpu")
    assert len(kept) <= 18
    same = (kept.numpy()[:, None] == held.images[None]).all(axis=(2, 3, 4))
    assert not same.any()


def test_an_export_is_the_student_and_runs_in_the_kiosk(
    run: Path, packs: Tuple[List[Path], Path], tmp_path: Path
) -> None:
    weights, target = run / "miniature" / "a.pt", tmp_path / "a.onnx"
    assert main(["export", str(weights), str(target), "--hard", str(packs[1])]) == 0
    figures = json.loads(target.with_suffix(".json").read_text())["metrics"]
    assert set(figures) == {"tar_1e3", "tar_1e2", "threshold_1e3", "accuracy"}
    student, size, saved = learner.load(weights)
    network = OnnxNetwork(target, 1)
    embedder = Embedder(network, dict(judge.OWN, name="a", dimension=saved["dimension"]))
    pictures = np.stack(crops(5))
    found = judge.embed(embedder, pictures)
    assert size == 112 and saved["recipe"]["name"] == "miniature"
    with torch.no_grad():
        x = augment.plain(torch.from_numpy(pictures), size)
        expected = torch.nn.functional.normalize(student((x - 0.5) / 0.5), dim=1).numpy()
    assert np.abs(found - expected).max() < 2e-3  # weights in half precision
    raw = network.run({"input": np.zeros((3, 3, 112, 112), np.float32)})["embedding"]
    assert np.allclose(np.linalg.norm(raw, axis=1), 1, atol=1e-5)
    embedder.close()


def test_groups_are_judged_apart(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Six faces of two groups, each person once: what a group's own people and views give."""
    lines = ["shard,name,source,identity,age,gender,race"]
    with zipfile.ZipFile(str(tmp_path / "faces-000.zip"), "w") as archive:
        for number, picture in enumerate(crops(6)):
            archive.writestr("{}.webp".format(number), webp(picture))
            lines.append("faces-000.zip,{}.webp,demo,,{},{},".format(number, 20 + 15 * number, "fm"[number % 2]))
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    target = tmp_path / "groups.npz"
    assert main(["groups", str(tmp_path), str(target), "--count", "2"]) == 0
    assert sorted(set(faces.read([target]).source)) == ["age 18 to 39", "age 40 to 59", "age 60 and over", "f", "m"]
    capsys.readouterr()
    assert main(["evaluate", SHIPPED, "--hard", str(target), "--groups", str(target)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["groups"]["f"]["people"] == 2 and 0 <= figures["groups"]["m"]["true_accepts"] <= 1


@pytest.mark.parametrize("kind", ["kiosk_net", "inception_resnet_v1", "resnet"])
def test_students_by_name(kind: str) -> None:
    if kind == "resnet":
        with pytest.raises(UsageError, match="choose from kiosk_net, inception_resnet_v1"):
            students.build({"type": kind})
        return
    spec: Dict[str, Any] = {"type": kind}
    if kind == "kiosk_net":
        spec.update(block="next", stem=8, widths=[8, 16, 24], depths=[1, 1, 1], kernels=[3, 3, 3], expansions=[2, 2, 2])
    network = students.build(spec, 128)
    multiply_adds, parameters = students.cost(network, 160 if kind != "kiosk_net" else 112)
    if kind == "inception_resnet_v1":  # 23,482,624 at 512 numbers (davidsandberg/facenet)
        assert round(parameters * 1e6) == 23_482_624 - (512 - 128) * (1792 + 2) and 1400 < multiply_adds < 1430
    side = 112 if kind == "kiosk_net" else 160
    assert network.eval()(torch.zeros(2, 3, side, side)).shape == (2, 128)


def test_figures_of_made_embeddings() -> None:
    """Two people, perfectly apart: everything right; all alike: nothing."""
    identity = np.array([0, 0, 0, 1, 1, 1])
    apart = np.eye(8, dtype=np.float32)[identity]
    figures = evaluate.verification(apart, identity)
    assert figures == {"tar_1e3": 1.0, "tar_1e2": 1.0, "threshold_1e3": 0.0, "accuracy": 1.0}
    alike = evaluate.verification(np.ones((6, 1), np.float32), identity)
    assert alike["tar_1e3"] == 0.0 and alike["accuracy"] == 0.5
    groups = evaluate.by_group(apart[[0, 3]], apart[[0, 3]], np.array(["x", "x"]), 0.5)
    assert groups == {"x": {"people": 2, "false_accepts": 0.0, "true_accepts": 1.0}}
