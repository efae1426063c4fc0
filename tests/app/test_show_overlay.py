"""The overlay: what can be told from the pixels, and that nothing it is given can break it."""
import numpy as np
import pytest

from app.show import theme
from app.show.advice import TEXTS, advice
from app.show.overlay import Label, Overlay, Panel, Scene, free_place, split_number, touches
from app.show.sprites import Canvas, outline, paste, rounded

GREY = 110
SIZES = [(720, 1280), (480, 640), (240, 320), (1080, 1920), (64, 48)]


@pytest.fixture(scope="module")
def overlay():
    return Overlay()


def grey(size=(720, 1280)):
    return np.full(size + (3,), GREY, np.uint8)


def drawn(overlay, labels=(), size=(720, 1280), **more):
    picture = grey(size)
    overlay.draw(picture, Scene(labels, more.pop("fps", 30.0), more.pop("enrolled", 2), **more))
    return picture


def changed(picture, left, top, right, bottom):
    return int(np.any(picture[top:bottom, left:right] != GREY, axis=2).sum())


def coloured(picture, colour):
    return int(np.all(picture == np.array(colour, np.uint8), axis=2).sum())


def test_each_state_differs_in_colour_and_in_shape(overlay):
    box = (500, 300, 700, 540)
    shapes = {}
    for state, colour in theme.STATES.items():
        picture = drawn(overlay, [Label(box, "", state)], hint="")
        assert coloured(picture, colour) > 100
        edge = np.any(picture[300:541, 495:706] != GREY, axis=2)
        assert not edge[50:190, 50:160].any()  # the face itself stays free
        shapes[state] = edge.tobytes()
        middle_of_the_side = picture[420, 490:510]
        assert np.any(middle_of_the_side != GREY) == (state != "unknown")  # an unknown face has corners only
    assert len(set(shapes.values())) == len(theme.STATES)


def test_the_label_is_above_the_face_and_below_it_at_the_upper_edge(overlay):
    picture = drawn(overlay, [Label((500, 300, 600, 400), "Anna 0.72", "known")])
    assert changed(picture, 500, 268, 600, 296) > 1000 and changed(picture, 500, 410, 600, 450) == 0
    picture = drawn(overlay, [Label((500, 2, 600, 100), "Anna 0.72", "known")])
    assert changed(picture, 500, 106, 600, 130) > 1000


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("x", [-60, 0.5, 30, 1e4])
def test_labels_stay_inside_every_picture(overlay, size, x):
    name = "Maximilian Bartholomäus von und zu Hohenzollern 0.55"
    label = Label((x, 10, x + 80, 50), name, "known", "look at the camera")
    drawn(overlay, [label] * 3, size)
    room = (0, 0, size[1], size[0])
    place = free_place(label.box, 30, 20, room, [], 1)
    if x + 80 <= 0 or x >= size[1]:
        assert place is None
    else:
        assert 0 <= place[0] <= size[1] - 30 and 0 <= place[1] <= size[0] - 20


def test_labels_do_not_cover_each_other_where_there_is_room():
    taken = [(100, 70, 200, 96)]
    x, y = free_place((100, 100, 180, 200), 90, 26, (0, 0, 640, 480), taken, 1)
    assert not touches((x, y, x + 90, y + 26), taken[0])


@pytest.mark.parametrize("box", [(float("nan"),) * 4, (5, 5, 5, 5), (90, 90, 10, 10), (-1e9, -1e9, 1e9, 1e9)])
def test_a_senseless_box_breaks_nothing(overlay, box):
    for state in theme.STATES:
        drawn(overlay, [Label(box, "Anna 0.72", state, "too dark")], (240, 320))


def test_the_advice_is_a_second_line(overlay):
    box = (500, 300, 600, 400)
    one = drawn(overlay, [Label(box, "unknown", "unknown")])
    two = drawn(overlay, [Label(box, "unknown", "unknown", "come closer")])
    only = drawn(overlay, [Label(box, "", "pending", "come closer")])
    heights = [np.flatnonzero((picture[:296, 510] != GREY).any(axis=1)).size for picture in (one, two, only)]
    assert heights[2] < heights[0] + 4 < heights[1]


def test_pace_and_number_are_at_the_upper_left_below_the_banner(overlay):
    plain = drawn(overlay, hint="")
    assert changed(plain, 16, 16, 180, 44) > 2000 and changed(plain, 0, 60, 1280, 720) == 0
    assert not np.array_equal(plain, drawn(overlay, hint="", enrolled=3))
    assert not np.array_equal(plain, drawn(overlay, hint="", fps=31.0))
    banner = drawn(overlay, hint="", banner="The camera gives no new picture: trying again.")
    assert changed(banner, 0, 0, 1280, 20) == 20 * 1280
    blue, _, red = banner[5, 5].tolist()
    assert red > blue + 80 and changed(banner, 16, 60, 180, 80) > 1000


def test_the_hint_is_at_the_lower_left(overlay):
    assert changed(drawn(overlay, hint="N enrol   Q quit"), 16, 660, 200, 704) > 2000
    assert changed(drawn(overlay, hint=""), 16, 660, 200, 704) == 0


def test_the_panel_lies_away_from_the_chosen_face(overlay):
    panel = Panel("Who is this?", ["turn a little"], "Zoë", 0.4, [np.full((112, 112, 3), 250, np.uint8)] * 2)
    right = drawn(overlay, [Label((900, 200, 1000, 320), "", "chosen")], panel=panel, hint="")
    left = drawn(overlay, [Label((200, 200, 300, 320), "", "chosen")], panel=panel, hint="")
    assert changed(right, 20, 300, 380, 420) == 360 * 120 and changed(right, 1100, 100, 1280, 720) == 0
    assert changed(left, 900, 300, 1260, 420) == 360 * 120 and changed(left, 0, 400, 600, 720) == 0
    assert coloured(right, (250, 250, 250)) > 2 * 50 * 50  # the samples


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("field", [None, "", "Zoë", "a name that is far too long for its field " * 3])
def test_a_panel_in_every_size_with_any_content(overlay, size, field):
    for progress, chips in ((None, 0), (0.0, 1), (2.0, 9), (0.5, 3)):
        samples = [np.zeros((112, 96, 3), np.uint8)] * chips
        panel = Panel("Who is this, and is this title not rather long?", ["one line"] * 3, field, progress, samples)
        drawn(overlay, [], size, panel=panel)


def test_more_progress_is_more_green(overlay):
    bars = [coloured(drawn(overlay, panel=Panel("", (), None, part)), theme.GREEN) for part in (0.0, 0.5, 1.0)]
    assert 0 == bars[0] < bars[1] < bars[2]


def test_the_same_scene_gives_the_same_picture(overlay):
    labels = [Label((500, 300, 600, 400), "Анна 0.72", "known")]
    assert np.array_equal(drawn(overlay, labels), drawn(Overlay(), labels))


@pytest.mark.parametrize(
    "text, parts",
    [("Anna 0.72", ("Anna", "0.72")), ("unknown", ("unknown", "")), ("Anna B 1.00", ("Anna B", "1.00")), ("", ("", ""))]
    + [("Area 51", ("Area 51", "")), ("0.72", ("0.72", ""))],
)
def test_the_similarity_is_told_from_the_name(text, parts):
    assert split_number(text) == parts


def test_every_reason_has_an_advice_and_the_rest_none():
    assert advice("too_small") == "come closer" and advice("several") == "one at a time"
    assert advice(None) == advice("nonsense") == ""
    assert all(2 <= len(text) <= 24 for text in TEXTS.values())


def test_a_sprite_is_laid_as_its_opacity_says():
    canvas = Canvas(4, 3)
    canvas.lay(np.full((3, 4), 255, np.uint8), (200, 100, 0), opacity=0.5)
    canvas.lay(np.full((9, 9), 255, np.uint8), (0, 0, 255), 2, -3)  # cut at the canvas
    sprite = canvas.sprite()
    picture = np.full((10, 10, 3), 100, np.uint8)
    paste(picture, sprite, 8, -1)
    assert np.allclose(picture[:2, 8:], (150, 100, 50), atol=1)
    paste(picture, sprite, 0, 0)
    assert np.allclose(picture[:3, :2], (150, 100, 50), atol=1) and np.allclose(picture[:3, 2:4], (0, 0, 255), atol=1)
    before = picture.copy()
    for x, y in ((10, 0), (-4, 0), (0, 10), (0, -3)):
        paste(picture, sprite, x, y)
    assert np.array_equal(picture, before)


def test_round_corners_are_round_and_symmetric():
    mask = rounded(60, 40, 12)
    assert mask.shape == (40, 60) and mask[0, 0] == 0 and mask[20, 0] == mask[0, 30] == 255
    assert np.array_equal(mask, mask[::-1]) and np.array_equal(mask, mask[:, ::-1])
    assert abs(float(mask.sum()) / 255 - (60 * 40 - (4 - np.pi) * 12**2)) < 3  # the area, by geometry
    assert rounded(1, 1, 50).shape == (1, 1)
    edge = outline(60, 40, 12, 2)
    assert edge[20, 30] == 0 and edge[20, 0] == 255
