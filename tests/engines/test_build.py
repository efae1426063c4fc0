"""From a catalogue entry to a ready file: where it is looked for, and what is left when that fails."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
import yaml

from engines import build, catalogue
from engines.backends.onnx import OnnxNetwork
from engines.convert.graph import Graph
from errors import ModelError, UsageError
from tests import ROOT, shared
from tests.engines.convert.weights import DATA
from tests.engines.server import FileServer


def _network(path: Path, factor: float = 2) -> bytes:
    graph = Graph("scaled")
    value = graph.input("x", ["N", 3])
    graph.add("Mul", [value, graph.weight("factor", np.array([factor], np.float32))], "mul", "y")
    graph.output("y", ["N", 3])
    graph.save(path)
    return path.read_bytes()


class Place:
    """A catalogue with one model, and folders of its own for what ships and what is built."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.shipped, self.theirs = folder / "models", folder / "theirs"
        self.built = self.shipped / "built"
        self.shipped.mkdir()
        self.theirs.mkdir()
        self.content = _network(folder / "scratch.onnx")
        self.source: Dict[str, Any] = {"file": "net.onnx", "sha256": hashlib.sha256(self.content).hexdigest()}
        self.said: List[str] = []
        monkeypatch.setattr(catalogue, "MODELS", self.shipped)
        monkeypatch.setattr(build, "SHIPPED", self.shipped)
        monkeypatch.setattr(build, "BUILT", self.built)
        monkeypatch.delenv("KIOSK_MODELS", raising=False)
        self.write()

    def write(self, *more: Dict[str, Any]) -> None:
        entry = {"kind": "detector", "type": "scaled", "files": {"detector": [self.source] + list(more)}}
        (self.shipped / "catalogue.yaml").write_text(yaml.safe_dump({"scaled": entry}))
        catalogue._parsed.cache_clear()  # written twice within one tick of the file system's clock

    def ensure(self, models_dir: Any = None) -> Path:
        return build.ensure("scaled", models_dir=models_dir, progress=self.said.append)["detector"]

    def left(self) -> List[str]:
        """What lies in the folder of built files, but for its lock and its notes."""
        return sorted(path.name for path in self.built.glob("*") if path.name not in (".lock", "catalogue.json"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Place:
    return Place(tmp_path, monkeypatch)


@pytest.mark.parametrize("where", ["net.onnx", "embed/net.onnx"])
def test_from_the_users_folder_or_one_below(place: Place, where: str) -> None:
    path = place.theirs / where
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(place.content)
    made = place.ensure(place.theirs)
    assert made == place.built / "scaled_detector.onnx"
    assert made.read_bytes() == place.content
    shutil.rmtree(str(place.theirs))  # from now on it stands by itself
    assert place.ensure() == made


def test_from_the_folder_in_the_environment(place: Place, monkeypatch) -> None:
    (place.theirs / "net.onnx").write_bytes(place.content)
    monkeypatch.setenv("KIOSK_MODELS", str(place.theirs))
    assert place.ensure().read_bytes() == place.content


def test_under_its_name_at_the_url(place: Place) -> None:
    place.source["url"] = "http://127.0.0.1:9/weights/upstream_name.onnx"
    place.write()
    (place.theirs / "upstream_name.onnx").write_bytes(place.content)
    assert place.ensure(place.theirs).read_bytes() == place.content


def test_what_ships_is_used_where_it_lies(place: Place) -> None:
    (place.shipped / "net.onnx").write_bytes(place.content)
    assert place.ensure() == place.shipped / "net.onnx"
    assert place.said == []
    assert place.left() == []


def test_what_ships_damaged_is_an_error(place: Place) -> None:
    (place.shipped / "net.onnx").write_bytes(place.content[:-1])
    with pytest.raises(ModelError, match=r"net\.onnx: is damaged .*restore it"):
        place.ensure()


def test_another_file_of_that_name_is_left_aside_and_said(place: Place) -> None:
    (place.theirs / "net.onnx").write_bytes(b"other")
    (place.theirs / "sub").mkdir()
    (place.theirs / "sub" / "net.onnx").write_bytes(place.content)
    assert place.ensure(place.theirs).read_bytes() == place.content
    assert place.said[0].startswith("{}: left aside, its SHA-256 is".format(place.theirs / "net.onnx"))


def test_by_download(place: Place) -> None:
    with FileServer(place.content) as server:
        place.source["url"] = server.url("net.onnx")
        place.write()
        assert place.ensure().read_bytes() == place.content
        assert place.ensure().exists()
        assert len(server.asked) == 1  # the second call needs no network
    assert place.left() == ["scaled_detector.onnx"]


def test_a_download_with_a_wrong_hash_leaves_nothing(place: Place) -> None:
    with FileServer(b"something else") as server:
        place.source["url"] = server.url("net.onnx")
        place.write()
        with pytest.raises(ModelError) as caught:
            place.ensure()
    assert "scaled: net.onnx is not on this machine; http" in str(caught.value)
    assert "name its folder with --models-dir" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert place.left() == []


def test_a_second_source_serves_where_the_first_fails(place: Place) -> None:
    with FileServer(place.content) as server:
        place.write({"file": "again.onnx", "sha256": place.source["sha256"], "url": server.url("again.onnx")})
        assert place.ensure().read_bytes() == place.content


def test_nowhere_to_be_had(place: Place) -> None:
    with pytest.raises(ModelError, match=r"is not on this machine; it has no public address; get net.onnx \(SHA-256"):
        place.ensure(place.theirs)
    assert place.left() == []


def test_a_file_that_does_not_load_is_not_kept(place: Place) -> None:
    (place.theirs / "net.onnx").write_bytes(b"no network")
    place.source["sha256"] = hashlib.sha256(b"no network").hexdigest()
    place.write()
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        place.ensure(place.theirs)
    assert place.left() == []


def test_a_conversion_that_fails_leaves_nothing(place: Place) -> None:
    with FileServer((DATA / "rows.pt").read_bytes()) as server:
        sha256 = hashlib.sha256(server.content).hexdigest()
        place.source.update(file="pnet.pt", url=server.url("pnet.pt"), sha256=sha256, convert="facenet")
        place.write()
        with pytest.raises(ModelError, match="is not FaceNet's"):
            place.ensure()
    assert place.left() == []


def test_what_was_made_is_noted_with_hash_and_specification(place: Place) -> None:
    (place.theirs / "net.onnx").write_bytes(place.content)
    place.ensure(place.theirs)
    note = json.loads((place.built / "catalogue.json").read_text())["scaled_detector.onnx"]
    assert note["sha256"] == place.source["sha256"]
    assert note["inputs"] == [{"name": "x", "shape": [None, 3], "dtype": "float32"}]
    assert note["outputs"] == [{"name": "y", "shape": [None, 3], "dtype": "float32"}]


def test_a_built_file_that_changed_is_made_again(place: Place) -> None:
    (place.theirs / "net.onnx").write_bytes(place.content)
    made = place.ensure(place.theirs)
    made.write_bytes(b"damaged")
    assert place.ensure(place.theirs).read_bytes() == place.content
    os.utime(str(made), (1, 1))  # a copied tree: other dates, the same content
    shutil.rmtree(str(place.theirs))
    assert place.ensure() == made


def test_damaged_notes_and_unfinished_files_do_no_harm(place: Place) -> None:
    (place.theirs / "net.onnx").write_bytes(place.content)
    place.ensure(place.theirs)
    for text in ("{", "[]", ""):
        (place.built / "catalogue.json").write_text(text)
        (place.built / "old_detector.onnx.tmp").write_bytes(b"killed")
        assert place.ensure(place.theirs).read_bytes() == place.content
        assert place.left() == ["scaled_detector.onnx"]


def test_an_entry_with_another_file_makes_it_again(place: Place) -> None:
    (place.theirs / "net.onnx").write_bytes(place.content)
    place.ensure(place.theirs)
    newer = _network(place.theirs / "newer.onnx", 3)
    place.source = {"file": "newer.onnx", "sha256": hashlib.sha256(newer).hexdigest()}
    place.write()
    assert place.ensure(place.theirs).read_bytes() == newer


def test_unknown_names_and_folders(place: Place) -> None:
    with pytest.raises(UsageError, match="There is no model 'scald' in the catalogue; did you mean scaled"):
        build.ensure("scald")
    with pytest.raises(UsageError, match=r"--models-dir: .*absent is not a folder"):
        place.ensure(place.theirs / "absent")


def test_a_folder_in_the_environment_that_is_gone_matters_only_where_it_is_needed(place: Place, monkeypatch) -> None:
    monkeypatch.setenv("KIOSK_MODELS", str(place.theirs / "absent"))
    with pytest.raises(UsageError, match=r"KIOSK_MODELS: .*absent is not a folder"):
        place.ensure()
    (place.shipped / "net.onnx").write_bytes(place.content)
    assert place.ensure() == place.shipped / "net.onnx"


# The real catalogue.


def _sources() -> Iterator[Any]:
    for name, entry in catalogue.entries().items():
        for role, sources in entry["files"].items():
            for source in sources:
                yield name, role, source


def test_every_entry_says_what_the_code_asks() -> None:
    for name, entry in catalogue.entries().items():
        assert {"kind", "threshold", "licence", "source", "files"} <= set(entry), name
        if entry["kind"] == "embedder":
            assert {"size", "dimension", "template", "mean", "std"} <= set(entry), name
            assert list(entry["files"]) == ["embedder"], name
            assert 0 < entry["threshold"] < 1 and entry["template"] in ("arcface", "facenet"), name
        else:
            assert entry["kind"] == "detector" and entry["type"] in ("mtcnn", "scrfd"), name
    for name, role, source in _sources():
        assert len(source["sha256"]) == 64 and int(source["sha256"], 16) >= 0, (name, role)
        assert source["file"].endswith(".onnx") or source.get("convert") in ("mtcnn", "facenet"), (name, role)
        assert ("package" in source) == ("member" in source), (name, role)


def test_our_own_embedder_ships() -> None:
    path = build.ensure("own", progress=lambda line: pytest.fail(line))["embedder"]
    assert path.parent == build.SHIPPED
    assert catalogue.files("own")["embedder"][0]["sha256"] in path.with_suffix(".md").read_text()
    with OnnxNetwork(path, threads=1) as network:
        found = network.run({"input": np.zeros((2, 3, 112, 112), np.float32)})["embedding"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["detector", "embedder"])
def test_every_shared_model_is_made_ready(kind: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(build, "BUILT", tmp_path)
    folder = shared("models")
    for name in catalogue.names(kind):
        if name in ("facenet", "w600k_mbf", "scrfd_10g"):
            continue  # not among them
        for role, path in build.ensure(name, models_dir=folder, progress=lambda line: None).items():
            with OnnxNetwork(path, threads=1) as network:
                if kind == "embedder":
                    entry = catalogue.entry(name, kind, "test")
                    side = entry["size"]
                    assert network.inputs[0].shape == (None, 3, side, side)
                    assert network.outputs[0].shape == (None, entry["dimension"])
                else:
                    assert network.inputs[0].shape[1] == 3, (name, role)


# The command.


def _command(*arguments: str, **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, str(ROOT / "build_engines.py")] + list(arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, env=dict(os.environ, **environment),
    )  # fmt: skip


def test_the_command_makes_a_model_ready() -> None:
    done = _command("own")
    assert (done.returncode, done.stdout) == (0, "own: ready (embedder_kiosk_112.onnx)\n")


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["edgeface"], 2, "error: There is no model 'edgeface' in the catalogue; did you mean edgeface_x"),
        (["--models-dir", "/absent", "own"], 2, "error: --models-dir: /absent is not a folder."),
        (["--set", "embedder.model=ovn"], 2, "error: embedder.model: there is no embedder 'ovn' in the catalogue; "),
        (["--set", "nonsense"], 2, "error: --set nonsense: write it as NAME=VALUE"),
    ],
)
def test_the_commands_errors_take_one_line(arguments: List[str], code: int, message: str, tmp_path: Path) -> None:
    done = _command(*arguments)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_the_command_shows_a_traceback_only_when_asked() -> None:
    done = _command("--debug", "edgeface")
    assert "Traceback" in done.stderr and "UsageError" in done.stderr


def test_ctrl_c_ends_a_download_in_one_line_and_the_next_run_goes_on(place: Place) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import build_engines\n"
        "from engines import build, catalogue\n"
        "catalogue.MODELS = build.SHIPPED = Path(sys.argv[1])\n"
        "build.BUILT = build.SHIPPED / 'built'\n"
        "catalogue.entry = lambda *_: None\n"
        "sys.exit(build_engines.main(['scaled']))\n"
    )
    with FileServer(place.content) as server:
        server.stalls_after = 100
        place.source["url"] = server.url("net.onnx")
        place.write()
        running = subprocess.Popen(
            [sys.executable, "-c", program, str(place.shipped)], cwd=str(ROOT),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
        )  # fmt: skip
        assert server.stalled.wait(30)
        until = time.time() + 30
        while "net.onnx.part" not in place.left() and time.time() < until:  # the bar stands when the file does
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
        assert running.returncode == 130
        assert errors.splitlines()[1:] == ["stopped; what was complete is kept"]
        assert set(place.left()) <= {"net.onnx.part"}
        server.stalls_after = None
        assert place.ensure().read_bytes() == place.content


def test_help_needs_no_libraries_and_shows_examples() -> None:
    done = _command("--help")
    assert done.returncode == 0
    assert "./build_engines.py --models-dir /media/usb" in done.stdout
