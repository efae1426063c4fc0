"""Training crops in packs: a few files of WebP pictures that travel well and open in seconds.

A pack is an .npz with `blob` (uint8, all WebP files one after the other), `offset` (N + 1,) where
each begins, `identity` (N,) a number for each named person or -1, `source` (N,) the place in
`sources`, the names of the data sets. A crop is 128x128 RGB; its central 112x112 (rows and columns
8 to 119) is the face aligned to the ArcFace template, the margin is for shifts and turns.
"""
import csv
import io
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from errors import UsageError

SIDE = 128  # pixels of a crop
MARGIN = 8  # pixels around the aligned face
AGES = ((60, "60 and over"), (40, "40 to 59"), (18, "18 to 39"), (0, "under 18"))


class Faces(NamedTuple):
    """images (N, 128, 128, 3) uint8 RGB; identity (N,) int64, -1 = unknown; source (N,) names of data sets."""

    images: np.ndarray
    identity: np.ndarray
    source: np.ndarray


def read(packs: Sequence[Path], workers: int = 2) -> Faces:
    """All crops of the packs, in their order. Raises UsageError for a file that is no pack."""
    if not packs:
        raise UsageError("No training packs were named; make them with `python -m training.embedder pack`.")
    images: List[np.ndarray] = []
    identity: List[np.ndarray] = []
    source: List[np.ndarray] = []
    with ProcessPoolExecutor(workers) as pool:
        for path in tqdm(packs, desc="reading faces", unit="pack"):
            try:
                with np.load(str(path)) as pack:
                    blob, offset = pack["blob"], pack["offset"]
                    identity.append(pack["identity"])
                    source.append(pack["sources"][pack["source"]])
            except (OSError, KeyError, ValueError) as error:
                raise UsageError("{}: is no pack of faces ({}).".format(path, error)) from error
            files = [blob[start:end].tobytes() for start, end in zip(offset[:-1], offset[1:])]
            images.append(np.stack(list(pool.map(decode, files, chunksize=256))))
    return Faces(np.concatenate(images), np.concatenate(identity), np.concatenate(source))


def decode(file: bytes) -> np.ndarray:
    """One crop (128, 128, 3) uint8 RGB from the bytes of an image file."""
    picture = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    if picture.shape != (SIDE, SIDE, 3):
        raise UsageError("A crop is {}, but must be {}x{} RGB.".format(picture.shape, SIDE, SIDE))
    return picture


def write(path: Path, files: Sequence[bytes], identity: Sequence[int], source: Sequence[str]) -> None:
    """Write one pack; whole or not at all."""
    names = sorted(set(source))
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            blob=np.frombuffer(b"".join(files), np.uint8),
            offset=np.cumsum([0] + [len(one) for one in files]),
            identity=np.array(identity, np.int64),
            source=np.array([names.index(one) for one in source], np.int16),
            sources=np.array(names),
        )
    unfinished.replace(path)


def pack(folder: Path, target: Path) -> List[Path]:
    """Turn a folder of zip files with an index.csv (shard, name, source, identity, ...) into packs, one a zip."""
    rows = _index(folder)
    numbers = {name: number for number, name in enumerate(sorted({row["identity"] for row in rows} - {""}))}
    shards: Dict[str, List[Dict[str, str]]] = {}
    for row in rows:
        shards.setdefault(row["shard"], []).append(row)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for shard, members in sorted(shards.items()):
        with zipfile.ZipFile(str(folder / shard)) as archive:
            files = [archive.read(row["name"]) for row in members]
        written.append(target / (Path(shard).stem + ".npz"))
        write(written[-1], files, [numbers.get(row["identity"], -1) for row in members], [r["source"] for r in members])
    return written


def groups(folder: Path, target: Path, count: int) -> None:
    """A pack of `count` crops for each gender, race and age group that the folder's index.csv states; their
    `source` is the group. One crop can stand for several groups; which are taken is the same every time."""
    found: Dict[str, List[Dict[str, str]]] = {}
    for row in sorted(_index(folder), key=lambda one: zlib.crc32(one["name"].encode())):
        years = row.get("age")
        age = "age {}".format(next(name for least, name in AGES if int(years) >= least)) if years else None
        for name in (row.get("gender"), row.get("race"), age):
            if name and len(found.setdefault(name, [])) < count:
                found[name].append(row)
    if not found:
        raise UsageError("{}: states no gender, race or age of anybody.".format(folder / "index.csv"))
    files, names = [], []
    for name, members in sorted(found.items()):
        for row in members:
            with zipfile.ZipFile(str(folder / row["shard"])) as archive:
                files.append(archive.read(row["name"]))
            names.append(name)
    write(target, files, list(range(len(files))), names)


def _index(folder: Path) -> List[Dict[str, str]]:
    index = folder / "index.csv"
    if not index.is_file():
        raise UsageError("{}: is missing; it names shard, name, source and identity of each crop.".format(index))
    with index.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
