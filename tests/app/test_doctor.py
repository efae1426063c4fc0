"""--doctor on this machine for real, and on machines that are played by a folder of system files."""
import os
import subprocess
import sys

import pytest

from app import doctor
from app.doctor import NOTE, OK, WRONG, Machine, examine
from gallery.store import Gallery
from settings import Settings
from tests import ROOT

NANO = {
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64",
    "proc/device-tree/model": "NVIDIA Jetson Nano 2GB Developer Kit\0",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 18.04.6 LTS"\n',
    "proc/meminfo": "MemTotal:        2027564 kB\nMemFree: 1 kB\nSwapTotal:       1013760 kB\n",
    "usr/local/cuda/version.txt": "CUDA Version 10.2.300",
}


class Played(Machine):
    """A machine of `files`, of commands that answer `commands` and modules that answer `modules`."""

    def __init__(self, root, files=(), commands=(), modules=()):
        super().__init__(root)
        self.commands, self.modules = dict(commands), dict(modules)
        for name, text in dict(files).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def output(self, *command):
        return self.commands.get(command[0], "")

    def python(self, code):
        for module, answer in self.modules.items():
            if module in code:
                return answer
        return True, "1.0"


@pytest.fixture
def settings(tmp_path):
    made = Settings()
    made.gallery.database = str(tmp_path / "gallery.db")
    return made


def lines(findings, subject):
    return [(one.state, one.text, one.remedy) for one in findings if one.subject == subject]


def one(findings, subject):
    found = lines(findings, subject)
    assert len(found) == 1, found
    return found[0]


def test_on_this_machine_it_ends_well_and_looks_at_everything(tmp_path):
    command = [sys.executable, str(ROOT / "run_kiosk.py"), "--doctor", "rtsp://me:secret@10.0.0.3/door"]
    command += ["--set", "gallery.database={}".format(tmp_path / "gallery.db")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert done.stderr == "" and done.returncode == 0, done.stdout
    for subject in ("python", "memory", "GPU", "numpy", "onnxruntime", "OpenCV", "camera", "model", "display"):
        assert [line for line in done.stdout.splitlines() if line[7:].startswith(subject)], subject
    assert "rtsp://me:***@10.0.0.3/door" in done.stdout and "secret" not in done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing is made"


def test_a_stock_nano_is_recognised_and_told_what_it_lacks(tmp_path, settings, monkeypatch):
    monkeypatch.setattr("engines.build.BUILT", tmp_path / "nothing")
    settings.capture.input = "csi://0"
    found = examine(settings, Played(tmp_path / "nano", NANO, {"nvpmodel": "NV Power Mode: 5W\n1"}, {
        "numpy": (False, "it crashes, signal 4"), "jetson_utils": (True, "not installed"),
        "cv2": (True, "4.1.1 without GStreamer"), "pycuda": (False, "No module named 'pycuda'"),
    }))  # fmt: skip
    assert one(found, "board")[1] == (
        "NVIDIA Jetson Nano 2GB Developer Kit, L4T 32.7, JetPack 4.6.1 or a later 4.6"
    )  # fmt: skip
    assert one(found, "power mode") == (NOTE, "5W", "full speed: sudo nvpmodel -m 0 && sudo jetson_clocks")
    assert one(found, "memory")[0] == NOTE and "--swap" in one(found, "memory")[2]
    assert one(found, "GPU")[1].endswith("CUDA 10.2.300")
    assert one(found, "numpy")[0] == WRONG and "OPENBLAS_CORETYPE=ARMV8" in one(found, "numpy")[2]
    assert one(found, "OpenCV")[0] == WRONG and "jetson-utils" in one(found, "OpenCV")[2]
    assert one(found, "pycuda")[0] == NOTE and "the CPU does it" in one(found, "pycuda")[2]
    assert one(found, "CSI cameras")[::2] == (WRONG, "sudo systemctl restart nvargus-daemon")
    assert one(found, "plans")[0] == NOTE


def test_an_orin_in_order_has_nothing_wrong(tmp_path, settings):
    files = dict(NANO)
    files["etc/nv_tegra_release"] = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic"
    files["proc/device-tree/model"] = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"
    files["proc/meminfo"] = "MemTotal:  7802324 kB\nSwapTotal:  3901156 kB\n"
    files["usr/local/cuda/version.json"] = '{"cuda" : {"name" : "CUDA SDK", "version" : "12.6.11"}}'
    settings.capture.input = "csi://0"
    found = examine(settings, Played(tmp_path / "orin", files, {
        "nvpmodel": "NV Power Mode: MAXN_SUPER\n2", "systemctl": "active",
    }))  # fmt: skip
    assert [finding for finding in found if finding.state == WRONG] == []
    assert "JetPack 6.1 or 6.2" in one(found, "board")[1] and one(found, "power mode")[0] == OK
    assert one(found, "GPU")[1].endswith("CUDA 12.6.11") and one(found, "CSI cameras")[0] == OK


def test_a_jetpack_that_is_too_old_is_said(tmp_path, settings):
    files = dict(NANO, **{"etc/nv_tegra_release": "# R32 (release), REVISION: 6.1, GCID: 1"})
    assert one(examine(settings, Played(tmp_path / "old", files)), "board")[::2] == (
        NOTE, "TensorRT is older than 8.2; flash JetPack 4.6.1 or newer")  # fmt: skip


def test_tensorrt_that_was_asked_for_and_is_broken_is_wrong(tmp_path, settings):
    settings.backend = "tensorrt"
    machine = Played(tmp_path / "pc", {}, {"nvidia-smi": "NVIDIA H200, 580.159.04, 143771 MiB"}, {
        "tensorrt": (False, "libnvinfer.so.8: cannot open shared object file")})  # fmt: skip
    found = examine(settings, machine)
    assert one(found, "tensorrt")[0] == WRONG and "libnvinfer" in one(found, "tensorrt")[1]
    assert "H200" in one(found, "GPU")[1]


def test_cameras_are_told_by_name_without_their_second_nodes(tmp_path, settings):
    root = tmp_path / "pc"
    files = {"dev/video0": "", "dev/video1": "", "dev/video10": ""}
    for number, (name, index) in enumerate([("HD Webcam", "0"), ("HD Webcam", "1")]):
        files["sys/class/video4linux/video{}/name".format(number)] = name + "\n"
        files["sys/class/video4linux/video{}/index".format(number)] = index
    settings.capture.input = "/dev/video3"
    found = lines(examine(settings, Played(root, files)), "camera")
    assert [text for _, text, _ in found] == [
        "/dev/video0 HD Webcam", "/dev/video10", "/dev/video3 (capture.input) is not there: the demo is shown",
    ]  # fmt: skip
    assert found[-1][2] == "set capture.input to one of these"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open everything")
def test_a_camera_without_permission_is_wrong(tmp_path, settings):
    machine = Played(tmp_path / "pc", {"dev/video0": ""})
    (tmp_path / "pc" / "dev" / "video0").chmod(0)
    assert lines(examine(settings, machine), "camera")[0][0] == WRONG


def test_a_missing_model_says_how_it_is_made(tmp_path, settings, monkeypatch):
    settings.detector.model = "mtcnn"
    monkeypatch.setattr("engines.build.BUILT", tmp_path / "nothing")
    found = lines(examine(settings, Played(tmp_path / "pc")), "model")
    assert found[0] == (NOTE, "detector mtcnn: pnet, rnet, onet not made yet", "python build_engines.py")
    settings.embedder.model = "nobody"
    assert lines(examine(settings, Played(tmp_path / "pc")), "models")[0][0] == WRONG


def test_the_database_is_counted_and_a_damaged_one_is_wrong(tmp_path, settings):
    machine = Played(tmp_path / "pc")
    assert one(examine(settings, machine), "database")[1].endswith("is made at the first start")
    with Gallery.open(settings, "own", 512, 0.4):
        pass
    before = sorted(path.name for path in tmp_path.iterdir())
    assert one(examine(settings, machine), "database")[:2] == (OK, settings.gallery.database + ": 0 people")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    os.chmod(settings.gallery.database, 0o644)
    assert one(examine(settings, machine), "database")[2].startswith("chmod 600 ")
    (tmp_path / "gallery.db").write_bytes(b"SQLite format 3\0" + b"rubbish" * 5000)
    assert one(examine(settings, machine), "database")[::2] == (WRONG, "python -m gallery check; restore a backup")


def test_a_library_that_crashes_python_is_told_and_does_not_end_the_report():
    fine, said = Machine().python("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert (fine, said) == (False, "it crashes, signal 4")
    assert Machine().python("raise ImportError('no libnvinfer')") == (False, "ImportError: no libnvinfer")
    assert Machine().output("no-such-command-here") == ""


def test_a_check_that_fails_leaves_the_others(tmp_path, settings, monkeypatch):
    def broken(machine, settings):
        raise OSError("I/O error")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (broken, doctor.system))
    found = examine(settings, Played(tmp_path / "pc", NANO))
    assert one(found, "broken")[0] == WRONG and "I/O error" in one(found, "broken")[1]
    assert one(found, "python")[0] == OK
