"""facenet-pytorch's MTCNN as a process of its own: benchmarks/detect.py asks, it answers.

Runs in .venv-peers, whose torch is no business of the kiosk. One JSON line in, {"photo", "threads",
"min_face", "threshold"}, one out, {"ms", "boxes", "scores", "points"}: the time of detect() alone,
picture already read.
"""

import json
import sys
import time
import types


def torchvision_stub():
    """facenet-pytorch 2.6.0 imports torchvision for two names; where it is not installed beside this
    torch, they are given here: to_tensor is not used by detect(), and batched_nms is OpenCV's
    compiled suppression, as quick as torchvision's own."""
    import cv2
    import torch

    def batched_nms(boxes, scores, groups, threshold):
        rectangles = torch.cat([boxes[:, :2], boxes[:, 2:4] - boxes[:, :2]], dim=1).numpy()
        kept = cv2.dnn.NMSBoxes(rectangles, scores.numpy(), 0.0, threshold) if len(rectangles) else []
        return torch.as_tensor(kept, dtype=torch.long).reshape(-1)  # one picture: one group

    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional",
             "torchvision.ops", "torchvision.ops.boxes")  # fmt: skip
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision"].datasets = None
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    sys.modules["torchvision.transforms"].functional = sys.modules["torchvision.transforms.functional"]
    sys.modules["torchvision.ops.boxes"].batched_nms = batched_nms


def main():
    import numpy as np
    import torch
    from PIL import Image

    try:
        import torchvision  # noqa: F401
    except ImportError:
        torchvision_stub()
    from facenet_pytorch import MTCNN

    detectors, pictures = {}, {}
    for line in sys.stdin:
        asked = json.loads(line)
        torch.set_num_threads(asked["threads"])
        wanted = asked["min_face"], asked["threshold"]
        if wanted not in detectors:
            thresholds = [0.6, 0.7, asked["threshold"]]
            detectors[wanted] = MTCNN(keep_all=True, min_face_size=asked["min_face"], thresholds=thresholds)
        if asked["photo"] not in pictures:
            pictures[asked["photo"]] = np.array(Image.open(asked["photo"]).convert("RGB"))
        detector, picture = detectors[wanted], pictures[asked["photo"]]
        start = time.perf_counter()
        found = detector.detect(picture, landmarks=True)
        spent = time.perf_counter() - start
        none = found[0] is None
        boxes, scores, points = ([] if none else np.asarray(one, float).tolist() for one in found)
        print(json.dumps({"ms": spent * 1e3, "boxes": boxes, "scores": scores, "points": points}), flush=True)


if __name__ == "__main__":
    main()
