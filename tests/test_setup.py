"""What README, Makefile and CI promise about set-up, as far as files can tell."""
import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Set

import pytest
import yaml

import settings
from tests import ROOT

OWN = {"run_kiosk", "build_engines", "app", "gallery", "engines", "settings", "errors"}
COMMANDS = {"run_kiosk", "build_engines"}
PINNED = re.compile(r"^[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*(; python_version .+)?$")


def _lines(name: str) -> List[str]:
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


def _imports(path: Path) -> Set[str]:
    """The top-level names of our own that a module imports anywhere in its text."""
    found: Set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found & OWN


def _flat(data: Dict, prefix: str = "") -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, prefix + key + ".")
        else:
            yield prefix + key


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-dev.txt", "requirements-jetson.txt", "constraints.txt"]
)
def test_every_requirement_is_pinned(name: str) -> None:
    lines = _lines(name)
    assert lines
    assert [line for line in lines if not PINNED.match(line)] == []


def test_torch_is_needed_by_the_parity_tests_alone() -> None:
    for name in ("requirements.txt", "requirements-dev.txt", "constraints.txt"):
        assert not [line for line in _lines(name) if line.startswith("torch")]
    assert [line for line in _lines("requirements-parity.txt") if line.startswith("torch==")]


def test_the_environment_holds_the_pinned_versions() -> None:
    """pip itself, asked about this interpreter: nothing to install and nothing to change."""
    report = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps",
         "-r", str(ROOT / "requirements-dev.txt")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
    )
    assert report.returncode == 0, report.stdout
    assert "Successfully installed" not in report.stdout


def test_config_yaml_lists_every_setting_with_its_default() -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    assert list(_flat(written)) == settings.keys(settings.Settings())
    assert written == dataclasses.asdict(settings.Settings())


def test_config_yaml_explains_its_settings() -> None:
    """A key has a comment, or stands under one that speaks for both (width and height)."""
    lines = (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines()
    plain = 0
    for line in lines:
        key = re.match(r"^ *([a-z_]+): *([^#]*[^# ])? *(# .+)?$", line)
        if not key or not key.group(2):  # a section, a comment, a blank line
            plain = 0
            continue
        plain = 0 if key.group(3) else plain + 1
        obvious = key.group(1) in ("database", "fullscreen")
        assert plain <= 1 or obvious, "config.yaml: {} is not explained".format(key.group(1))


def test_settings_and_errors_stand_below_everything() -> None:
    assert _imports(ROOT / "errors.py") == set()
    assert _imports(ROOT / "settings.py") == {"errors"}


def test_nothing_imports_the_commands() -> None:
    for package in ("app", "gallery", "engines"):
        for path in (ROOT / package).rglob("*.py"):
            assert not _imports(path) & COMMANDS, path


def test_imports_point_one_way() -> None:
    """What `make lint` holds on the default Python, on every Python."""
    above = {"engines": {"app", "gallery"}, "gallery": {"app"}}
    for package, forbidden in above.items():
        for path in (ROOT / package).rglob("*.py"):
            assert not _imports(path) & forbidden, path


def test_set_up_is_done_in_a_blink_when_nothing_changed(tmp_path: Path) -> None:
    """The stamp decides: with it pip is not started, without it the environment is made anew."""
    venv = tmp_path / "venv"
    command = ["bash", str(ROOT / "scripts" / "setup"), sys.executable, str(venv), "requirements.txt"]
    fake = venv / "bin" / "python"
    fake.parent.mkdir(parents=True)
    fake.symlink_to(sys.executable)
    cksum = subprocess.check_output("cat requirements*.txt constraints.txt | cksum", shell=True, cwd=str(ROOT))
    version = "{}.{}.{}".format(*sys.version_info[:3])
    (venv / "ready-requirements.txt").write_text("{} {}".format(version, cksum.decode()))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_set_up_names_a_python_that_does_not_run(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "scripts" / "setup"), str(tmp_path / "python9"), str(tmp_path), "requirements.txt"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    assert done.returncode == 1
    assert "python9 does not run here" in done.stdout


def test_find_python_skips_a_shim_that_does_not_run(tmp_path: Path) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "find-python"), "3.99"], stdout=subprocess.PIPE,
        env={"PATH": "{}:/usr/bin:/bin".format(tmp_path), "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (1, b"")
