"""Sampling on the CPU: what lands in the networks' inputs, checked pixel by pixel."""

import cv2
import numpy as np
import pytest

from engines.sampling import cpu
from engines.sampling.layout import CELL, layout, map_size, scales

SIZES = [(720, 1280), (1280, 720), (630, 1200), (853, 1280), (480, 640), (240, 320), (1080, 1920), (41, 300), (57, 57)]


def picture(height, width, seed=0):
    small = np.random.RandomState(seed).randint(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def as_planes(image):
    return (image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) - 127.5) / 128


def test_scales_are_those_of_the_original():
    found = scales(720, 1280, 40, 0.709)
    assert len(found) == 9 and found[0] == 0.3 and found[1] == pytest.approx(0.2127)
    assert min(720, 1280) * found[-1] >= CELL > min(720, 1280) * found[-1] * 0.709
    assert scales(39, 1000, 40, 0.709) == [] and len(scales(40, 40, 40, 0.709)) == 1


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("min_face, factor", [(40, 0.709), (20, 0.709), (64, 0.8)])
def test_levels_lie_apart_on_even_pixels(height, width, min_face, factor):
    plan = layout(height, width, min_face, factor)
    taken = np.zeros((plan.height, plan.width), int)
    for level in plan.levels:
        rows, columns = level.height // 2 * 2, level.width // 2 * 2
        assert level.top % 2 == 0 and level.left % 2 == 0
        assert level.top + rows <= plan.height and level.left + columns <= plan.width
        taken[level.top : level.top + rows, level.left : level.left + columns] += 1
    assert taken.max(initial=0) <= 1
    cells = sum(map_size(level.height) * map_size(level.width) for level in plan.levels)
    assert (plan.cells >= 0).sum() == cells


@pytest.mark.parametrize("height, width", [size for size in SIZES if min(size) > 200])
def test_the_blob_is_well_filled(height, width):
    plan = layout(height, width, 40, 0.709)
    assert sum(level.height * level.width for level in plan.levels) > 0.88 * plan.height * plan.width


def test_a_picture_smaller_than_a_face_has_no_levels():
    plan = layout(39, 100, 40, 0.709)
    assert plan.levels == () and plan.cells.size == 0


@pytest.mark.parametrize("height, width", [(192, 288), (96, 120), (87, 121)])
def test_each_level_is_the_resized_picture(height, width):
    image = picture(height, width)
    plan = layout(height, width, 40, 0.709)
    blob = np.full((1, 3, plan.height, plan.width), np.nan, np.float32)
    cpu.pyramid(image, plan, blob)
    assert not np.isnan(blob).any()
    for level in plan.levels:
        direct = as_planes(cv2.resize(image, (level.width, level.height), interpolation=cv2.INTER_AREA))
        rows, columns = level.height // 2 * 2, level.width // 2 * 2
        here = blob[0, :, level.top : level.top + rows, level.left : level.left + columns]
        apart = np.abs(here - direct[:, :rows, :columns]) * 128
        if 1 / level.scale < 2 * cpu.KEEP:
            assert apart.max() < 1e-4
        else:  # in halves: up to 8 of 256 grey levels apart on this noise (other places: 60), 1 to 3 on photos
            assert apart.mean() < 10


def test_small_min_face_enlarges_bilinearly():
    image = picture(60, 80)
    plan = layout(60, 80, 8, 0.709)
    blob = np.zeros((1, 3, plan.height, plan.width), np.float32)
    cpu.pyramid(image, plan, blob)
    first = plan.levels[0]
    assert first.scale > 1
    direct = as_planes(cv2.resize(image, (first.width, first.height), interpolation=cv2.INTER_LINEAR))
    here = blob[0, :, first.top : first.top + first.height // 2 * 2, first.left : first.left + first.width // 2 * 2]
    assert np.abs(here - direct[:, : here.shape[1], : here.shape[2]]).max() < 1e-5


def test_crops_at_their_own_size_are_the_pixels():
    image = picture(100, 120)
    found = cpu.crops(image, np.array([[10, 20, 33, 43], [96, 76, 119, 99]]), 24)
    assert found.shape == (2, 3, 24, 24) and found.dtype == np.float32 and found.flags.c_contiguous
    assert np.allclose(found[0], as_planes(image[20:44, 10:34]))
    assert np.allclose(found[1], as_planes(image[76:100, 96:120]))


def test_crops_are_black_outside_the_picture():
    image = np.full((100, 120, 3), 255, np.uint8)
    boxes = np.array([[-12, -6, 11, 17], [108, 88, 131, 111], [500, 500, 523, 523], [30, 30, 20, 20]])
    found = cpu.crops(image, boxes, 24)
    black, white = np.float32(-127.5 / 128), np.float32(127.5 / 128)
    assert (found[0, :, :6] == black).all() and (found[0, :, :, :12] == black).all()
    assert (found[0, :, 6:, 12:] == white).all()
    assert (found[1, :, :12, :12] == white).all() and (found[1, :, 12:] == black).all()
    assert (found[2:] == black).all()


def test_crops_shrink_by_area_and_grow_bilinearly():
    image = picture(100, 120)
    found = cpu.crops(image, np.array([[10, 10, 69, 69], [10, 10, 20, 20]]), 24)
    assert np.allclose(found[0], as_planes(cv2.resize(image[10:70, 10:70], (24, 24), interpolation=cv2.INTER_AREA)))
    assert np.allclose(found[1], as_planes(cv2.resize(image[10:21, 10:21], (24, 24), interpolation=cv2.INTER_LINEAR)))


def test_large_crops_come_from_a_halved_picture_and_from_the_same_place():
    image = picture(640, 640)
    box = np.array([[100, 60, 483, 443]])
    one_step = as_planes(cv2.resize(image[60:444, 100:484], (48, 48), interpolation=cv2.INTER_AREA))
    assert np.abs(cpu.crops(image, box, 48)[0] - one_step).max() * 128 < 2  # edges on whole pixels of the quarter
    moved = cpu.crops(image, box + 1, 48)[0]  # not so here: half a pixel of the quarter at most
    assert np.abs(moved - one_step).mean() * 128 < 4


def bilinear(image):
    return cpu.Halves(image, bilinear=True)


def test_sampled_crops_are_the_pixels_at_their_own_size_and_black_outside():
    image = picture(100, 120)
    found = cpu.crops(bilinear(image), np.array([[10, 20, 33, 43], [-12, 76, 11, 99], [500, 500, 523, 523]]), 24)
    assert found.shape == (3, 3, 24, 24) and found.dtype == np.float32 and found.flags.c_contiguous
    assert np.allclose(found[0], as_planes(image[20:44, 10:34]))
    assert np.allclose(found[1, :, :, 12:], as_planes(image[76:100, :12]))
    assert (found[1, :, :, :12] == np.float32(-127.5 / 128)).all() and (found[2] == np.float32(-127.5 / 128)).all()


def test_sampled_crops_come_from_the_half_that_fits_and_from_their_very_place():
    rows, columns = np.mgrid[:640, :640].astype(np.float32) / 640 * 255
    image = np.stack([rows, columns, rows], axis=2).astype(np.uint8)  # a slope: every way to shrink it gives the same
    boxes = np.array([[100, 60, 483, 443], [101, 61, 484, 444], [30, 40, 80, 90], [7, 9, 24, 26]])
    sampled = cpu.crops(bilinear(image), boxes, 24)
    exact = cpu.crops(cpu.Halves(image, exact=True), boxes, 24)
    apart = np.abs(sampled - exact) * 128  # each halving rounds; a crop's pixel off would be 6 grey levels
    assert apart.max() <= 2.001 and apart.mean() < 0.8


def test_the_crops_of_o_are_resized_for_every_net():
    image, boxes = picture(300, 300), np.array([[10, 20, 93, 103], [-20, 5, 200, 225]])
    assert np.array_equal(cpu.crops(bilinear(image), boxes, 48), cpu.crops(image, boxes, 48))


def test_a_crop_of_a_picture_that_cannot_be_halved_so_often():
    found = cpu.crops(bilinear(np.full((3, 900, 3), 255, np.uint8)), np.array([[0, -448, 899, 451]]), 24)
    assert found.shape == (1, 3, 24, 24) and found.max() <= np.float32(127.5 / 128)


def test_a_bilinear_pyramid_comes_from_halves():
    image, plan = picture(192, 288), layout(192, 288, 40, 0.709)
    blob = np.empty((1, 3, plan.height, plan.width), np.float32)
    cpu.pyramid(bilinear(image), plan, blob)
    for level in plan.levels:
        half = image
        while half.shape[0] >= 2 * 192 * level.scale:
            half = cv2.resize(half, (half.shape[1] // 2, half.shape[0] // 2), interpolation=cv2.INTER_AREA)
        wanted = as_planes(cv2.resize(half, (level.width, level.height), interpolation=cv2.INTER_LINEAR))
        rows, columns = level.height // 2 * 2, level.width // 2 * 2
        here = blob[0, :, level.top : level.top + rows, level.left : level.left + columns]
        assert np.array_equal(here, wanted[:, :rows, :columns])


def test_scratch_keeps_nothing_of_the_picture_before():
    scratch, box = cpu.Scratch(), np.array([[0, 0, 30, 30], [500, 500, 523, 523]])
    for image in (picture(200, 300), picture(60, 80, 1)):
        plan = layout(image.shape[0], image.shape[1], 40, 0.709)
        one, other = [np.full((1, 3, plan.height, plan.width), np.nan, np.float32) for _ in range(2)]
        cpu.pyramid(image, plan, one, scratch)
        cpu.pyramid(image, plan, other)
        assert np.array_equal(one, other)
        for halves in (cpu.Halves(image), bilinear(image)):
            assert np.array_equal(cpu.crops(halves, box, 24, scratch), cpu.crops(halves, box, 24))


def test_no_crops():
    assert cpu.crops(picture(50, 50), np.zeros((0, 4)), 24).shape == (0, 3, 24, 24)


def test_chips_follow_their_matrices():
    image = picture(200, 300)
    moved = np.array([[1, 0, -30], [0, 1, -20]], np.float32)
    halved = np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32)
    away = np.array([[1, 0, 500], [0, 1, 0]], np.float32)
    found = cpu.chips(image, np.stack([moved, halved, away]), 112)
    assert found.shape == (3, 112, 112, 3) and found.dtype == np.uint8
    assert (found[0] == image[20:132, 30:142]).all()
    assert (found[1, :100] == image[:200:2, :224:2]).all() and not found[1, 101:].any() and not found[2].any()
    assert cpu.chips(image, np.zeros((0, 2, 3)), 112).shape == (0, 112, 112, 3)


def test_normalise_turns_bgr_to_rgb_planes():
    chips = np.zeros((2, 4, 4, 3), np.uint8)
    chips[..., 0], chips[..., 1], chips[..., 2] = 10, 20, 30  # blue, green, red
    one = cpu.normalise(chips, 127.5, 128)
    assert one.shape == (2, 3, 4, 4) and one.dtype == np.float32
    assert one[0, :, 0, 0] == pytest.approx([(30 - 127.5) / 128, (20 - 127.5) / 128, (10 - 127.5) / 128])
    each = cpu.normalise(chips, [30, 20, 9], [1, 2, 4])
    assert each[1, :, 3, 3].tolist() == [0, 0, 0.25]
