"""Write what torch gives into tests/data/convert, for the Pythons without torch:

    python -m tests.parity.store      (in a venv with requirements-parity.txt, beside ../shared)
"""
from typing import Dict

import numpy as np
import torch

from tests import SHARED
from tests.engines.convert import weights
from tests.parity import networks


def outputs(role: str, tensors: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The torch network `role` (pnet, rnet, onet, facenet) with those tensors, on the test's picture."""
    network = networks.FaceNet() if role == "facenet" else networks.Mtcnn(role)
    state = {name: torch.from_numpy(array) for name, array in tensors.items() if not name.startswith("logits")}
    missing, unknown = network.load_state_dict(state, strict=False)
    wrong = [name for name in [*missing, *unknown] if not name.endswith("num_batches_tracked")]
    if wrong:
        raise ValueError("the state dict and the torch network differ in {}".format(", ".join(wrong)))
    with torch.no_grad():
        found = network.eval()(torch.from_numpy(weights.picture(role)))
    return {name: array.numpy() for name, array in found.items()}


def main() -> None:
    weights.DATA.mkdir(parents=True, exist_ok=True)
    state = networks.FaceNet().state_dict()
    rows = ["{} {}".format(name, "x".join(map(str, tensor.shape))) for name, tensor in state.items() if tensor.ndim]
    (weights.DATA / "facenet_tensors.txt").write_text("\n".join(rows) + "\n")
    arrays: Dict[str, np.ndarray] = {}
    for role in ("pnet", "rnet", "onet", "facenet"):
        tensors = weights.facenet() if role == "facenet" else weights.mtcnn(role)
        arrays.update({"{}/{}".format(role, name): array for name, array in outputs(role, tensors).items()})
        if role != "facenet":
            real = torch.load(str(SHARED / "models" / "mtcnn" / (role + ".pt")), weights_only=True)
            found = outputs(role, {name: tensor.numpy() for name, tensor in real.items()})
            arrays.update({"original_{}/{}".format(role, name): array for name, array in found.items()})
    np.savez_compressed(str(weights.OUTPUTS), **arrays)  # type: ignore[arg-type]
    small = {"half": torch.arange(6, dtype=torch.float16).reshape(2, 3), "turned": torch.arange(6.0).reshape(2, 3).T}
    small["count"] = torch.tensor(7)
    torch.save(small, str(weights.DATA / "archive.pt"))
    torch.save(small, str(weights.DATA / "rows.pt"), _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
