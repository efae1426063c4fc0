"""The files that ship: the nets of one kind, and one JSON with what made each of them."""
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict, List

from errors import UsageError
from training.mtcnn.nets import SIZES


def export(runs: Path, kind: str, target: Path) -> List[Dict[str, Any]]:
    """Copy mtcnn_ROLE_`kind` of `runs` to `target`/mtcnn_ROLE.onnx and write mtcnn.json beside them:
    recipe, seed, git revision, metrics and SHA-256. Raises UsageError when a run is missing."""
    lines = []
    for role in SIZES:
        folder = runs / "mtcnn_{}_{}".format(role, kind)
        if not (folder / "result.json").is_file():
            raise UsageError("{}: has no result.json; train it to its end first.".format(folder))
        file = target / "mtcnn_{}.onnx".format(role)
        shutil.copyfile(str(folder / "net.onnx"), str(file))
        data = file.read_bytes()
        own = {"file": file.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        lines.append(dict(json.loads((folder / "result.json").read_text(encoding="utf-8")), **own))
    (target / "mtcnn.json").write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    return lines
