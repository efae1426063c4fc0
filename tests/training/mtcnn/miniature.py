"""A few frames of the demo's clip as shards: the format of ../shared/detection in a second."""
import io
import json
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np

DEMO = Path(__file__).parent.parent.parent.parent / "demo"
POINTS = np.array([[0.32, 0.4], [0.68, 0.4], [0.5, 0.6], [0.35, 0.78], [0.65, 0.78]])  # about where they are in a box


def write(folder: Path, count: int = 24) -> Path:
    """`folder`/annotations.jsonl and its shard: frames that show a face, and one without."""
    truth = [json.loads(line) for line in (DEMO / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = [line["frame"] for line in truth if any(face["visible"] > 0.9 for face in line["faces"])]
    wanted = set(shown[:: len(shown) // count]) | {0}
    folder.mkdir(parents=True, exist_ok=True)
    clip = cv2.VideoCapture(str(DEMO / "clip.mp4"))
    lines: List[Dict[str, Any]] = []
    with tarfile.open(str(folder / "train-000.tar"), "w") as shard:
        for line in truth:
            going, frame = clip.read()
            if going and line["frame"] in wanted:
                name = "frame{:03}.jpg".format(line["frame"])
                add(shard, name, frame)
                split = "val" if len(lines) % 8 == 7 else "train"
                lines.append({"image": name, "shard": "train-000.tar", "split": split,
                              "source": "demo", "faces": [_face(face) for face in line["faces"]]})  # fmt: skip
    clip.release()
    (folder / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def add(shard: tarfile.TarFile, name: str, image: np.ndarray) -> None:
    data = cv2.imencode(".jpg", image)[1].tobytes()
    info = tarfile.TarInfo(name)
    info.size = len(data)
    shard.addfile(info, io.BytesIO(data))


def _face(face: Dict[str, Any]) -> Dict[str, Any]:
    x1, y1, x2, y2 = face["box"]
    size = np.array([x2 - x1, y2 - y1])
    box = [x1, y1, float(size[0]), float(size[1])]
    return {"box": box, "landmarks": (POINTS * size + [x1, y1]).tolist(), "ignore": face["visible"] < 0.5}
