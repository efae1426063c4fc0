"""python -m training.embedder: crops into packs, a student from its recipe, the kiosk's file, its figures."""
import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional

from errors import guarded
from training.runlog import STOPPED, read_recipe

EXAMPLES = """examples:
  python -m training.embedder pack ../shared/faces packs/
  python -m training.embedder groups ../shared/faces groups.npz
  python -m training.embedder train training/recipes/embedder.yaml --packs packs/*.npz --out runs/embedder
  torchrun --nproc-per-node 4 -m training.embedder train training/recipes/embedder.yaml --packs packs/*.npz
  python -m training.embedder export runs/embedder/main.pt main.onnx --hard packs/hard.npz
  python -m training.embedder evaluate own edgeface_xs --hard packs/hard.npz --models-dir ../shared/models
"""


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.embedder", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    pack = commands.add_parser("pack", help="zip files of crops with an index.csv -> packs")
    pack.add_argument("folder", type=Path)
    pack.add_argument("target", type=Path)
    groups = commands.add_parser("groups", help="crops with a stated gender, race or age -> a pack to judge by group")
    groups.add_argument("folder", type=Path)
    groups.add_argument("target", type=Path)
    groups.add_argument("--count", type=int, default=300, help="crops a group (default: 300)")
    train = commands.add_parser("train", help="train students; the same command goes on after an interruption")
    train.add_argument("recipe", type=Path)
    train.add_argument("--packs", type=Path, nargs="+", default=[])
    train.add_argument("--held-out", type=Path, nargs="*", default=[],
                       help="packs of faces that must not be trained on; the first judges")  # fmt: skip
    train.add_argument("--out", type=Path, default=Path("runs/embedder"))
    train.add_argument("--models-dir", type=Path, help="where the teachers' files are")
    train.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change the recipe")
    export = commands.add_parser("export", help="a trained student -> ONNX, and its record as JSON beside it")
    export.add_argument("weights", type=Path)
    export.add_argument("target", type=Path)
    export.add_argument("--hard", type=Path, help="a pack of held-out people, for the figures of the record")
    export.add_argument("--groups", type=Path, help="a pack made by groups")
    evaluate = commands.add_parser("evaluate", help="figures of embedders on held-out people")
    evaluate.add_argument("models", nargs="+", help="names of the catalogue, or ONNX files of ours")
    evaluate.add_argument("--hard", type=Path, required=True, help="a pack of held-out people")
    evaluate.add_argument("--groups", type=Path, help="a pack made by groups: figures for each of them")
    evaluate.add_argument("--models-dir", type=Path)
    given = parser.parse_args(arguments)
    if not given.command:
        parser.print_help()
        return 2
    run = {"pack": _pack, "groups": _groups, "train": _train, "export": _export, "evaluate": _evaluate}[given.command]
    return run(given)


def _pack(given: argparse.Namespace) -> int:
    from training.embedder import faces

    for path in faces.pack(given.folder, given.target):
        print(path)
    return 0


def _groups(given: argparse.Namespace) -> int:
    from training.embedder import faces

    faces.groups(given.folder, given.target, given.count)
    return 0


def _train(given: argparse.Namespace) -> int:
    from training.embedder import distill

    recipe = read_recipe(given.recipe, given.set)
    for path in distill.train(recipe, given.packs, given.out, given.models_dir, given.held_out):
        print(path)
    return 0


def _export(given: argparse.Namespace) -> int:
    from training.embedder import export, faces, judge, learner

    student, size, saved = learner.load(given.weights)
    export.write(student, size, given.target)
    metrics = {}
    if given.hard:
        groups = faces.read([given.groups]) if given.groups else None
        metrics = judge.figures(str(given.target), faces.read([given.hard]), groups, None)
    export.record(given.target, saved, metrics)
    print("{}: {:.2f} MB".format(given.target, given.target.stat().st_size / 1e6))
    return 0


def _evaluate(given: argparse.Namespace) -> int:
    from training.embedder import faces, judge

    hard = faces.read([given.hard])
    groups = faces.read([given.groups]) if given.groups else None
    for name in given.models:
        print(json.dumps(dict(judge.figures(name, hard, groups, given.models_dir), model=name)))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, STOPPED))
