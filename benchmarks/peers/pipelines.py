"""The loops that people use instead, one frame after the other: benchmarks/kiosk.py asks, these answer.

  pipelines.py facenet-pytorch CLIP THREADS [LIMIT]   MTCNN + Inception-ResNet-v1, in .venv-peers
  pipelines.py yunet CLIP THREADS ...                 OpenCV's YuNet + a recogniser
  pipelines.py scrfd CLIP THREADS ...                 InsightFace's SCRFD + a recogniser, through onnxruntime

Each detects and embeds every face of every frame and compares with six people: no tracks, no votes,
no drawing. The first frames (WARM_UP) are not counted. Prints one JSON line.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

WARM_UP = 3  # frames
SIZE = 112  # pixels of an aligned face
# Five points of ArcFace's template in a chip of 112 pixels (InsightFace's face_align.py).
TEMPLATE = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]


def facenet_pytorch(options):
    import numpy as np
    import torch

    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from facenet_pytorch_mtcnn import torchvision_stub

    try:
        import torchvision  # noqa: F401
    except ImportError:
        torchvision_stub()
    from facenet_pytorch import MTCNN, InceptionResnetV1
    from PIL import Image

    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    detector = MTCNN(keep_all=True, min_face_size=40)
    # No weights are loaded: random ones take the same time, and their names mean nothing.
    network = InceptionResnetV1(pretrained=None).eval()
    people = torch.eye(6, 512)

    def look(image):
        picture = Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))
        boxes, _ = detector.detect(picture)
        if boxes is None:
            return 0
        chips = detector.extract(picture, boxes, None)
        (torch.nn.functional.normalize(network(chips)) @ people.T).argmax(dim=1)
        return len(boxes)

    return look


def session(path, threads):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def embedder(options):
    """(image, five points of each face) -> names; as the scripts around these models write it."""
    import cv2
    import numpy as np

    network = session(options.embedder, options.threads)
    name = network.get_inputs()[0].name
    template = np.array(TEMPLATE, np.float32)
    people = np.eye(6, 512, dtype=np.float32)

    def recognise(image, points):
        if not len(points):
            return
        chips = []
        for five in points:
            matrix = cv2.estimateAffinePartial2D(five.astype(np.float32), template, method=cv2.LMEDS)[0]
            chips.append(cv2.warpAffine(image, matrix, (SIZE, SIZE)))
        blob = cv2.dnn.blobFromImages(chips, 1 / 127.5, (SIZE, SIZE), (127.5,) * 3, swapRB=True)
        found = network.run(None, {name: blob})[0]
        (found / np.linalg.norm(found, axis=1, keepdims=True) @ people.T).argmax(axis=1)

    return recognise


def yunet(options):
    import cv2

    detector = cv2.FaceDetectorYN.create(str(options.detector), "", (320, 320), 0.7, 0.3, 5000)
    recognise = embedder(options)

    def look(image):
        detector.setInputSize(image.shape[1::-1])
        found = detector.detect(image)[1]
        if found is None:
            return 0
        recognise(image, found[:, 4:14].reshape(-1, 5, 2))
        return len(found)

    return look


def scrfd(options):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from benchmarks.reference_scrfd import ReferenceScrfd

    detector = ReferenceScrfd(options.detector, threads=options.threads)
    recognise = embedder(options)

    def look(image):
        _, _, points = detector.detect(image)
        recognise(image, points)
        return len(points)

    return look


def frames(clip, limit):
    import cv2

    capture = cv2.VideoCapture(clip)
    while limit is None or limit > 0:
        more, image = capture.read()
        if not more:
            return
        yield image
        limit = None if limit is None else limit - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", choices=("facenet-pytorch", "yunet", "scrfd"))
    parser.add_argument("clip")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--detector")
    parser.add_argument("--embedder")
    options = parser.parse_args()
    import cv2

    cv2.setNumThreads(options.threads)
    look = {"facenet-pytorch": facenet_pytorch, "yunet": yunet, "scrfd": scrfd}[options.pipeline](options)
    for image in frames(options.clip, WARM_UP):
        look(image)
    times, faces = [], 0
    cpu, start = time.process_time(), time.perf_counter()
    for image in frames(options.clip, options.limit):
        begun = time.perf_counter()
        faces += look(image)
        times.append(time.perf_counter() - begun)
    seconds = time.perf_counter() - start
    times = sorted(times)
    percentiles = {"p{}_ms".format(p): 1e3 * times[min(len(times) - 1, len(times) * p // 100)] for p in (50, 95, 99)}
    answer = {
        "frames": len(times),
        "fps": len(times) / seconds,
        "faces": faces / len(times),
        "cpu_ms": 1e3 * (time.process_time() - cpu) / len(times),
        "stages": {"frame": percentiles},
    }
    sys.stdout.flush()
    os.write(1, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    main()
