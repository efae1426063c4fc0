"""The kernels beside cpu.py: on the CPU, compiled by g++, and on a GPU wherever there is one.

Pyramid and crops are compared bit by bit: OpenCV for x86-64 rounds as the kernels do. OpenCV for Arm may
fuse products and sums, hence the tolerance there.
"""
import platform
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from engines.embed import ARCFACE_112, similarity_transforms
from engines.sampling import cpu
from engines.sampling.cuda import HEAD, CudaSampler, inverses, levels_table, visible_address
from engines.sampling.device import BLOCK, DeviceArray
from engines.sampling.layout import layout
from errors import UsageError
from tests import shared


@pytest.fixture
def sampler(device):
    return CudaSampler(device)


def noise(height, width, seed=0):
    """Blotches of some eight pixels: what photos have, and no finer."""
    small = np.random.RandomState(seed).randint(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def grey_levels(one, other):
    """How far apart two inputs of a network are, in grey levels: the largest and the mean difference."""
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64)) * 128
    return apart.max(), apart.mean()


def alike(found, wanted):
    """Bit by bit; on another processor than x86-64 within a grey level."""
    exact = platform.machine() in ("x86_64", "AMD64")
    return np.array_equal(found, wanted) if exact else grey_levels(found, wanted)[0] <= 1.001


def cpu_pyramid(image, plan):
    blob = np.full((1, 3, plan.height, plan.width), np.nan, np.float32)
    cpu.pyramid(cpu.Halves(image, exact=True), plan, blob)
    return blob


@pytest.mark.parametrize("size", [(720, 1280), (480, 640), (359, 601)])
def test_pyramid(sampler, size):
    image, plan = noise(*size), layout(size[0], size[1], 40, 0.709)
    found = sampler.fetch(sampler.pyramid(sampler.frame(image), plan))[0]
    assert found.shape == (1, 3, plan.height, plan.width)
    assert alike(found, cpu_pyramid(image, plan))


def test_pyramid_enlarges_bilinearly(sampler):
    image, plan = noise(60, 80), layout(60, 80, 8, 0.709)
    assert plan.levels[0].scale > 1
    assert alike(sampler.fetch(sampler.pyramid(sampler.frame(image), plan))[0], cpu_pyramid(image, plan))


def test_a_pyramid_of_another_size_leaves_nothing_of_the_one_before(sampler):
    for height, width in [(300, 500), (120, 160), (300, 500)]:
        image, plan = noise(height, width), layout(height, width, 40, 0.709)
        found = sampler.fetch(sampler.pyramid(sampler.frame(image), plan))[0]
        assert alike(found, cpu_pyramid(image, plan))


def test_pyramid_of_a_photo(sampler):
    image = cv2.imread(str(shared("photos/group/bbt_sofa.jpg")))
    plan = layout(image.shape[0], image.shape[1], 40, 0.709)
    assert alike(sampler.fetch(sampler.pyramid(sampler.frame(image), plan))[0], cpu_pyramid(image, plan))


BOXES = np.array([
    [10, 20, 33, 43], [96, 76, 119, 99],  # at their own size
    [10, 10, 69, 69], [5, 7, 140, 142], [10, 10, 20, 20],  # shrunk, shrunk much, enlarged
    [-12, -6, 11, 17], [108, 88, 231, 211], [-40, 30, 239, 309],  # over the border
    [10, 10, 57, 57], [10, 10, 81, 81], [31, 20, 126, 115],  # halves, thirds, quarters
    [-9, -9, 4, 4], [150, 120, 165, 135],  # over the border and enlarged
    [500, 500, 523, 523], [-90, 10, -20, 80], [30, 30, 20, 20],  # nothing of the picture, nothing at all
], np.float64)  # fmt: skip


@pytest.mark.parametrize("size", [24, 48])
def test_crops(sampler, size):
    image = noise(133, 160)
    frame = sampler.frame(image)
    found = sampler.fetch(sampler.crops(frame, BOXES, size))[0]
    wanted = cpu.crops(cpu.Halves(image, exact=True), BOXES, size)
    for box, one, other in zip(BOXES, found, wanted):
        assert alike(one, other), box
    assert np.all(found[-3:] == found[-1, 0, 0, 0])
    assert sampler.fetch(sampler.crops(frame, BOXES[:0], size))[0].shape == (0, 3, size, size)


def test_chips(sampler):
    image = noise(300, 400)
    points = np.stack([ARCFACE_112 * grown + [x, y] for grown, x, y in [(1, 50, 60), (1.7, 180, 100), (0.6, -20, 230)]])
    points[1, 0] += [3, 9]  # turned
    matrices = similarity_transforms(points.astype(np.float32), ARCFACE_112)
    chips, planes = sampler.chips(sampler.frame(image), matrices, 112, [127.5, 100, 90], [128, 64, 50])
    (found, blob), wanted = sampler.fetch(chips, planes), cpu.chips(image, matrices, 112)
    apart = np.abs(found.astype(int) - wanted)
    # OpenCV before 4.12 rounds the place between pixels to 1/32, which these blotches show.
    assert apart.max() <= 4 and apart.mean() < 0.5
    assert (found[2][:, 0] == 0).any() and (wanted[2] == 0).all(axis=2).sum() > 500
    assert np.abs(blob - cpu.normalise(found, [127.5, 100, 90], [128, 64, 50])).max() < 1e-5
    none, _ = sampler.chips(sampler.frame(image), matrices[:0], 112)
    assert sampler.fetch(none)[0].shape == (0, 112, 112, 3)


def test_inverses_undo_the_matrix_and_survive_one_without_area():
    turn = similarity_transforms((ARCFACE_112 * 1.3 + 5)[None].astype(np.float32), ARCFACE_112)
    there = ARCFACE_112 @ inverses(turn).reshape(2, 3)[:, :2].T + inverses(turn).reshape(2, 3)[:, 2]
    assert np.abs(there - (ARCFACE_112 * 1.3 + 5)).max() < 1e-3
    assert np.all(inverses(np.zeros((1, 2, 3))) == 0)


def test_candidates_are_those_of_the_map_in_its_order(sampler, device):
    plan = layout(480, 640, 40, 0.709)
    random = np.random.RandomState(3)
    for share in (0.9, 0.01, 0.0):  # more than come in the first copy, few, none
        scores = random.rand(*plan.cells.shape).astype(np.float32)
        offsets = random.rand(4, *plan.cells.shape).astype(np.float32)
        sent = [sampler.put(name, array).address for name, array in (("scores", scores), ("offsets", offsets))]
        cells, found, moved = sampler.candidates(plan, sent[0], sent[1], 1 - share)
        passed = cpu.candidates(plan, scores, offsets, np.float32(1 - share))
        assert all(np.array_equal(one, other) for one, other in zip((cells, found, moved), passed))
        assert len(cells) > HEAD or share < 0.5


@pytest.mark.parametrize("format", ["rgb8", "bgra8", "rgba8", "nv12"])
def test_other_formats_give_the_same_blob(sampler, format):
    image, plan = noise(120, 160), layout(120, 160, 20, 0.709)
    if format == "nv12":
        i420 = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        chroma = i420[120:].reshape(2, 60, 80).transpose(1, 2, 0).reshape(60, 160)
        other = np.concatenate([i420[:120], chroma])
        image = cv2.cvtColor(other, cv2.COLOR_YUV2BGR_NV12)
    else:
        other = cv2.cvtColor(image, getattr(cv2, "COLOR_BGR2" + format[:-1].upper()))
    found = sampler.fetch(sampler.pyramid(sampler.frame(other, format), plan))[0]
    most, mean = grey_levels(found, cpu_pyramid(image, plan))
    assert most <= 2.001 and mean < (0.4 if format == "nv12" else 0.02)


def test_half_precision(device):
    image, plan = noise(120, 160), layout(120, 160, 20, 0.709)
    half = CudaSampler(device, np.float16)
    found = half.fetch(half.pyramid(half.frame(image), plan))[0]
    assert found.dtype == np.float16
    assert np.abs(found.astype(np.float32) - cpu_pyramid(image, plan)).max() <= 1 / 128 + 1e-3


def test_what_is_no_frame_is_refused(sampler):
    with pytest.raises(UsageError, match="format is yuyv, but must be bgr8, "):
        sampler.frame(noise(40, 40), "yuyv")
    for image, format in [(noise(40, 40)[..., 0], "bgr8"), (noise(40, 40), "bgra8"), (noise(40, 40) / 2, "bgr8")]:
        with pytest.raises(UsageError, match="which is not " + format):
            sampler.frame(image, format)


def test_a_thousand_turns_allocate_nothing_and_bring_one_copy_each(host_device):
    """The candidates; what networks say comes on top. More faces than before grow a buffer once."""
    device = host_device
    sampler, image, plan = CudaSampler(device), noise(60, 80), layout(60, 80, 40, 0.709)
    scores = sampler.put("scores", np.ones(plan.cells.shape, np.float32)).address
    offsets = sampler.put("offsets", np.ones((4,) + plan.cells.shape, np.float32)).address

    def turn(number):
        frame = sampler.frame(image)
        sampler.pyramid(frame, plan)
        sampler.candidates(plan, scores, offsets, 0.5)
        sampler.crops(frame, BOXES[: number % 3], 24)
        sampler.chips(frame, np.tile(np.eye(2, 3), (number % 2, 1, 1)), 16)

    for number in range(6):
        turn(number)
    before = device.allocated, device.downloads
    for number in range(1000):
        turn(number)
    assert device.allocated == before[0] and device.downloads == before[1] + 1000


def test_memory_that_the_device_sees_is_not_copied(sampler, monkeypatch):
    pixels = noise(120, 160)
    interface = {"shape": pixels.shape, "typestr": "|u1", "data": (pixels.ctypes.data, False), "version": 3}
    mapped = np.asarray(SimpleNamespace(__array_interface__=interface, __cuda_array_interface__=interface))
    assert visible_address(mapped) == visible_address(mapped[:]) == pixels.ctypes.data
    assert visible_address(mapped[10:]) == pixels.ctypes.data + 10 * 160 * 3
    assert visible_address(mapped[:, 10:]) is None, "rows with gaps are copied"
    assert visible_address(mapped.copy()) is None and visible_address(pixels) is None
    monkeypatch.setattr(sampler, "put", None)
    assert sampler.frame(mapped).address == pixels.ctypes.data


def test_levels_begin_on_whole_blocks_and_lanes_follow_the_shrinking():
    plan = layout(720, 1280, 40, 0.709)
    table, threads = levels_table(plan)
    assert table.shape == (9, 8) and not (table[:, 6] % BLOCK).any() and threads % BLOCK == 0
    assert table[0, 7] == 2 and table[-1, 7] == 32 and list(table[:, 7]) == sorted(table[:, 7])


def test_device_arrays_tell_other_libraries_where_they_are():
    array = DeviceArray(4096, (2, 3), np.dtype(np.float16))
    assert array.nbytes == 12
    assert array.__cuda_array_interface__ == {"shape": (2, 3), "typestr": "<f2", "data": (4096, False), "version": 2}
