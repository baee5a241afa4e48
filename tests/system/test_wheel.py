"""What people install: the wheel alone, in an environment of its own, outside of any checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = """
from cronq import job

@job("* * * * * *")
def hello():
    print("hello there")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree. Needs the index, for the build's own packages."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(directory), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=150)
    (found,) = directory.glob("cronq_rq-*.whl")
    return found


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "cronq").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert packed == there
    assert {"cronq/py.typed"} < packed
    assert any(name.endswith(".lua") for name in packed)


def test_installed_alone_it_runs_the_jobs_of_a_module(wheel: Path, tmp_path: Path) -> None:
    # What it depends on comes from the environment of the tests; the package itself from the wheel alone.
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    work = tmp_path / "project"
    work.mkdir()
    (work / "jobs.py").write_text(JOBS)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("CRONQ_")}
    environment |= {"PYTHONPATH": str(site), "NO_COLOR": "1"}
    where = subprocess.run(
        [sys.executable, "-c", "import cronq; print(cronq.__file__)"],
        cwd=work, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(site))

    with (work / "dev.log").open("wb") as log:
        dev = subprocess.Popen(
            [sys.executable, "-m", "cronq", "dev", "jobs"],
            cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while "hello there" not in (said := (work / "dev.log").read_text(errors="replace")):
            assert dev.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.05)
    finally:
        dev.send_signal(signal.SIGINT)
    assert dev.wait(30) == 0
