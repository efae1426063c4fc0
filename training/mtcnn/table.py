"""The result table: every variant of P, R and O, and the cascades that they make, side by side."""
import json
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from training.mtcnn import cascade, evaluate, shipped
from training.mtcnn.annotations import Photo
from training.mtcnn.cascade import Cascade
from training.mtcnn.nets import SIZES

NET = "| {name} | {class_loss:.3f} | {box_loss:.4f} | {percent:.2f} | {mega:.3f} | {kb:.0f} | {ms:.2f} |"
CASCADE = "| {} | {:.1f} | {:.2f} | {:.1f} | {:.0f} | {:.1f} | {:.4f} | {:.1f} | {:.2f} | {:.4f} | {:.2f} |"
PNET_TRIED, RNET_TRIED = (0.3, 0.4, 0.5, 0.6, 0.7), (0.2, 0.35, 0.5, 0.7)
Rows = List[Dict[str, Any]]
# Row -> the run of each role.
VARIANTS = {
    "full": {"pnet": "full", "rnet": "full", "onet": "full"},
    "light (depthwise)": {"pnet": "light", "rnet": "light", "onet": "light"},
    "large P": {"pnet": "large", "rnet": "full", "onet": "full"},
    "pruned": {"pnet": "pruned", "rnet": "pruned", "onet": "pruned"},
    "pruned, from zero": {"pnet": "pruned_zero", "rnet": "pruned_zero", "onet": "pruned_zero"},
    "pruned, taught": {"pnet": "pruned_taught", "rnet": "pruned_taught", "onet": "pruned_taught"},
    "distilled": {"pnet": "distilled", "rnet": "distilled", "onet": "distilled"},
    "distilled, longer": {"pnet": "distilled_longer", "rnet": "distilled_longer", "onet": "distilled_longer"},
    "int8 of it": {"pnet": "int8", "rnet": "int8", "onet": "int8"},
    "shipped before": {"pnet": "distilled_longer", "rnet": "pruned_taught", "onet": "pruned_taught"},
    "pruned P, taught longer": {"pnet": "pruned_longer", "rnet": "pruned_taught", "onet": "pruned_taught"},
    "pruned P, taught longest": {"pnet": "pruned_longest", "rnet": "pruned_taught", "onet": "pruned_taught"},
    "full, aside": {"pnet": "large_aside", "rnet": "full_aside", "onet": "full_aside"},
    "aside": {"pnet": "aside", "rnet": "aside", "onet": "aside"},
    "aside, wider O": {"pnet": "aside", "rnet": "aside", "onet": "wide_aside"},
    "aside, int8": {"pnet": "aside_int8", "rnet": "aside_int8", "onet": "aside_int8"},
    "aside, full O": {"pnet": "aside", "rnet": "aside", "onet": "full_aside"},
    "shipped": shipped.KINDS,
}


def files(runs: Path, original: Dict[str, Path]) -> Dict[str, Dict[str, Path]]:
    """Row -> role -> ONNX, of the rows whose runs are all there."""
    rows = {"original": original}
    for name, kinds in VARIANTS.items():
        paths = {role: runs / "mtcnn_{}_{}".format(role, kind) / "net.onnx" for role, kind in kinds.items()}
        if all(path.is_file() for path in paths.values()):
            rows[name] = paths
    return rows


def nets(rows: Dict[str, Dict[str, Path]], photos: Sequence[Photo], threads: int) -> Dict[str, Rows]:
    """Role -> a line for each different file."""
    found: Dict[str, Rows] = {}
    for role in SIZES:
        own: Dict[str, Path] = {}
        for name, paths in rows.items():
            if paths[role] not in own.values():
                own[name] = paths[role]
        times = cascade.nets_timed(own, role, threads)
        samples = cascade.validation(photos, role)
        found[role] = []
        for name, path in own.items():
            line = dict(cascade.judged(path, role, samples, threads), name=name, ms=times[name])
            line["multiply_adds"] = multiply_adds(path, SIZES[role])
            line["bytes"] = path.stat().st_size
            found[role].append(line)
    return found


def multiply_adds(path: Path, side: int) -> int:
    """Of one picture of side x side, counted on the ONNX file."""
    import onnx
    from onnx import numpy_helper, shape_inference

    model = onnx.load(str(path))
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, side, side)):
        axis.Clear()
        axis.dim_value = size
    model = shape_inference.infer_shapes(model)
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
              for value in list(model.graph.value_info) + list(model.graph.output)}  # fmt: skip
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:  # rounded weights come through a DequantizeLinear
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            places = shapes.get(node.output[0], [])[2:]
            total += arrays[node.input[1]].size * (places[0] * places[1] if places else 1)
    return total


def cascades(rows: Dict[str, Cascade], validation: Sequence[Photo], dlib: Sequence[Photo], min_face: int,
             threads: int) -> Rows:  # fmt: skip
    """A line for each cascade. 'recall_at' is the recall at the false ones a photo of the first row."""
    times = cascade.timed(rows, [photo.image() for photo in validation], min_face, threads)
    lines: Rows = []
    most = 0.0
    for name, one in rows.items():
        line = cascade.found(one, validation, min_face, threads)
        curve = line.pop("curve")
        most = most if lines else line["false"]
        score, recall = curve.at_false(most)
        detector, _ = cascade.opened(one, min_face, threads)
        faces = [detector.detect(photo.image()) for photo in dlib]
        there = evaluate.curve(dlib, faces, cascade.LOOSE).at_score(0)
        points = evaluate.landmark_error(dlib, faces, cascade.LOOSE)
        lines.append(dict(line, name=name, ms=times[name], recall_at=recall, score_at=score, dlib_recall=there[0],
                          dlib_false=there[1], dlib_landmark_error=points["landmark_error"]))  # fmt: skip
    return lines


def markdown(nets_found: Dict[str, Rows], cascades_found: Dict[int, Rows]) -> str:
    """Both tables, as they stand in training/README.md."""
    text = []
    for role, lines in nets_found.items():
        text += ["", "| {} | class loss | box loss | accuracy % | million multiply-adds | kB | ms |".format(role),
                 "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
        text += [NET.format(percent=100 * line["accuracy"], mega=line["multiply_adds"] / 1e6, kb=line["bytes"] / 1000,
                            **line) for line in lines]  # fmt: skip
    head = ("cascade, min_face {} | recall % | false a photo | recall % at the original's false ones | to R | to O | "
            "landmark error | dlib recall % | dlib false | dlib landmark error | ms a photo")  # fmt: skip
    for min_face, lines in cascades_found.items():
        text += ["", "| " + head.format(min_face) + " |", "| --- " * 11 + "|"]
        text += [CASCADE.format(
            line["name"], 100 * line["recall"], line["false"], 100 * line["recall_at"], line["rnet_candidates"],
            line["onet_candidates"], line["landmark_error"], 100 * line["dlib_recall"], line["dlib_false"],
            line["dlib_landmark_error"], line["ms"]) for line in lines]  # fmt: skip
    return "\n".join(text[1:]) + "\n"


def dlib_photos(folder: Path) -> List[Photo]:
    """The photos of a folder with dlib's annotations.json: boxes and five points."""
    from training.mtcnn.annotations import photo

    order = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    listed = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    found = []
    for image in listed["images"]:
        faces = [
            {"box": face["box"], "landmarks": [face["landmarks5"][name] for name in order]} for face in image["faces"]
        ]
        found.append(photo(image["file"], (folder / image["file"]).read_bytes(), faces))
    return found


def tuned(one: Cascade, original: Cascade, photos: Sequence[Photo], min_face: int) -> Tuple[Cascade, Rows]:
    """Thresholds for `one`, chosen on held-out training photos: of those whose recall, at the original's
    false ones a photo, is within half a point of the best, the ones that send the fewest pixels into
    R and O."""
    most = cascade.found(original, photos, min_face)["false"]
    tried: Rows = []
    for first in PNET_TRIED:
        for second in RNET_TRIED:
            line = cascade.found(one._replace(thresholds=(first, second, 0.5)), photos, min_face)
            score, recall = line.pop("curve").at_false(most)
            cost = line["rnet_candidates"] * SIZES["rnet"] ** 2 + line["onet_candidates"] * SIZES["onet"] ** 2
            setting = {"pnet": first, "rnet": second, "onet": round(score, 3)}
            tried.append(dict(line, recall_at=recall, cost=cost, **setting))
    best = max(line["recall_at"] for line in tried)
    chosen = min((line for line in tried if line["recall_at"] >= best - 0.005), key=lambda line: line["cost"])
    return one._replace(thresholds=(chosen["pnet"], chosen["rnet"], chosen["onet"])), tried
