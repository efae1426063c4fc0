"""The demo is complete, and its truth fits its clip."""
import re

import cv2
import numpy as np
import pytest

from app.capture import demo
from errors import SourceError
from tests import ROOT

FAR = 40  # pixels: smaller faces are not looked for by default


@pytest.fixture(scope="module")
def truth():
    return demo.truth()


@pytest.fixture(scope="module")
def clip():
    capture = cv2.VideoCapture(str(demo.clip()))
    assert capture.isOpened()
    pictures = []
    while True:
        read, picture = capture.read()
        if not read:
            break
        pictures.append(cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA))
    size = (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return pictures, size, rate


def _seen(truth, name, visible=0.9, size=FAR):
    faces = [[face for face in frame if face.name == name] for frame in truth]
    return [index for index, some in enumerate(faces) if some and some[0].visible >= visible and some[0].size >= size]


def test_clip_and_truth_have_the_same_frames(clip, truth):
    pictures, size, rate = clip
    assert len(pictures) == len(truth) == 600
    assert size == (960, 540)
    assert rate == pytest.approx(25)


def test_two_people_are_enrolled_and_a_third_is_not(truth):
    known = demo.portraits()
    assert list(known) == ["Barack Obama", "Eileen Collins"]
    assert {face.name for frame in truth for face in frame} == set(known) | {demo.STRANGER}
    for path in known.values():
        assert min(cv2.imread(str(path)).shape[:2]) >= 300


def test_nobody_is_there_twice_and_boxes_touch_the_picture(truth):
    for frame in truth:
        assert len({face.name for face in frame}) == len(frame)
        for face in frame:
            x1, y1, x2, y2 = face.box
            assert x1 < x2 and y1 < y2 and x2 > 0 and y2 > 0 and x1 < 960 and y1 < 540
            assert 0 < face.visible <= 1


def test_the_scene_has_what_it_is_to_show(truth):
    """Empty, a walk-up from far to near, two at once, the stranger beside each of the two, a crossing."""
    assert truth[0] == []
    sizes = [face.size for frame in truth for face in frame if face.visible > 0.9]
    assert min(sizes) < 32 and max(sizes) > 190
    collins, obama = _seen(truth, "Eileen Collins"), _seen(truth, "Barack Obama")
    stranger = _seen(truth, demo.STRANGER)
    assert min(len(collins), len(obama), len(stranger)) > 150
    for some, others in ((collins, obama), (stranger, obama), (stranger, collins)):
        assert len(set(some) & set(others)) > 20
    hidden = [face for frame in truth for face in frame if face.name == "Barack Obama" and face.visible < 0.2
              and face.box[0] > 0 and face.box[2] < 960]
    assert hidden


def test_faces_move_smoothly(truth):
    """Between two frames a face in full view stays over half of where it was: no jumps to track."""
    for before, after in zip(truth, truth[1:]):
        old = {face.name: face for face in before}
        for face in after:
            if face.name in old and face.size >= FAR:
                shift = np.abs(np.subtract(face.box, old[face.name].box)).max()
                assert shift < 0.35 * face.size


def test_the_truth_points_at_faces(clip, truth):
    """Where the truth says face there is skin: redder than it is blue, unlike the room and the suits."""
    pictures = clip[0]
    for index in range(0, 600, 10):
        for face in truth[index]:
            if face.visible >= 0.95 and face.size >= FAR:
                x1, y1, x2, y2 = (int(side / 4) for side in face.box)
                rows = slice((2 * y1 + y2) // 3, (y1 + 2 * y2) // 3)
                columns = slice((2 * x1 + x2) // 3, (x1 + 2 * x2) // 3)
                blue, _, red = pictures[index][rows, columns].reshape(-1, 3).mean(axis=0)
                assert red > 1.15 * blue, (index, face)


def test_provenance_names_every_picture():
    text = (ROOT / "demo" / "PROVENANCE.md").read_text(encoding="utf-8")
    hashes = re.findall(r'"([0-9a-f]{64})"', (ROOT / "demo" / "portraits.py").read_text())
    assert len(hashes) == 3
    for value in hashes + [path.name for path in demo.portraits().values()]:
        assert value in text


def test_a_missing_clip_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    with pytest.raises(SourceError, match=r"clip\.mp4: is missing"):
        demo.clip()
