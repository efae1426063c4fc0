"""A real scene: everybody enrolled is named, nobody is ever named as somebody else."""
from pathlib import Path

import pytest

from benchmarks.friends import PEOPLE, Remembering, measure, read_all, reference
from engines.recognizer import Recognizer
from settings import load
from tests import ROOT, shared

# Of the frames in which the reference sees the face. Our own MTCNN, though taught by 1,524 faces that look aside, loses
# one in full profile, half covered by hair, for half a second, and with it the track and its votes: 56 % are left.
LEAST = {"mtcnn": 0.8, "mtcnn_own": 0.5}


@pytest.fixture(scope="module")
def scene():
    """The clip's frames, and who the reference sees in each of them."""
    frames = read_all(shared("video/friends1.mp4"), load(ROOT / "config.yaml"))
    assert len(frames) == 480
    assert [frame.index for frame in frames if frame.cut] == [145, 311, 442]
    return frames, reference(frames, shared("models/scrfd/scrfd_2.5g_kps_dynamic.onnx"))


@pytest.fixture(scope="module", params=["edgeface_xs mtcnn", "own mtcnn", "edgeface_xs mtcnn_own"])
def recognizer(request, shared_models):
    embedder, detector = request.param.split()
    settings = load(ROOT / "config.yaml", ["embedder.model=" + embedder, "detector.model=" + detector])
    with Recognizer.from_settings(settings) as opened:
        yield Remembering(opened), settings


@pytest.mark.parametrize("left_out", PEOPLE)
def test_each_left_out_in_turn(scene, recognizer, left_out):
    frames, counted = scene
    remembering, settings = recognizer
    found = measure(frames, counted, remembering, settings, Path(str(shared("video/friends_gallery"))), left_out)
    assert found.wrong == []
    assert found.named[left_out] == 0
    if settings.embedder.model == "edgeface_xs":
        shares = {person: round(found.share(person), 3) for person in PEOPLE if person != left_out}
        assert min(shares.values()) >= LEAST[settings.detector.model], shares
