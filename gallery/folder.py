"""The photo folder follows the gallery: rename, merge, delete and prune move or remove files.

Files move inside the database's transaction and move back when it fails, so that folder and tables
keep telling the same.
"""
import hashlib
import os
from pathlib import Path
from typing import Callable, List, NamedTuple, Sequence, Tuple

from errors import GalleryError, UsageError
from gallery.photos import key_of, path_of, scan
from gallery.reader import Unreadable, read_bytes
from gallery.records import Records, clean_name


class Removed(NamedTuple):
    """Files that were deleted, that stay, and what could not be done."""

    deleted: List[str]
    kept: List[str]
    problems: List[str]


def photos_of(folder: Path, name: str) -> List[Path]:
    """All photo files of one person in the folder, also refused ones."""
    name = clean_name(name)
    return [photo.path for photo in scan(folder) if _same(photo.person, name)]


def rename(records: Records, folder: Path, old: str, new: str) -> List[Tuple[str, str]]:
    """Rename a person and move the photos. Returns the moves."""
    return _move(records, folder, old, new, lambda: records.rename(old, new))


def merge(records: Records, folder: Path, source: str, target: str) -> List[Tuple[str, str]]:
    """Make `source` part of `target` and move the photos. Returns the moves."""
    return _move(records, folder, source, target, lambda: records.merge(source, target))


def delete(records: Records, folder: Path, name: str, keep_photos: bool) -> Removed:
    """Forget a person and delete the photos, or keep these and remember not to enrol them again."""
    files = photos_of(folder, name)
    result = Removed([], [], [])
    left = []
    for path in files:
        try:
            if keep_photos:
                left.append(path)
                continue
            path.unlink()
            result.deleted.append(str(path))
        except OSError as error:
            left.append(path)
            result.problems.append("{}: cannot be deleted ({}).".format(path, error.strerror))
    result.kept.extend(str(path) for path in left)
    outside = [row.path for row in records.photos("person = ?", [clean_name(name)]) if os.path.isabs(row.path)]
    result.kept.extend(path for path in dict.fromkeys(outside) if os.path.exists(path))
    records.delete(name, ignore=_hashes(left))
    if not keep_photos:
        result.problems.extend(_remove_folder(folder, name))
    return result


def gone(records: Records, folder: Path) -> List[str]:
    """Keys of photos of the folder whose file is not there any more."""
    keys = dict.fromkeys(row.path for row in records.photos() if not os.path.isabs(row.path))
    return [key for key in keys if not path_of(key, folder).exists()]


def _same(folder_name: str, name: str) -> bool:
    try:
        return clean_name(folder_name) == name
    except UsageError:
        return False


def _hashes(paths: Sequence[Path]) -> List[str]:
    digests = []
    for path in paths:
        try:
            digests.append(hashlib.sha256(read_bytes(path)).hexdigest())
        except Unreadable:  # would never be enrolled
            continue
    return digests


def _remove_folder(folder: Path, name: str) -> List[str]:
    """The person's own folder goes when it is empty; a hidden file of the system counts as nothing."""
    problems = []
    for inner in _folders(folder, name):
        for path in inner.iterdir():
            if path.name in (".DS_Store", "Thumbs.db", "desktop.ini") or path.name.startswith("._"):
                path.unlink()
        rest = sorted(path.name for path in inner.iterdir())
        if rest:
            problems.append(
                "{}: stays, because it holds {} that {} no photo.".format(
                    inner, ", ".join(rest[:3]), "is" if len(rest) == 1 else "are"
                )
            )
        else:
            inner.rmdir()
    return problems


def _folders(folder: Path, name: str) -> List[Path]:
    name = clean_name(name)
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and _same(path.name, name)]


def _move(records: Records, folder: Path, old: str, new: str, change: Callable[[], None]) -> List[Tuple[str, str]]:
    new = clean_name(new)
    files = photos_of(folder, old)
    emptied = _folders(folder, old)
    moved: List[Tuple[Path, Path]] = []
    try:
        with records.db.transaction():
            change()
            for path in files:
                target = _target(path, folder, new)
                target.parent.mkdir(mode=0o700, exist_ok=True)
                os.rename(str(path), str(target))
                moved.append((path, target))
                records.move_photo(key_of(path, folder), key_of(target, folder))
            for inner in emptied:
                if not any(inner.iterdir()):
                    inner.rmdir()
    except BaseException as error:
        for path, target in reversed(moved):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            os.rename(str(target), str(path))
        if isinstance(error, OSError):
            raise GalleryError("{}: cannot be moved ({}).".format(error.filename, error.strerror)) from error
        raise
    return [(str(path), str(target)) for path, target in moved]


def _target(path: Path, folder: Path, new: str) -> Path:
    """Where a photo goes: into NEW/, or NEW.jpg in place of OLD.jpg; a taken name gets a number."""
    in_own_folder = path.parent not in (folder, folder.parent)
    target = folder / new / path.name if in_own_folder else path.with_name(new + path.suffix)
    if target.exists() and not in_own_folder:
        target = folder / new / target.name
    number = 2
    stem = target.stem
    while target.exists():
        target = target.with_name("{}-{}{}".format(stem, number, target.suffix))
        number += 1
    return target
