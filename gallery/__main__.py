"""python -m gallery COMMAND: look at, change and carry away who is enrolled.

This alone of the gallery knows how a recognizer is built, and only for `enroll` and `reembed`.
"""
import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional

import settings as settings_module
from errors import KioskError, guarded
from gallery import commands
from gallery.records import Records
from gallery.reembed import reembed
from gallery.store import Gallery
from settings import Settings

CONFIG = Path(settings_module.__file__).resolve().parent / "config.yaml"

EPILOG = """examples:
  python -m gallery list
  python -m gallery enroll                         every photo of the photo folder
  python -m gallery enroll "Zoë Smith" a.jpg b.jpg
  python -m gallery rename Zoe "Zoë Smith"
  python -m gallery delete "Zoë Smith" --yes
  python -m gallery prune --unseen 90d
  python -m gallery --set embedder.model=edgeface_xs reembed
  python -m gallery calibrate --picture calibration.svg
  python -m gallery export people.jsonl            and 'import people.jsonl' on another kiosk
  python -m gallery --set gallery.database=/data/gallery.db check --json

exit codes: 0 done, 1 failed or not all of it done, 2 wrong use, 130 interrupted
A backup is a database: to restore it, stop the kiosk and copy it to where gallery.database says.
"""


def parser() -> argparse.ArgumentParser:
    # The options are taken before and after the command; SUPPRESS keeps the second from undoing the first.
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    shared.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="print tracebacks")
    shared.add_argument("--set", action="append", dest="later", metavar="KEY=VALUE", default=argparse.SUPPRESS,
                        help="change a setting of config.yaml for this call")  # fmt: skip
    top = argparse.ArgumentParser(
        "python -m gallery",
        description="People that the kiosk knows: list, enrol, rename, delete, carry to another kiosk. "
        "Works while the kiosk runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--config", default=str(CONFIG), metavar="FILE", help="settings file (default: %(default)s)")
    top.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting for this call")
    top.add_argument("--json", action="store_true", help="print one JSON object")
    top.add_argument("--debug", action="store_true", help="print tracebacks")
    sub = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return sub.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[shared])

    command("list", "everybody, with the number of embeddings and photos")
    one = command("show", "one person: embeddings, photos and what became of them")
    one.add_argument("name", metavar="NAME")
    one = command("enroll", "enrol NAME from photos, or every photo of the photo folder")
    one.add_argument("name", metavar="NAME", nargs="?")
    one.add_argument("photos", metavar="PHOTO", nargs="*", help="picture files, or folders of them")
    one.add_argument("--anyway", action="store_true", help="also where the face looks like somebody else (twins)")
    command("reembed", "make everybody known to the model in use, from photos and kept faces, after a change of model")
    one = command("rename", "give a person another name; the photos move along")
    one.add_argument("old", metavar="OLD")
    one.add_argument("new", metavar="NEW")
    one = command("merge", "make one person of two; the first one's photos move along")
    one.add_argument("source", metavar="NAME")
    one.add_argument("target", metavar="INTO")
    one = command("delete", "remove every trace of a person, photos in the photo folder included")
    one.add_argument("name", metavar="NAME")
    one.add_argument("--keep-photos", action="store_true", help="leave the photos, and do not enrol them again")
    one.add_argument("--yes", action="store_true", help="do not ask")
    one = command("prune", "forget photos that were removed from the folder, and people who stay away")
    one.add_argument("--unseen", metavar="TIME", help="also delete people not seen for TIME, for example 90d")
    one.add_argument("--yes", action="store_true", help="do not ask")
    one = command("export", "write people and embeddings to a file for another kiosk")
    one.add_argument("file", metavar="FILE", help="- for the standard output")
    one.add_argument("--people", metavar="NAME", nargs="+", help="only these")
    one.add_argument("--no-chips", action="store_true", help="without the aligned faces")
    one = command("import", "add the people of an export")
    one.add_argument("file", metavar="FILE")
    one = command("backup", "copy the whole gallery to a new file, as of this moment")
    one.add_argument("file", metavar="FILE")
    command("check", "is the database sound? finishes what deleting left undone")
    one = command("calibrate", "find the threshold for this gallery, who is too alike, and bad pictures")
    one.add_argument("--far", type=float, default=0.01, metavar="SHARE",
                     help="share of strangers that may be named at one look (default: 0.01)")  # fmt: skip
    one.add_argument("--picture", metavar="FILE.svg", help="draw the similarities there, too")
    one.add_argument("--dry-run", action="store_true", help="store nothing")
    one.add_argument("--forget", action="store_true", help="go back to the model's own threshold")
    return top


def main(argv: Optional[List[str]] = None) -> int:
    arguments = parser().parse_args(argv)
    if arguments.command is None:
        parser().print_help(sys.stderr)
        return 2
    return guarded(lambda: _answered(arguments), "interrupted; what was done before stays.", arguments.debug)


def _answered(arguments: argparse.Namespace) -> int:
    try:
        loaded = settings_module.load(arguments.config, arguments.set + getattr(arguments, "later", []))
        return _tell(_run(loaded, arguments), arguments)
    except KioskError as error:
        if arguments.json:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        raise
    except BrokenPipeError:  # '| head' has read enough
        sys.stderr.close()
        return 1


def _run(settings: Settings, arguments: argparse.Namespace) -> commands.Answer:
    if arguments.command not in ("enroll", "reembed"):
        with Records(Path(settings.gallery.database)) as records:
            return commands.COMMANDS[arguments.command](records, settings, arguments)
    from engines.recognizer import Recognizer

    # Networks on one thread, decoding on the others: 12 ms of processor time a photo instead of 50
    # when other programs want the cores, too (threads that wait for each other spin).
    settings.threads = settings.threads or 1
    recognizer = Recognizer.from_settings(settings)
    gallery = Gallery.open(settings, recognizer.model, recognizer.dimension, recognizer.threshold)
    with recognizer, gallery:
        run = commands.enroll if arguments.command == "enroll" else reembed
        return run(gallery, recognizer, settings, arguments)


def _tell(answer: commands.Answer, arguments: argparse.Namespace) -> int:
    if arguments.json and not (arguments.command == "export" and arguments.file == "-"):
        print(json.dumps(dict(answer.data, problems=answer.problems), ensure_ascii=False))
    else:
        for line in answer.lines:
            print(line)
    for problem in answer.problems:
        print(problem, file=sys.stderr)
    return answer.code


if __name__ == "__main__":
    sys.exit(main())
