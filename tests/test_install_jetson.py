"""Setting up a Jetson: what the script sees and says on boards that a folder and a few small commands play."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from app.doctor import JETPACKS
from tests import ROOT

NANO = "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64"
PYTHON = """#!/bin/sh
case "$2" in
*version_info*) echo {version} ;;
*"print(tensorrt"*) echo 8.2.1.8 ;;
*jetson*) exit 1 ;;
*{broken}*) exit {code} ;;
esac
"""


class Board:
    """`broken`: a word of the check that fails on this board's Python."""

    def __init__(self, folder, release=NANO, version="3.6", broken="nothing", code=1, gigabytes=8):
        self.root, self.calls = folder / "board", folder / "changes"
        self.file("etc/nv_tegra_release", release)
        self.file("proc/device-tree/model", "NVIDIA Jetson Nano Developer Kit")
        self.file("proc/meminfo", "MemTotal: {} kB\nSwapTotal: 0 kB\n".format(gigabytes << 20))
        self.file("usr/include/python{}/Python.h".format(version), "")
        self.command("usr/bin/python3", PYTHON.format(version=version, broken=broken, code=code))
        self.command("usr/local/cuda/bin/nvcc", "#!/bin/sh\n")
        self.command("bin/id", '#!/bin/sh\ncase "$1" in -nG) echo {} ;; -un) echo anna ;; *) echo 1000 ;; esac\n')
        self.command("bin/cmake", "#!/bin/sh\n")
        self.command("bin/sudo", '#!/bin/sh\necho "$@" >>"{}"\n'.format(self.calls))

    def file(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def command(self, name, text):
        self.file(name, text.replace("{}", "users video")).chmod(0o755)

    def install(self, *arguments):
        """The exit code, and what was said."""
        path = "{}:{}".format(self.root / "bin", os.environ["PATH"])
        done = subprocess.run(
            ["bash", str(ROOT / "scripts" / "install-jetson")] + list(arguments), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, universal_newlines=True,
            env=dict(os.environ, INSTALL_ROOT=str(self.root), PATH=path),
        )  # fmt: skip
        assert not self.calls.exists(), "something was changed"
        return done.returncode, done.stdout


def test_a_pc_is_told_its_own_way():
    done = subprocess.run(["bash", str(ROOT / "scripts" / "install-jetson")], stderr=subprocess.PIPE,
                          universal_newlines=True)  # fmt: skip
    assert done.returncode == 1 and "This is no Jetson" in done.stderr and "make run" in done.stderr


def test_a_board_in_order(tmp_path):
    code, said = Board(tmp_path).install("--check")
    assert code == 0, said
    for line in ("L4T 32.7, NVIDIA Jetson Nano", "TensorRT 8.2.1.8", "OpenCV with GStreamer", "group video", "8 GB"):
        assert [one for one in said.splitlines() if one.startswith("ok ") and line in one], (line, said)
    assert "wrong" not in said and "apt" not in said and "no jetson-utils" in said


@pytest.mark.parametrize("board, says", [
    ({"gigabytes": 2}, "add --swap 4"),
    ({"release": NANO.replace("7.1", "6.1")}, "flash JetPack 4.6.1 or newer"),
    ({"version": "3.9"}, "is 3.9; JetPack 4 has 3.6"),
])  # fmt: skip
def test_what_must_be_mended_first_changes_nothing(tmp_path, board, says):
    code, said = Board(tmp_path, **board).install()
    assert code == 1 and "Nothing was changed" in said
    assert [one for one in said.splitlines() if one.startswith("wrong") and says in one], said


def test_swap_that_is_to_come_counts(tmp_path):
    assert Board(tmp_path, gigabytes=2).install("--check", "--swap", "4")[0] == 0


def test_a_numpy_that_crashes_is_not_taken_for_a_missing_opencv(tmp_path):
    board = Board(tmp_path)
    crash = '#!/bin/sh\ncase "$2" in *cv2*) [ "$OPENBLAS_CORETYPE" = ARMV8 ] || kill -ILL $$ ;; esac\n'
    board.command("usr/bin/python3", crash + PYTHON.format(version="3.6", broken="nothing", code=1)[10:])
    code, said = board.install("--check")
    assert code == 1 and "numpy crashes (Illegal instruction)" in said and "python3-opencv" not in said


def test_what_apt_can_mend_is_listed(tmp_path):
    code, said = Board(tmp_path, broken="cv2").install("--check")
    assert code == 0 and "To be installed by apt: python3-opencv" in said


def test_wrong_use_says_what_is_right(tmp_path):
    assert Board(tmp_path).install("--swap", "much") == (2, "--swap needs a number of GB, as in --swap 4.\n")
    assert Board(tmp_path).install("--all") == (2, "--all: must be --check, --swap GB or --service.\n")


def test_the_service_is_one_that_systemd_accepts(tmp_path):
    """With the places filled in as the script does it."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.copyfile("/bin/sh", str(python))
    python.chmod(0o755)
    text = (ROOT / "scripts" / "kiosk.service").read_text()
    for place, value in (("@DIR@", tmp_path), ("@USER@", "root"), ("@HOME@", tmp_path)):
        assert place in text
        text = text.replace(place, str(value))
    unit = tmp_path / "kiosk.service"
    unit.write_text(text)
    assert "Type=notify" in text and "WatchdogSec=" in text and "Restart=on-failure" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], stderr=subprocess.PIPE, universal_newlines=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_script_and_doctor_agree_on_the_oldest_jetpack():
    assert JETPACKS["32.7"].startswith("4.6.1") and "32.[0-6]" in Path(ROOT, "scripts", "install-jetson").read_text()
