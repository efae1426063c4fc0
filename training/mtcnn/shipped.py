"""The files that ship: a net for each role, and one JSON with what made each of them."""
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Dict, List

from errors import UsageError

KINDS = {"pnet": "beards", "rnet": "beards", "onet": "full_aside"}  # the runs mtcnn_ROLE_KIND


def export(runs: Dict[str, Path], target: Path) -> List[Dict[str, Any]]:
    """Copy each role's net.onnx of its run's folder to `target`/mtcnn_ROLE.onnx and write mtcnn_own.json beside them:
    recipe, seed, git revision, metrics and SHA-256. Raises UsageError when a run is missing."""
    lines = []
    for role, folder in runs.items():
        if not (folder / "result.json").is_file():
            raise UsageError("{}: has no result.json; train it to its end first.".format(folder))
        file = target / "mtcnn_own_{}.onnx".format(role)
        shutil.copyfile(str(folder / "net.onnx"), str(file))
        data = file.read_bytes()
        own = {"file": file.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        lines.append(dict(json.loads((folder / "result.json").read_text(encoding="utf-8")), **own))
    (target / "mtcnn_own.json").write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    return lines
