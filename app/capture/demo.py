"""The demo that comes with the kiosk: a clip, the portraits of the people enrolled for it, the truth.

Two people whom the kiosk knows and one whom it does not walk up in demo/clip.mp4, so that the main
job shows itself on a machine without a camera. demo/render.py made it, demo/PROVENANCE.md says of what.
"""
import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from errors import SourceError

FOLDER = Path(__file__).resolve().parent.parent.parent / "demo"
STRANGER = "stranger"  # the name in the truth of the person who is not enrolled


class TrueFace(NamedTuple):
    """Who is where in one frame. `box` is x1 y1 x2 y2 in pixels and may reach over the border; `visible`
    is the part of the face, 0..1, that is inside the picture and not behind somebody else."""

    name: str
    box: Tuple[float, float, float, float]
    visible: float

    @property
    def size(self) -> float:
        """The shorter side of the box in pixels."""
        return min(self.box[2] - self.box[0], self.box[3] - self.box[1])


def clip() -> Path:
    """The demo video. Raises SourceError where it is missing."""
    return _present(FOLDER / "clip.mp4")


def portraits() -> Dict[str, Path]:
    """One photo of each person to be enrolled, by name. Raises SourceError where there is none."""
    return {path.stem: path for path in sorted(_present(FOLDER / "portraits").glob("*.jpg"))}


def truth() -> List[List[TrueFace]]:
    """The faces of every frame of the clip, in order. Raises SourceError where the file is missing."""
    frames = []
    for line in _present(FOLDER / "truth.jsonl").read_text(encoding="utf-8").splitlines():
        faces = json.loads(line)["faces"]
        frames.append([TrueFace(face["name"], tuple(face["box"]), face["visible"]) for face in faces])
    return frames


def _present(path: Path) -> Path:
    if not path.exists():
        raise SourceError("{}: is missing; it is part of the repository (git checkout demo).".format(path))
    return path
