"""python -m training.mtcnn: from annotated photos to the kiosk's P, R and O."""
import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional

from training.runlog import guarded, read_recipe

EXAMPLES = """examples:
  python -m training.mtcnn train training/recipes/mtcnn_pnet.yaml --data ../shared/detection --runs runs
  python -m training.mtcnn samples runs/finds_r.npz --pnet runs/pnet/net.onnx --data ../shared/detection
  python -m training.mtcnn train training/recipes/mtcnn_rnet.yaml --data ../shared/detection --set seconds=60
  python -m training.mtcnn samples runs/finds_o.npz --pnet runs/pnet/net.onnx --rnet runs/rnet/net.onnx
  python -m training.mtcnn prune training/recipes/mtcnn_onet_pruned.yaml
  python -m training.mtcnn quantise training/recipes/mtcnn_onet_int8.yaml
  python -m training.mtcnn evaluate --pnet runs/pnet/net.onnx --rnet runs/rnet/net.onnx --onet runs/onet/net.onnx
  python -m training.mtcnn table --runs runs
"""
SHARED = "../shared/detection"


def main(arguments: Optional[List[str]] = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: options.command(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.mtcnn", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    commands = parser.add_subparsers(dest="name", metavar="command")
    commands.required = True

    def command(name: str, function, help: str) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
        own = commands.add_parser(name, help=help, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
        own.set_defaults(command=function)
        own.add_argument("--data", type=Path, nargs="+", default=[Path(SHARED)], metavar="FOLDER",
                         help="folders with an annotations.jsonl and its shards (default: {})".format(SHARED))  # fmt: skip
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
    _add_nets(own, "pnet rnet", "pnet")
    return parser


def _add_nets(parser: argparse.ArgumentParser, roles: str, needed: str = "") -> None:
    for role in roles.split():
        parser.add_argument("--" + role, type=Path, required=role in needed, help="its ONNX file")


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
    from errors import UsageError

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
