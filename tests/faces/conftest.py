"""The command line as a person or a script meets it: words in, exit code and two streams out."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cronq import Cronq
from cronq.cli import main
from cronq.config import URL_NAMES
from cronq.jobs.registry import Registry


@dataclass(frozen=True)
class Answer:
    """What one call of cronq ended with."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr that an error is."""
        (line,) = self.err.splitlines()
        assert not line.startswith("Traceback")
        return line


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty directory and an environment without any setting; the directory."""
    for name in os.environ:
        if name.startswith("CRONQ_") or name in URL_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def here(bare: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with an empty Redis configured."""
    monkeypatch.setenv("CRONQ_REDIS_URL", redis_url)
    return bare


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Undo what a process of cronq does to logging: other tests share this one."""
    cronq, rq = logging.getLogger("cronq"), logging.getLogger("rq")
    before = (cronq.handlers[:], cronq.level, cronq.propagate, rq.level, logging.raiseExceptions)
    yield
    cronq.handlers[:], level, cronq.propagate, rq_level, logging.raiseExceptions = before
    cronq.setLevel(level)
    rq.setLevel(rq_level)


@pytest.fixture
def cronq(
    monkeypatch: pytest.MonkeyPatch, bare: Path, capsys: pytest.CaptureFixture[str], logging_as_before: None
) -> Callable[..., Answer]:
    """`cronq WORDS` within this process: quick, for verbs that import no module and start no process."""

    def call(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["cronq", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        return Answer(leaving.value.code, said.out, said.err)

    return call


@pytest.fixture
def shell(bare: Path) -> Callable[..., Answer]:
    """`cronq WORDS` as a process of its own."""

    def call(*words: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "cronq", *words], capture_output=True, text=True, timeout=60, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


def pass_at(app: Cronq, *moments_s: float) -> None:
    """Passes of a beat as if it were these moments; it leaves no thread behind."""
    beat = app.beat()
    for moment_s in moments_s:
        beat.pass_once(moment_s)
    ended = threading.Event()
    ended.set()
    beat.run(ended)


@pytest.fixture
def app(here: Path, redis_url: str) -> Iterator[Cronq]:
    """The application behind it, to set a scene with; it knows no job that other tests have defined."""
    app = Cronq(redis_url, registry=Registry())
    yield app
    app.client.close()
