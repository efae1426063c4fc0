"""python -m training.mtcnn: from annotated photos to the kiosk's P, R and O."""
import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from errors import UsageError, guarded
from training.mtcnn.shipped import KINDS
from training.runlog import STOPPED, read_recipe

EXAMPLES = """examples:
  python -m training.mtcnn label ../shared/faces/faces-000.zip --target faces --most 1450
  python -m training.mtcnn train training/recipes/mtcnn_pnet_full.yaml --data ../shared/detection --runs runs
  python -m training.mtcnn samples runs/finds_r.npz --pnet runs/pnet/net.onnx --data ../shared/detection
  python -m training.mtcnn train training/recipes/mtcnn_rnet_full.yaml --data ../shared/detection --set seconds=60
  python -m training.mtcnn samples runs/finds_o.npz --pnet runs/pnet/net.onnx --rnet runs/rnet/net.onnx
  python -m training.mtcnn prune training/recipes/mtcnn_onet_pruned.yaml
  python -m training.mtcnn quantise training/recipes/mtcnn_onet_int8.yaml
  python -m training.mtcnn evaluate --runs runs --tune
  python -m training.mtcnn export --runs runs
  python -m training.mtcnn table --runs runs
"""
SHARED = "../shared/detection"
ROLES = ("pnet", "rnet", "onet")
TEACHER = Path("../shared/models/scrfd/scrfd_2.5g_kps_dynamic.onnx")
DLIB = Path("../shared/photos/dlib_faces")
MODELS = Path(__file__).parent.parent.parent / "engines" / "models"


def main(arguments: Optional[List[str]] = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: options.command(options), STOPPED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.mtcnn", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    commands = parser.add_subparsers(dest="name", metavar="command")
    commands.required = True

    def command(name: str, function: Callable[[Any], int], help: str) -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        own = commands.add_parser(name, help=help, epilog=EXAMPLES, formatter_class=raw)
        own.set_defaults(command=function)
        data = "folders with an annotations.jsonl and its shards (default: {})".format(SHARED)
        own.add_argument("--data", type=Path, nargs="+", default=[Path(SHARED)], metavar="FOLDER", help=data)
        own.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
        own.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
        return own

    for name, text in (("train", "train one net from a recipe"), ("prune", "the same, for a recipe that prunes"),
                       ("quantise", "the same, for a recipe with rounded layers")):  # fmt: skip
        own = command(name, _train, text)
        own.add_argument("recipe", type=Path, nargs="+", help="YAML; several are trained one after another")
        own.add_argument("--set", action="append", metavar="NAME=VALUE", help="change one setting of the recipe")
        own.add_argument("--device", default="auto", help="cpu, cuda or auto")
    own = command("samples", _samples, "search the training photos for the hard samples of R, or with --rnet of O")
    own.add_argument("target", type=Path, help="the .npz to write")
    own.add_argument("--pnet", type=Path, required=True, help="its ONNX file")
    own.add_argument("--rnet", type=Path, help="its ONNX file")
    own = command("label", _label, "face crops or photos of a zip, labelled by SCRFD-2.5G, as a shard more")
    own.add_argument("archive", type=Path, help="the zip")
    own.add_argument("--teacher", type=Path, default=TEACHER, help="SCRFD's ONNX (default: {})".format(TEACHER))
    own.add_argument("--target", type=Path, default=Path("faces"), help="folder of the shard (default: faces)")
    own.add_argument("--most", type=int, default=2000, help="pictures at most (default: 2000)")
    aside = "the zip holds photos: those with a face that looks aside by so much (0: all; 0.3: halfway to the profile)"
    own.add_argument("--aside", type=float, help=aside)
    own.add_argument("--seed", type=int, default=0, help="decides which (default: 0)")
    own = command("export", _export, "put the nets of one kind where the kiosk finds them, with their metrics")
    _add_kinds(own)
    own.add_argument("--target", type=Path, default=MODELS, help="folder (default: engines/models)")
    own = command("evaluate", _evaluate, "recall, false ones and time of a cascade beside the original's")
    _add_kinds(own)
    own.add_argument("--thresholds", type=float, nargs=3, default=[0.6, 0.7, 0.7], help="after P, R and O")
    own.add_argument("--factor", type=float, default=0.709, help="of the pyramid (default: 0.709)")
    own.add_argument("--tune", action="store_true", help="choose them on held-out training photos first")
    own = command("table", _table, "the result table of all variants, in Markdown; minutes")
    own.add_argument("--thresholds", type=float, nargs=3, default=[0.6, 0.7, 0.7], help="of the shipped ones")
    own.add_argument("--factor", type=float, default=0.709, help="of the shipped ones (default: 0.709)")
    return parser


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    text = "of the runs mtcnn_ROLE_KIND for P, R and O (default: {})".format(" ".join(KINDS.values()))
    parser.add_argument("--kinds", nargs=3, default=list(KINDS.values()), metavar="KIND", help=text)


def _train(options: argparse.Namespace) -> int:
    from training.mtcnn import train

    recipes = [read_recipe(path, options.set) for path in options.recipe]
    for recipe in recipes:
        _fits(options.name, recipe)
    train.ready(options.threads)
    fit, development = _photos(options.data, "fit"), _photos(options.data, "development")
    for recipe in recipes:
        line = train.train(recipe, fit, development, options.runs, _device(options.device))
        print(json.dumps({"name": line["name"], "seconds": line["seconds"], "metrics": line["metrics"]}))
    return 0


def _fits(command: str, recipe: dict) -> None:
    for name, key in (("prune", "prune"), ("quantise", "quantised")):
        if command == name and not recipe.get(key):
            raise UsageError("{}: has no '{}'; 'train' is for it.".format(recipe["name"], key))


def _samples(options: argparse.Namespace) -> int:
    import cv2

    from training.mtcnn import mine

    cv2.setNumThreads(1)
    photos = _photos(options.data, "fit")
    finds = mine.mine(photos, options.pnet, options.rnet, options.threads)
    mine.write(options.target, photos, finds)
    print("{}: {} candidates of {} photos.".format(options.target, len(finds.photo), len(photos)))
    return 0


def _label(options: argparse.Namespace) -> int:
    from training.mtcnn.label import label

    count = label(options.archive, options.teacher, options.target, options.most, options.seed, options.aside)
    print("{}: {} pictures with a face.".format(options.target, count))
    return 0


def _export(options: argparse.Namespace) -> int:
    from training.mtcnn import shipped

    for line in shipped.export(_runs(options), options.target):
        print("{}: {} bytes, sha256 {}.".format(line["file"], line["bytes"], line["sha256"]))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from training.mtcnn import table
    from training.mtcnn.cascade import Cascade

    first = {role: folder / "net.onnx" for role, folder in _runs(options).items()}
    original = Cascade(_original(), whole=False)
    chosen = Cascade(first, tuple(options.thresholds), options.factor)
    if options.tune:
        chosen, tried = table.tuned(chosen, original, _photos(options.data, "development"), 20)
        for line in tried:
            print(json.dumps(line))
        print("Chosen: thresholds {} {} {}.".format(*chosen.thresholds))
    rows = {"original": original, "ours": chosen}
    photos, dlib = _photos(options.data, "val"), table.dlib_photos(DLIB)
    print(table.markdown({}, {size: table.cascades(rows, photos, dlib, size, options.threads) for size in (20, 40)}))
    return 0


def _table(options: argparse.Namespace) -> int:
    from training.mtcnn import table
    from training.mtcnn.cascade import Cascade

    files = table.files(options.runs, _original())
    rows = {name: Cascade(paths, whole=name != "original") for name, paths in files.items()}
    for name in ("shipped before", "aside, full O", "shipped"):
        if name in rows:
            rows[name] = Cascade(files[name], tuple(options.thresholds), options.factor)
    photos, dlib = _photos(options.data, "val"), table.dlib_photos(DLIB)
    nets = table.nets(files, photos, options.threads)
    print(table.markdown(nets, {size: table.cascades(rows, photos, dlib, size, options.threads) for size in (20, 40)}))
    return 0


def _runs(options: argparse.Namespace) -> Dict[str, Path]:
    """Role -> folder of the run of its kind."""
    return {role: options.runs / "mtcnn_{}_{}".format(role, kind) for role, kind in zip(ROLES, options.kinds)}


def _original() -> Dict[str, Path]:
    from engines.build import ensure
    from settings import Settings

    return ensure("mtcnn", Settings())


def _photos(folders: List[Path], split: str) -> list:
    from training.mtcnn.annotations import shards

    return [photo for folder in folders for photo in shards(folder, split)]


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    sys.exit(main())
