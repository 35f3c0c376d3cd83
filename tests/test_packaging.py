"""What is installed is what stands in the checkout: every module, and the files that modules read."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

from tests.architecture import FOLDERS, ROOT

SETUPTOOLS_MAJOR_MIN: Final = 77  # the first that reads our pyproject.toml and needs nothing else for a wheel
DATA: Final = frozenset({"*.css", "*.lua", "*.sql", "*.toml", "py.typed"})


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """The names in a wheel built from a copy, so that neither other builds nor the checkout get mixed in."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in (*FOLDERS, ".ns"):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / file, copy / file)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(copy / "dist")]
    if _setuptools_major() >= SETUPTOOLS_MAJOR_MIN:
        command.append("--no-build-isolation")
    built = subprocess.run([*command, str(copy)], capture_output=True, text=True, check=False, timeout=100)
    assert built.returncode == 0, built.stderr
    [wheel] = (copy / "dist").glob("zentra-*.whl")
    return frozenset(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_module_is_in_the_wheel(contents: frozenset[str]) -> None:
    modules = {f"zentra/{path.relative_to(ROOT).as_posix()}" for path in _files("*.py")}
    assert sorted(modules - contents) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("pattern", sorted(DATA))
def test_every_file_that_modules_read_is_in_the_wheel(contents: frozenset[str], pattern: str) -> None:
    wanted = {f"zentra/{path.relative_to(ROOT).as_posix()}" for path in _files(pattern)}
    assert wanted
    assert sorted(wanted - contents) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_nothing_else_is_in_the_wheel(contents: frozenset[str]) -> None:
    ours = {name for name in contents if not name.split("/")[0].endswith(".dist-info")}
    assert {name.split("/")[0] for name in ours} == {"zentra"}
    assert {name.split("/")[1] for name in ours} <= set(FOLDERS)
    assert "zentra/__init__.py" not in ours


def test_every_kind_of_file_that_is_not_code_is_packed_on_purpose() -> None:
    kinds = {path.name if path.name == "py.typed" else path.suffix for path in _files("*") if path.suffix != ".py"}
    assert kinds <= {pattern.removeprefix("*") for pattern in DATA}


def _files(pattern: str) -> list[Path]:
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob(pattern))
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def _setuptools_major() -> int:
    try:
        return int(metadata.version("setuptools").split(".")[0])
    except metadata.PackageNotFoundError:
        return 0
