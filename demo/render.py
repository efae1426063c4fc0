"""Render the demo clip, its truth and the enrolled portraits:  python demo/render.py

A walk-up scene made of three public-domain portraits (PROVENANCE.md): a lobby, two people whom the
kiosk knows and a stranger. Each shown face is the portrait that is enrolled, or the stranger's, so
it is re-lit, turned, sheared, blurred, made noisy and compressed on the way; that makes a demo, not
a measurement. The same seed draws the same frames (the encoder's bytes can differ). Needs the kiosk's own packages and
`pip install av==18.1.0` for the H.264 encoder. It lies here to show how the clip was made.
"""
import json
import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np
from portraits import PORTRAITS, Sprite, cut_out, load

HERE = Path(__file__).resolve().parent
SIZE = WIDTH, HEIGHT = 960, 540
FPS = 25
SECONDS = 24
MARGIN_X, MARGIN_Y = 320, 180  # of the lobby around what the camera sees at rest
FACE_WIDTH = {"Eileen Collins": 140, "Barack Obama": 180, "Joe Biden": 150}  # pixels of the cut-out
STRANGER = "stranger"

# Where each person's face is: seconds, x in pixels of the lobby, width of the face in pixels.
WALKS: Dict[str, List[List[Tuple[float, float, float]]]] = {
    "Eileen Collins": [
        [(0.6, 500, 26), (2.0, 470, 44), (4.5, 380, 105), (6.0, 350, 125), (10.3, 330, 128), (12.2, -240, 135)],
        [(20.6, -160, 88), (22.4, 240, 104), (24.1, 300, 108)],
    ],
    "Barack Obama": [
        [(7.8, 1220, 95), (10.0, 660, 125), (12.5, 560, 165), (13.8, 530, 200), (15.2, 540, 196), (17.0, 640, 150),
         (19.6, 620, 140), (22.0, -330, 140)],
    ],
    "Joe Biden": [
        [(12.8, -160, 84), (15.2, 190, 100), (17.4, 300, 112), (18.6, 620, 155), (19.6, 860, 150), (22.5, 640, 120),
         (24.1, 620, 122)],
    ],
}
# Seconds, the point of the lobby in the middle of the picture, zoom, roll in degrees.
CAMERA = [(0, 480, 270, 1, 0), (4.8, 480, 270, 1, 0), (6.6, 390, 255, 1.3, 1), (7.8, 410, 255, 1.28, -1),
          (9.6, 520, 270, 1, 0), (14, 500, 275, 1.02, 0.5), (18, 470, 268, 1.05, -0.5), (24, 480, 270, 1, 0)]
# Seconds, gain, gamma, warmth (gain of red over blue).
LIGHT = [(0, 0.95, 1, 1), (4, 1.06, 0.95, 1.06), (8, 0.8, 1.15, 0.95), (11, 1, 1, 1), (14, 1.12, 0.9, 1.05),
         (17, 0.76, 1.2, 0.93), (20, 0.95, 1.05, 1.04), (24, 1.05, 1, 1)]


class Shown(NamedTuple):
    """A person in one frame: the transform from cut-out to frame and the width of the face in the lobby."""

    name: str
    transform: np.ndarray
    width: float


def between(keys: Sequence[Tuple[float, ...]], time: float) -> np.ndarray:
    """Values at `time`, smoothly from one key (seconds, values...) to the next."""
    table = np.array(keys, np.float64)
    after = int(np.clip(np.searchsorted(table[:, 0], time, "right"), 1, len(table) - 1))
    start, end = table[after - 1], table[after]
    part = np.clip((time - start[0]) / (end[0] - start[0]), 0, 1)
    linear, smooth = part, part * part * (3 - 2 * part)
    return start[1:] + (end[1:] - start[1:]) * (0.6 * linear + 0.4 * smooth)


def lobby(seed: int) -> np.ndarray:
    """The empty room, float32 BGR 0..1: wall, door, windows, floor, all drawn."""
    height, width = HEIGHT + 2 * MARGIN_Y, WIDTH + 2 * MARGIN_X
    floor = 520
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    room = np.array([0.62, 0.68, 0.70], np.float32) * (1.05 - 0.35 * rows) * np.ones((1, width, 1), np.float32)
    depth = np.linspace(0, 1, height - floor, dtype=np.float32)[:, None, None]
    room[floor:] = np.array([0.34, 0.40, 0.46], np.float32) * (0.75 + 0.45 * depth)
    for x in range(-2000, 4000, 160):  # joints of the floor, towards one vanishing point
        cv2.line(room, (width // 2 + (x - width // 2) // 6, floor), (x, height), (0.29, 0.34, 0.39), 2, cv2.LINE_AA)
    for left in (120, 420, 1040, 1330):
        cv2.rectangle(room, (left, 150), (left + 170, 430), (0.80, 0.78, 0.72), -1)
        cv2.rectangle(room, (left, 150), (left + 170, 430), (0.42, 0.44, 0.45), 6)
        cv2.line(room, (left + 85, 150), (left + 85, 430), (0.42, 0.44, 0.45), 4)
    cv2.rectangle(room, (690, 230), (930, floor), (0.33, 0.36, 0.38), -1)
    cv2.rectangle(room, (690, 230), (930, floor), (0.28, 0.30, 0.30), 8)
    cv2.rectangle(room, (0, floor - 14), (width, floor), (0.40, 0.42, 0.43), -1)
    room = cv2.GaussianBlur(room, (0, 0), 2.2)  # the camera focuses on people
    grain = np.random.RandomState(seed).rand(height // 40, width // 40).astype(np.float32)
    return room * (0.94 + 0.12 * cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC))[..., None]


def camera_at(time: float) -> np.ndarray:
    """3x3, lobby to frame, with the small unrest of a hand-held camera."""
    x, y, zoom, roll = between(CAMERA, time)
    x, y = x + 1.2 * math.sin(2.1 * time), y + 0.9 * math.sin(2.9 * time + 1)
    turn = np.vstack([cv2.getRotationMatrix2D((x, y), roll, zoom), [0, 0, 1]])
    move = np.array([[1, 0, WIDTH / 2 - x], [0, 1, HEIGHT / 2 - y], [0, 0, 1]])
    return move.dot(turn)


def place(name: str, sprite: Sprite, time: float, camera: np.ndarray) -> List[Shown]:
    """The person as seen at `time` (none, or one): position, gait, turn, shear and a little perspective."""
    for walk in WALKS[name]:
        if not walk[0][0] <= time <= walk[-1][0]:
            continue
        x, width = between(walk, time)
        phase = len(name) + 2 * math.pi * time
        y = 190 + 0.4 * width + 0.02 * width * math.sin(1.7 * phase)
        scale = width / (sprite.face[2] - sprite.face[0])
        roll = math.radians(4 * math.sin(0.23 * phase) + 1.5 * math.sin(0.85 * phase))
        shear, squeeze = 0.05 * math.sin(0.31 * phase), 1 + 0.05 * math.sin(0.19 * phase)
        tilt = 0.035 * math.sin(0.27 * phase) / (sprite.face[2] - sprite.face[0])
        centre = np.array([[1, 0, -(sprite.face[0] + sprite.face[2]) / 2],
                           [0, 1, -(sprite.face[1] + sprite.face[3]) / 2], [0, 0, 1]])
        warp = np.array([[squeeze, shear, 0], [0, 1, 0], [tilt, 0, 1]])
        turn = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
        grow = np.array([[scale, 0, x], [0, scale, y], [0, 0, 1]])
        return [Shown(name, camera.dot(grow).dot(turn).dot(warp).dot(centre), width)]
    return []


def draw(frame: np.ndarray, sprite: Sprite, shown: Shown, time: float) -> np.ndarray:
    """Blend one person over `frame` in place; returns the alpha that covers it."""
    half = int(np.clip(math.floor(math.log2(FACE_WIDTH[shown.name] / shown.width)), 0, len(sprite.levels) - 1))
    level = shown.transform.dot(np.diag([2.0**half, 2.0**half, 1]))
    person = cv2.warpPerspective(sprite.levels[half], level, SIZE, flags=cv2.INTER_LINEAR)
    middle = box_of(sprite, shown)
    side = 0.22 * math.sin(0.9 * time + len(shown.name))  # light from the left, then from the right
    columns = (np.arange(WIDTH) - (middle[0] + middle[2]) / 2) / shown.width
    light = (1 + np.clip(side * columns, -0.3, 0.3)) * (0.94 + 0.08 * math.sin(0.7 * time + 2 * len(shown.name)))
    floor = np.array([[[sprite.feet, len(sprite.levels[0]) - 4.0]]])
    feet = cv2.perspectiveTransform(floor, shown.transform)
    across = int(1.3 * shown.width)
    shadow = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(shadow, tuple(int(value) for value in feet[0, 0]), (across, across // 5), 0, 0, 360, 0.45, -1)
    frame *= 1 - cv2.GaussianBlur(shadow, (0, 0), max(1.0, 0.12 * across))[..., None]
    frame *= 1 - person[..., 3:]
    frame += person[..., :3] * light.astype(np.float32)[None, :, None]
    return person[..., 3]


def box_of(sprite: Sprite, shown: Shown) -> List[float]:
    """The face box in the frame, x1 y1 x2 y2: the middles of its sides, carried over."""
    x1, y1, x2, y2 = sprite.face
    middles = np.array([[[x1, (y1 + y2) / 2], [(x1 + x2) / 2, y1], [x2, (y1 + y2) / 2], [(x1 + x2) / 2, y2]]])
    left, top, right, bottom = cv2.perspectiveTransform(middles, shown.transform)[0]
    return [float(left[0]), float(top[1]), float(right[0]), float(bottom[1])]


def visible_part(box: List[float], covered: np.ndarray) -> float:
    """How much of the oval of a face is inside the picture and not behind somebody, 0..1."""
    centre = (int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2))
    axes = (int((box[2] - box[0]) / 2), int((box[3] - box[1]) / 2))
    oval = cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.float32), centre, axes, 0, 0, 360, 1, -1)
    return min(1.0, float((oval * (1 - covered)).sum()) / (math.pi * axes[0] * axes[1]))


def finish(frame: np.ndarray, time: float, noise: np.random.RandomState) -> np.ndarray:
    """What lens, sensor and exposure do; float BGR 0..1 in, uint8 out."""
    gain, gamma, warmth = between(LIGHT, time)
    frame = cv2.GaussianBlur(frame, (0, 0), 0.55 + 0.2 * (1 + math.sin(0.8 * time)))
    frame = np.clip(frame * gain * np.array([1 / warmth, 1, warmth]), 0, 1) ** gamma
    frame += 0.008 * noise.standard_normal((HEIGHT, WIDTH, 1)) + 0.004 * noise.standard_normal((HEIGHT, WIDTH, 3))
    return (np.clip(frame, 0, 1) * 255).round().astype(np.uint8)


def scene(sprites: Dict[str, Sprite], room: np.ndarray, time: float) -> Tuple[np.ndarray, List[dict]]:
    """One frame before lens and sensor, and who is in it."""
    camera = camera_at(time)
    shift = np.array([[1, 0, -MARGIN_X], [0, 1, -MARGIN_Y], [0, 0, 1.0]])
    frame = cv2.warpPerspective(room, camera.dot(shift), SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    people = [shown for name in sprites for shown in place(name, sprites[name], time, camera)]
    people.sort(key=lambda shown: shown.width)  # from far to near
    alphas = [draw(frame, sprites[shown.name], shown, time) for shown in people]
    faces = []
    for index, shown in enumerate(people):
        covered = np.max([np.zeros((HEIGHT, WIDTH), np.float32)] + alphas[index + 1 :], axis=0)
        box = box_of(sprites[shown.name], shown)
        visible = visible_part(box, covered)
        if visible > 0.02:
            known = any(portrait.enrolled for portrait in PORTRAITS if portrait.name == shown.name)
            faces.append({"name": shown.name if known else STRANGER, "box": [round(side, 1) for side in box],
                          "visible": round(visible, 2)})
    return frame, faces


def enrolled_picture(picture: np.ndarray, face: Sequence[float]) -> np.ndarray:
    """Head and shoulders as a photo for the gallery: the untouched portrait, 400 pixels wide, face about 120."""
    x1, y1, x2, y2 = face
    side = 3.3 * (x2 - x1)
    left, top = max(0, int((x1 + x2 - side) / 2)), max(0, int((y1 + y2 - side) / 2))
    crop = picture[top : top + int(side), left : left + int(side)]
    scale = 400.0 / crop.shape[1]
    return cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def encode(frames: List[np.ndarray], path: Path) -> None:
    import av  # only here: the kiosk itself never needs it

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "27", "preset": "slow", "g": "50", "x264-params": "threads=1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())


def main(seed: int = 7) -> None:
    pictures = load()
    sprites = {entry.name: cut_out(pictures[entry.name], entry, FACE_WIDTH[entry.name]) for entry in PORTRAITS}
    (HERE / "portraits").mkdir(exist_ok=True)
    for entry in PORTRAITS:
        if entry.enrolled:
            path = HERE / "portraits" / (entry.name + ".jpg")
            picture = enrolled_picture(pictures[entry.name], entry.face)
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    room, noise = lobby(seed), np.random.RandomState(seed)
    frames, lines = [], []
    for index in range(FPS * SECONDS):
        frame, faces = scene(sprites, room, index / FPS)
        frames.append(finish(frame, index / FPS, noise))
        lines.append(json.dumps({"frame": index, "faces": faces}, sort_keys=True))
    encode(frames, HERE / "clip.mp4")
    (HERE / "truth.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
