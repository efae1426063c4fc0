"""--doctor: what is on this machine, what is wrong with it, and what to do about that.

Each check stands alone: one that fails says so and the others go on. Libraries are tried in a
process of their own, because the ones that are wrong do not raise, they end the process (numpy's
illegal instruction on a Jetson Nano). Nothing is changed, built, downloaded or opened for writing.
"""
import glob
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import quote

from errors import KioskError
from settings import Settings

OK, NOTE, WRONG = "ok", "note", "wrong"  # as it should be; goes on without; the kiosk or what was asked for fails
TIMEOUT_S = 60  # a Nano takes ten seconds to import what is new to its page cache
VERSION = "import {} as module; print(getattr(module, '__version__', 'ok'))"
ILLEGAL = "export OPENBLAS_CORETYPE=ARMV8 before the start, or 'pip install numpy==1.19.4'"
JETPACKS = {  # L4T, as dusty-nv/jetson-containers maps it
    "32.6": "4.6", "32.7": "4.6.1 or a later 4.6", "35.1": "5.0.2", "35.2": "5.1", "35.3": "5.1.1", "35.4": "5.1.2",
    "36.3": "6.0", "36.4": "6.1 or 6.2", "38.2": "7.0", "38.4": "7.1",
}  # fmt: skip


class Finding(NamedTuple):
    """One line of the report; `remedy` says what to do."""

    state: str
    subject: str
    text: str
    remedy: str = ""


class Machine:
    """What the checks may ask. `root` is where the system's files are; tests put others there."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def text(self, path: str) -> str:
        """A small file's text, '' where there is none."""
        try:
            return (self.root / path).read_text(errors="replace").strip("\0\n ")
        except OSError:
            return ""

    def output(self, *command: str) -> str:
        """What a command says, '' where it is absent or fails."""
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.decode(errors="replace").strip() if not done.returncode else ""

    def python(self, code: str) -> Tuple[bool, str]:
        """Run `code` in a Python of its own: (True, what it printed) or (False, why it failed)."""
        command = [sys.executable, "-c", code]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return False, "no answer within {} s".format(TIMEOUT_S)
        if done.returncode < 0:
            return False, "it crashes, signal {}".format(-done.returncode)
        lines = (done.stderr if done.returncode else done.stdout).decode(errors="replace").strip().splitlines()
        return not done.returncode, lines[-1] if lines else "no reason given"

    @property
    def board(self) -> str:
        """'NVIDIA Jetson Nano Developer Kit'; '' on a PC."""
        model = self.text("proc/device-tree/model")
        return model if self.text("etc/nv_tegra_release") or "jetson" in model.lower() else ""


Check = Callable[[Machine, Settings], Iterator[Finding]]


def system(machine: Machine, settings: Settings) -> Iterator[Finding]:
    name = re.search(r'PRETTY_NAME="?([^"\n]*)', machine.text("etc/os-release"))
    where = "{} on {} {}".format(platform.python_version(), name.group(1) if name else platform.system(),
                                 platform.machine())  # fmt: skip
    yield Finding(OK, "python", "{} ({})".format(where, sys.executable))
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB", machine.text("proc/meminfo"), re.M))
    memory, swap = (int(sizes.get(key, 0)) / 2**20 for key in ("MemTotal", "SwapTotal"))
    text = "{:.1f} GB, swap {:.1f} GB, {} cores".format(memory, swap, os.cpu_count())
    if 0 < memory < 4.5 and memory + swap < 6:
        yield Finding(NOTE, "memory", text, "building plans needs some 6 GB: scripts/install-jetson --swap 4")
    else:
        yield Finding(OK, "memory", text)


def jetson(machine: Machine, settings: Settings) -> Iterator[Finding]:
    if not machine.board:
        return
    release = re.search(r"R(\d+) .*REVISION: (\d+)", machine.text("etc/nv_tegra_release"))
    version = "{}.{}".format(*release.groups()) if release else "unknown"
    jetpack = JETPACKS.get(version, "")
    text = "{}, L4T {}{}".format(machine.board, version, ", JetPack " + jetpack if jetpack else "")
    old = release is not None and (int(release.group(1)), int(release.group(2))) < (32, 7)
    yield Finding(NOTE if old else OK, "board", text, "TensorRT is older than 8.2; flash JetPack 4.6.1 or newer" * old)
    mode = re.search(r"Power Mode: *(\S+)", machine.output("nvpmodel", "-q"))
    slow = mode is not None and not mode.group(1).startswith("MAXN")
    remedy = "full speed: sudo nvpmodel -m 0 && sudo jetson_clocks" if slow or not mode else ""
    yield Finding(NOTE if remedy else OK, "power mode", mode.group(1) if mode else "not told by nvpmodel", remedy)


def gpu(machine: Machine, settings: Settings) -> Iterator[Finding]:
    found = machine.output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    if not machine.board and not found:
        yield Finding(NOTE if settings.backend == "tensorrt" else OK, "GPU", "no NVIDIA GPU; the CPU does it all")
        return
    cuda = re.search(r"\d+\.\d+(\.\d+)?", machine.text("usr/local/cuda/version.json").partition('"version"')[2]
                     or machine.text("usr/local/cuda/version.txt"))  # fmt: skip
    name = found.splitlines()[0] if found else "in the board"
    yield Finding(OK, "GPU", "{}, CUDA {}".format(name, cuda.group() if cuda else "unknown (not in /usr/local/cuda)"))
    for module, remedy in (
        ("tensorrt", "Jetson: sudo apt install python3-libnvinfer, and a venv with --system-site-packages of the "
                     "system's own Python; PC: pip install tensorrt"),
        ("pycuda.driver", "pip install pycuda (Jetson: scripts/install-jetson)"),
    ):  # fmt: skip
        fine, said = machine.python(VERSION.format(module))
        state = OK if fine else WRONG if settings.backend == "tensorrt" else NOTE
        yield Finding(state, module.partition(".")[0], said, "" if fine else remedy + "; until then the CPU does it")


def libraries(machine: Machine, settings: Settings) -> Iterator[Finding]:
    for module in ("numpy", "onnxruntime", "sqlite_utils", "PIL"):
        fine, said = machine.python(VERSION.format(module))
        remedy = ILLEGAL if "signal 4" in said else "{} -m pip install -r requirements.txt".format(sys.executable)
        yield Finding(OK if fine else WRONG, module, said, "" if fine else remedy)
    fine, said = machine.python(
        "import cv2, re; print(cv2.__version__, 'with' if re.search(r'GStreamer:\\s*YES', cv2.getBuildInformation())"
        " else 'without', 'GStreamer')"
    )
    utils, what = machine.python(
        "import sys; sys.path.insert(0, {!r}); from app.jetson import jetson_utils; m = jetson_utils();"
        " print(m.__name__ if m else 'not installed')".format(str(Path(__file__).resolve().parent.parent))
    )
    utils = utils and what != "not installed"
    blind = machine.board and fine and not utils and "without" in said
    remedy = "a CSI camera needs one of the two: jetson-utils, or JetPack's own OpenCV" if blind else ""
    if not fine:
        remedy = ILLEGAL if "signal 4" in said else "{} -m pip install -r requirements.txt".format(sys.executable)
    csi = settings.capture.input.startswith("csi:")
    yield Finding(WRONG if not fine or (blind and csi) else NOTE if blind else OK, "OpenCV", said, remedy)
    if machine.board or utils:
        yield Finding(OK if utils else NOTE, "jetson-utils", what, "" if utils else "see README, Jetson")


def cameras(machine: Machine, settings: Settings) -> Iterator[Finding]:
    wanted = settings.capture.input
    paths = sorted(glob.glob(str(machine.root / "dev" / "video[0-9]*")), key=lambda path: (len(path), path))
    seen = 0
    for path in paths:
        about = "sys/class/video4linux/{}/".format(Path(path).name)
        if machine.text(about + "index") not in ("", "0"):
            continue  # a camera's second node carries no pictures
        seen += 1
        text = "/dev/{} {}".format(Path(path).name, machine.text(about + "name")).strip()
        closed = not os.access(path, os.R_OK | os.W_OK)
        remedy = "sudo usermod -aG video {} and log in again".format(os.environ.get("USER", "USER"))
        yield Finding(WRONG if closed else OK, "camera", text + (": no permission" if closed else ""), remedy * closed)
    if machine.board:
        active = machine.output("systemctl", "is-active", "nvargus-daemon") == "active"
        state = OK if active else WRONG if wanted.startswith("csi:") else NOTE
        remedy = "" if active else "sudo systemctl restart nvargus-daemon"
        yield Finding(state, "CSI cameras", "nvargus-daemon is {}running".format("" if active else "not "), remedy)
    missing = wanted.startswith("/dev/") and not (machine.root / wanted.lstrip("/")).exists()
    if missing:
        which = "plug it in" if not seen else "set capture.input to one of these"
        yield Finding(NOTE, "camera", "{} (capture.input) is not there: the demo is shown".format(wanted), which)
    elif "://" in wanted:
        from app.capture import masked

        yield Finding(OK, "camera", "{} (capture.input); whether it answers is not tried here".format(masked(wanted)))


def models(machine: Machine, settings: Settings) -> Iterator[Finding]:
    from engines import build, catalogue

    for kind, name in (("detector", settings.detector.model), ("embedder", settings.embedder.model)):
        catalogue.entry(name, kind, kind + ".model")
        missing = [role for role, path in build.found(name).items() if path is None]
        text = "{} {}".format(kind, name) + (": {} not made yet".format(", ".join(missing)) if missing else "")
        yield Finding(NOTE if missing else OK, "model", text, "python build_engines.py" * bool(missing))
    plans = sorted(build.BUILT.glob("**/*.plan"))
    if plans or machine.board:
        text = ", ".join(path.name for path in plans) or "none yet"
        yield Finding(OK if plans else NOTE, "plans", text, "python build_engines.py" * (not plans))


def display(machine: Machine, settings: Settings) -> Iterator[Finding]:
    code = (
        "import pygame; pygame.display.init(); driver = pygame.display.get_driver(); assert driver not in ('dummy',"
        " 'offscreen'), 'no screen'; print('{}x{} through {}'.format(*pygame.display.get_desktop_sizes()[0], driver))"
    )
    fine, said = machine.python("import os; os.environ['PYGAME_HIDE_SUPPORT_PROMPT'] = '1'; " + code)
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or "not set"
    text = said if fine else "{} (DISPLAY is {})".format(said.rpartition(": ")[2], shown)
    remedy = "" if fine else "start it on the desktop, or 'export DISPLAY=:0' as its user; without, keys come from here"
    yield Finding(OK if fine else NOTE, "display", text, remedy)


def database(machine: Machine, settings: Settings) -> Iterator[Finding]:
    path = Path(settings.gallery.database)
    folder = path.parent
    if not path.exists():
        writable = os.access(str(folder), os.W_OK)
        text = "{} is made at the first start".format(path) if writable else "{} cannot be written".format(folder)
        yield Finding(OK if writable else WRONG, "database", text, "" if writable else "name another gallery.database")
        return
    try:
        # Without a -wal nobody has it open; SQLite would leave one behind, of this user, even for reading.
        way = "mode=ro" if Path(str(path) + "-wal").exists() else "immutable=1"
        connection = sqlite3.connect("file:{}?{}".format(quote(str(path)), way), uri=True)
        try:
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            people = connection.execute("SELECT count(*) FROM people").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        sound, people = str(error), 0
    if sound != "ok":
        yield Finding(WRONG, "database", "{}: {}".format(path, sound), "python -m gallery check; restore a backup")
        return
    text, remedy = "{}: {} people".format(path, people), ""
    if not os.access(str(path), os.W_OK):
        text, remedy = text + ", read-only", "nobody can be enrolled: sudo chown $USER {}".format(path)
    elif path.stat().st_mode & 0o077:
        text, remedy = text + ", others can read it", "chmod 600 {}".format(path)
    yield Finding(NOTE if remedy else OK, "database", text, remedy)
    free = shutil.disk_usage(str(folder)).free / 2**20
    if free < 200:
        yield Finding(NOTE, "disk", "{:.0f} MB free in {}".format(free, folder), "make room: enrolment needs some")


CHECKS: Tuple[Check, ...] = (system, jetson, gpu, libraries, cameras, models, display, database)


def examine(settings: Settings, machine: Optional[Machine] = None) -> List[Finding]:
    """All findings, in the order of CHECKS."""
    asked = machine or Machine()

    def run(check: Check) -> List[Finding]:
        try:
            return list(check(asked, settings))
        except KioskError as error:
            return [Finding(WRONG, check.__name__, str(error))]
        except Exception as error:  # a broken machine breaks checks, and the others are wanted all the more
            return [Finding(WRONG, check.__name__, "cannot be looked at ({!r})".format(error))]

    with ThreadPoolExecutor(4) as pool:
        return [finding for findings in pool.map(run, CHECKS) for finding in findings]


def report(settings: Settings, machine: Optional[Machine] = None) -> int:
    """Print all of it; 1 where something is wrong, else 0."""
    findings = examine(settings, machine)
    for one in findings:
        print("{:5}  {:13} {}{}".format(one.state, one.subject, one.text, "\n" + " " * 21 + "-> " + one.remedy
                                        if one.remedy else ""))  # fmt: skip
    wrong = sum(one.state == WRONG for one in findings)
    print("{} wrong, {} to know".format(wrong or "nothing", sum(one.state == NOTE for one in findings)))
    return int(wrong > 0)
