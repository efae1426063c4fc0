"""Plans that were built on this machine, kept in engines/models/built/plans.

A plan belongs to one network, TensorRT, GPU, precision, range of shapes and plugin: all of it is in its
key, the key's hash in its name and the whole key in its first line, with the hash of what follows. So
whatever changes asks for a file that is not there yet, and a file that is cut, damaged or of another
machine is seen before TensorRT reads it; all of these are built anew.
"""
import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional

from engines import catalogue, plugin
from engines.backends.cuda import gpu
from engines.backends.tensorrt import RefusedPlan, TensorrtNetwork
from engines.fetch import sha256_of
from engines.plans.limits import limits
from errors import ModelError
from settings import Settings

FORMAT = 2  # raise it when the builder builds something else from the same request
ROOT = Path(__file__).resolve().parent.parent.parent
MOST_WORKSPACE = 1 << 30  # bytes; a board with less gets a quarter of its memory
# Their boxes are rounded to pixels, so that a last bit moves a face's box: in FP16, 11 of the 151 faces of 19 group
# photos got an IoU below 0.98 with ONNX Runtime's; with these two in FP32 none, and they take little time.
EXACT = ("pnet", "rnet")
TICK = 0.5  # seconds between two looks at the builder
Say = Callable[[str], None]
Progress = Callable[[float], None]  # called while a plan is built, with the seconds it has taken


class Wanted(NamedTuple):
    """A plan as it should be: where it lies, and its key."""

    onnx: Path
    role: str
    path: Path
    key: Dict[str, Any]
    missing: str  # why it is without the plugin; '' = it is with it


def open_plan(onnx: Path, role: str, settings: Settings, say: Say) -> TensorrtNetwork:
    """The network in the file `onnx` on the GPU, its plan built if need be. Raises ModelError."""
    found = wanted(onnx, role, settings)
    plan = ensure(found, settings, say)
    try:
        return TensorrtNetwork(plan, found.path.name)
    except RefusedPlan as error:
        say("{} It is built anew.".format(error))
        with contextlib.suppress(FileNotFoundError):
            found.path.unlink()
        return TensorrtNetwork(ensure(found, settings, say), found.path.name)


def wanted(onnx: Path, role: str, settings: Settings) -> Wanted:
    """What plan `settings` ask for, of the network with this role in its model. Raises ModelError
    where there is no TensorRT or no GPU."""
    trt = module()
    missing = plugin.load(trt, gpu().architecture) or ""
    key = {
        "format": FORMAT,
        "onnx": sha256_of(onnx),
        "tensorrt": trt.__version__,
        "gpu": "{} {}".format(gpu().name, gpu().architecture),
        "precision": "fp32" if role in EXACT else settings.tensorrt.precision,
        "limits": [list(axis) for axis in limits(role, settings)],
        "workspace": settings.tensorrt.workspace,
        "plugin": "" if missing else plugin.fingerprint() or "registered",
    }
    name = "{}.{}.plan".format(onnx.stem, hashlib.sha256(_text(key)).hexdigest()[:12])
    return Wanted(onnx, role, folder() / name, key, missing)


def module() -> Any:
    """The module tensorrt. Raises ModelError where it cannot be imported."""
    try:
        import tensorrt
    except ImportError as error:
        raise ModelError("TensorRT cannot be imported ({}).".format(error)) from error
    return tensorrt


def folder() -> Path:
    return catalogue.MODELS / "built" / "plans"


def ensure(
    asked: Wanted, settings: Settings, say: Say, progress: Optional[Progress] = None, calibration: Optional[Path] = None
) -> bytes:
    """The plan, built if it is not there or not whole. One process builds at a time, the others wait."""
    plan = _intact(asked)
    if plan is not None:
        return plan
    with _lock(say):
        plan = _intact(asked, say)  # another process may just have built it
        return _build(asked, settings, say, progress, calibration) if plan is None else plan


def read(path: Path) -> Any:
    """(key, plan) of a plan file. Raises ModelError where it is none, or not whole."""
    try:
        first, _, plan = path.read_bytes().partition(b"\n")
        head = json.loads(first.decode("utf-8"))
        key, sha256 = head["key"], head["sha256"]
    except OSError as error:
        raise ModelError("{}: cannot be read ({}).".format(path, error.strerror)) from error
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError("{}: is no plan of this kiosk.".format(path)) from error
    if hashlib.sha256(plan).hexdigest() != sha256:
        raise ModelError("{}: is damaged.".format(path))
    return key, plan


def _intact(asked: Wanted, say: Optional[Say] = None) -> Optional[bytes]:
    """The plan where it is there, whole and the one that was asked for; `say` is told what is wrong."""
    if not asked.path.is_file():
        return None
    try:
        key, plan = read(asked.path)
        if key == asked.key:
            return plan
        wrong = "{}: was built for something else.".format(asked.path)
    except ModelError as error:
        wrong = str(error)
    if say is not None:
        say("{} It is built anew.".format(wrong))
    return None


def _build(asked: Wanted, settings: Settings, say: Say, progress: Optional[Progress], calibration: Any) -> bytes:
    say("{}: building it for {} with TensorRT {} ({}), which can take minutes".format(
        asked.onnx.name, asked.key["gpu"], asked.key["tensorrt"], asked.key["precision"]))  # fmt: skip
    with tempfile.TemporaryDirectory(dir=str(folder()), prefix="building-") as scratch:
        target = Path(scratch) / "plan"
        request = {
            "onnx": str(asked.onnx),
            "target": str(target),
            "timing": str(folder() / "timing-{}-{}.cache".format(asked.key["tensorrt"], _word(gpu().name))),
            "precision": asked.key["precision"],
            "limits": asked.key["limits"],
            "workspace": (settings.tensorrt.workspace << 20) or min(MOST_WORKSPACE, gpu().memory // 4),
            "calibration": str(calibration or ""),
            "missing": asked.missing,
        }
        answer = _run(request, Path(scratch), progress)
        if "error" in answer:
            raise ModelError(answer["error"])
        for note in answer["built"]:
            say("{}: {}".format(asked.onnx.name, note))
        plan = target.read_bytes()
        head = {"key": asked.key, "sha256": hashlib.sha256(plan).hexdigest()}
        target.write_bytes(_text(head) + b"\n" + plan)
        target.replace(asked.path)
    return plan


def _run(request: Dict[str, Any], scratch: Path, progress: Optional[Progress]) -> Dict[str, Any]:
    """The builder's answer. It ends with us, on Ctrl-C too."""
    path, output = scratch / "request.json", scratch / "output"
    path.write_bytes(_text(request))
    command = [sys.executable, "-m", "engines.plans.builder", str(path)]
    start = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=str(ROOT), stdout=file, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    status = process.wait(TICK)
                    break
                except subprocess.TimeoutExpired:
                    if progress is not None:
                        progress(time.monotonic() - start)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""]
    with contextlib.suppress(ValueError):
        answer = json.loads(lines[-1])
        if isinstance(answer, dict):
            return answer
    how = "was ended by signal {}".format(-status) if status < 0 else "left with {}".format(status)
    return {"error": "{}: the builder {} ({}).".format(request["onnx"], how, lines[-1] or "it said nothing")}


@contextlib.contextmanager
def _lock(say: Say) -> Iterator[None]:
    import fcntl

    try:
        folder().mkdir(parents=True, exist_ok=True)
        file = (folder() / ".lock").open("w")
    except OSError as error:
        raise ModelError("{}: cannot be written ({}).".format(folder(), error.strerror)) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another process is building plans; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        for left in folder().glob("building-*"):  # of a build that was killed
            shutil.rmtree(str(left), ignore_errors=True)
        yield


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode("utf-8")


def _word(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text)
