"""config.yaml and --set NAME=VALUE, read once into typed settings.

The dataclasses below are the only list of settings in the code: their fields give the names, the
types and the defaults; config.yaml repeats them with an explanation, and a test holds the two
together. This module imports nothing of ours but the errors, and everything may import it.
"""
import dataclasses
import difflib
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Union, get_type_hints

import yaml

from errors import UsageError

Number = Union[float, str]  # a number, or the word auto
AUTO = "auto"
CHOICES: Dict[str, Tuple[Any, ...]] = {
    "backend": ("auto", "onnx", "tensorrt"),
    "tensorrt.precision": ("fp32", "fp16", "int8", "best"),
    "capture.library": (AUTO, "opencv", "jetson"),
    "capture.rotate": (0, 90, 180, 270),
    "show.output": ("window", "headless"),
}
PATHS = ("gallery.database", "gallery.photos", "show.font")
RANGES: Dict[str, Tuple[float, float]] = {
    "threads": (0, 256),
    "tensorrt.workspace": (0, 65536),
    "capture.width": (0, 10000),
    "capture.height": (0, 10000),
    "capture.fps": (0, 1000),
    "capture.stall": (0.2, 3600),
    "detector.min_face": (10, 2000),
    "detector.threshold": (0, 1),
    "mtcnn.pnet_threshold": (0, 1),
    "mtcnn.rnet_threshold": (0, 1),
    "mtcnn.factor": (0.3, 0.95),
    "mtcnn.rnet_cap": (1, 100000),
    "mtcnn.onet_cap": (1, 100000),
    "scrfd.size": (64, 4096),
    "recognition.threshold": (-1, 1),
    "recognition.margin": (0, 1),
    "tracking.min_overlap": (0.01, 1),
    "tracking.max_gap": (0, 60),
    "tracking.confirm": (1, 100),
    "tracking.keep_score": (0, 1),
    "tracking.search_every": (0, 10),
    "tracking.refresh": (0, 3600),
    "tracking.retry": (0, 3600),
    "enroll.samples": (1, 50),
    "enroll.max_similarity": (0, 1),
    "enroll.timeout": (1, 3600),
}


@dataclasses.dataclass
class Tensorrt:
    precision: str = "best"
    workspace: int = 0


@dataclasses.dataclass
class Capture:
    input: str = "/dev/video0"
    library: str = AUTO
    width: int = 1280
    height: int = 720
    fps: int = 30
    rotate: int = 0
    mirror: bool = False
    stall: float = 3.0


@dataclasses.dataclass
class Detector:
    model: str = "mtcnn_own"
    min_face: int = 40
    threshold: Number = AUTO


@dataclasses.dataclass
class Mtcnn:
    pnet_threshold: Number = AUTO
    rnet_threshold: Number = AUTO
    factor: Number = AUTO
    rnet_cap: int = 256
    onet_cap: int = 64


@dataclasses.dataclass
class Scrfd:
    size: int = 640
    close_ups: bool = True


@dataclasses.dataclass
class Embedder:
    model: str = "own"


@dataclasses.dataclass
class Recognition:
    threshold: Number = AUTO
    margin: Number = AUTO


@dataclasses.dataclass
class Tracking:
    min_overlap: float = 0.3
    max_gap: float = 0.5
    confirm: int = 2
    keep_score: float = 0.3
    search_every: float = 0.05
    refresh: float = 0.5
    retry: float = 0.3


@dataclasses.dataclass
class Quality:
    min_face: int = 30
    min_sharpness: float = 12
    min_brightness: float = 40
    max_brightness: float = 225
    max_yaw: float = 0.8


@dataclasses.dataclass
class Gallery:
    database: str = "gallery/gallery.db"
    photos: str = "gallery/photos"
    keep_chips: bool = True


@dataclasses.dataclass
class Enroll:
    samples: int = 5
    min_face: int = 60
    max_similarity: float = 0.98
    timeout: float = 20


@dataclasses.dataclass
class Show:
    output: str = "window"
    fullscreen: bool = False
    font: str = AUTO


@dataclasses.dataclass
class Settings:
    backend: str = AUTO
    threads: int = 0
    tensorrt: Tensorrt = dataclasses.field(default_factory=Tensorrt)
    capture: Capture = dataclasses.field(default_factory=Capture)
    detector: Detector = dataclasses.field(default_factory=Detector)
    mtcnn: Mtcnn = dataclasses.field(default_factory=Mtcnn)
    scrfd: Scrfd = dataclasses.field(default_factory=Scrfd)
    embedder: Embedder = dataclasses.field(default_factory=Embedder)
    recognition: Recognition = dataclasses.field(default_factory=Recognition)
    tracking: Tracking = dataclasses.field(default_factory=Tracking)
    quality: Quality = dataclasses.field(default_factory=Quality)
    gallery: Gallery = dataclasses.field(default_factory=Gallery)
    enroll: Enroll = dataclasses.field(default_factory=Enroll)
    show: Show = dataclasses.field(default_factory=Show)


def load(path: Union[str, Path] = "config.yaml", overrides: Sequence[str] = ()) -> Settings:
    """Read `path`, then apply `overrides` ("detector.min_face=60"), in that order.

    Paths come back absolute, relative ones taken from the folder of `path`. Raises UsageError for a
    file that cannot be read, an unknown key (naming its nearest neighbour) and a wrong value.
    """
    path = Path(path)
    settings = Settings()
    for key, value in _flatten(_read(path), str(path)):
        _assign(settings, key, value, str(path))
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals:
            raise UsageError("--set {}: write it as NAME=VALUE, for example detector.min_face=60.".format(item))
        _assign(settings, key.strip(), _parse(text), "--set")
    for key in PATHS:
        section, name = _locate(settings, key, "")
        value = getattr(section, name)
        if value != AUTO:
            setattr(section, name, str((path.parent.resolve() / Path(value).expanduser()).absolute()))
    return settings


def keys(settings: Settings) -> List[str]:
    """All keys in their order: 'backend', 'capture.input', ..."""
    return [key for key, _ in _flatten(dataclasses.asdict(settings), "")]


def _read(path: Path) -> Dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError("{}: cannot be read ({}).".format(path, error.strerror)) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        line = " in line {}".format(where.line + 1) if where else ""
        message = "{}: is not valid YAML{}; every setting is written 'name: value'."
        raise UsageError(message.format(path, line)) from error
    if data is not None and not isinstance(data, dict):
        raise UsageError("{}: holds no settings; every setting is written 'name: value'.".format(path))
    return data or {}


def _parse(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _flatten(data: Dict[str, Any], origin: str) -> List[Tuple[str, Any]]:
    flat: List[Tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, dict):
            flat += [("{}.{}".format(key, name), inner) for name, inner in _flatten(value, origin)]
        else:
            flat.append((str(key), value))
    return flat


def _locate(settings: Settings, key: str, origin: str) -> Tuple[Any, str]:
    """The dataclass that holds `key`, and the field's name."""
    known = keys(settings)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        hint = "; did you mean {}?".format(near[0]) if near else "; the settings are listed in config.yaml."
        raise UsageError("{}: there is no setting '{}'{}".format(origin, key, hint))
    section, _, name = key.rpartition(".")
    return (getattr(settings, section) if section else settings), name


def _assign(settings: Settings, key: str, value: Any, origin: str) -> None:
    section, name = _locate(settings, key, origin)
    wanted = get_type_hints(type(section))[name]
    setattr(section, name, _checked(key, value, wanted, origin))


def _checked(key: str, value: Any, wanted: Any, origin: str) -> Any:
    def wrong(right: str) -> UsageError:
        return UsageError("{}: {} is {!r}, but must be {}.".format(origin, key, value, right))

    if key in CHOICES:
        if value not in CHOICES[key] or isinstance(value, bool):
            raise wrong("one of " + ", ".join(str(choice) for choice in CHOICES[key]))
        return value
    if wanted is bool:
        if not isinstance(value, bool):
            raise wrong("true or false")
        return value
    if wanted is str:
        if value is None or isinstance(value, (bool, list)):
            raise wrong("a text")
        return str(value)
    if wanted == Number and value == AUTO:
        return AUTO
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    low, high = RANGES.get(key, (0, float("inf")))
    if not number or (wanted is int and value != int(value)) or not low <= value <= high:
        kind = "a whole number" if wanted is int else "a number"
        limits = " from {} to {}".format(low, high) if high != float("inf") else " of {} or more".format(low)
        raise wrong(kind + limits + (" or auto" if wanted == Number else ""))
    return int(value) if wanted is int else float(value)
