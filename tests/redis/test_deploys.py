"""What workers run, since when: as they note it, and as `why` tells of it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from cronq.app.app import Cronq
from cronq.hosts.deploys import Deploy, Deploys, code_mark, deploy_at

T = 1767596400
OLD = Deploy(T, "web-1", ("jobs",), "5d0e9b8", "0a0a0a0a", "0.1.0")
NEW = replace(OLD, at_s=T + 60.5, revision="7f3a2c1", code="0b0b0b0b")


@pytest.fixture
def deploys(app: Cronq) -> Deploys:
    return app.deploys


def test_only_what_is_new_on_its_host_is_noted(deploys: Deploys) -> None:
    assert deploys.note(OLD)
    assert not deploys.note(replace(OLD, at_s=T + 1))
    assert deploys.note(replace(OLD, host="web-2"))
    assert deploys.note(replace(OLD, modules=("reports", "bills")))
    assert deploys.note(NEW)
    assert not deploys.note(replace(NEW, at_s=T + 99))
    assert deploys.note(replace(OLD, at_s=T + 120))  # back again

    assert [(each.host, each.revision, each.at_s) for each in deploys.read()] == [
        ("web-1", "5d0e9b8", T + 120),
        ("web-1", "7f3a2c1", T + 60.5),
        ("web-1", "5d0e9b8", T),
        ("web-2", "5d0e9b8", T),
        ("web-1", "5d0e9b8", T),
    ]


def test_the_newest_500_are_kept(deploys: Deploys, redis: Redis) -> None:
    for number in range(510):
        deploys.note(replace(OLD, host=f"pod-{number}"))

    assert [each.host for each in deploys.read()[::499]] == ["pod-509", "pod-10"]
    assert (redis.memory_usage("cronq:deploys") or 0) < 100_000


@pytest.mark.parametrize("junk", ["{", "[]", "7", '{"at": "x"}', '{"at": 5}', '{"at": 1e400, "host": "a"}'])
def test_what_cannot_be_read_hides_nothing(deploys: Deploys, redis: Redis, junk: str) -> None:
    deploys.note(OLD)
    redis.lpush("cronq:deploys", junk)

    assert deploys.note(NEW)
    assert deploys.read() == [NEW, OLD]


def test_what_a_host_ran_at_a_moment() -> None:
    other = Deploy(T + 30, "web-1", ("reports",), "", "0c0c0c0c", "0.1.0")
    notes = [NEW, other, OLD]

    assert deploy_at(notes, "web-1", "jobs", T + 59) == OLD
    assert deploy_at(notes, "web-1", "jobs.mail", T + 61) == NEW
    assert deploy_at(notes, "web-1", "reports", T + 61) == other
    assert deploy_at(notes, "web-1", None, T + 59) == other
    assert deploy_at(notes, "web-1", "jobs", T - 1) is None
    assert deploy_at(notes, "web-2", "jobs", T + 61) is None
    assert deploy_at(notes, "web-1", "job", T + 61) is None


def test_what_one_of_two_does_not_know_makes_no_difference() -> None:
    assert NEW.is_other_than(OLD)
    assert not replace(OLD, revision="").is_other_than(replace(OLD, code=""))
    assert replace(OLD, version="0.2.0").is_other_than(replace(OLD, revision="", code=""))


def test_the_mark_of_the_code_follows_the_source_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marked").mkdir()
    (tmp_path / "marked" / "__init__.py").write_text("")
    (tmp_path / "marked" / "jobs.py").write_text("import beside_marked\n")
    (tmp_path / "beside_marked.py").write_text("RATE = 5\n")
    monkeypatch.syspath_prepend(tmp_path)

    def mark(folder: Path = tmp_path) -> str:
        for name in [name for name in sys.modules if name.split(".")[0] in ("marked", "beside_marked")]:
            monkeypatch.delitem(sys.modules, name)
        __import__("marked.jobs")
        return code_mark(["marked.jobs"], str(folder))

    first, elsewhere = mark(), mark(tmp_path / "nowhere")
    assert len(first) == 8
    assert mark() == first
    (tmp_path / "beside_marked.py").write_text("RATE = 6\n")
    assert mark() != first
    assert mark(tmp_path / "nowhere") == elsewhere  # it lies neither in the package nor below the folder
    assert code_mark([], str(tmp_path)) == ""
    assert code_mark(["nothing_like_it"], str(tmp_path / "nowhere")) == ""


def test_the_mark_of_the_code_runs_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of a module that computes its attributes, of one that is imported at first use, or of a package beside."""
    ran = f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\n"
    (tmp_path / "coded").mkdir()
    (tmp_path / "coded" / "__init__.py").write_text("")
    (tmp_path / "coded" / "asked.py").write_text(f"def __getattr__(name):\n    {ran}    raise AttributeError(name)\n")
    (tmp_path / "coded" / "lazy.py").write_text(ran)
    (tmp_path / "coded_beside").mkdir()
    (tmp_path / "coded_beside" / "__init__.py").write_text(ran)
    (tmp_path / "coded_beside" / "jobs.py").write_text(ran)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("coded", "coded.asked", "coded.lazy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module("coded.asked")
    del sys.modules["coded.asked"].__file__
    spec = importlib.util.find_spec("coded.lazy")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "coded.lazy", lazy)
    spec.loader.exec_module(lazy)
    monkeypatch.setitem(sys.modules, "coded.odd", None)  # type: ignore[arg-type]

    assert len(code_mark(["coded.asked", "coded.lazy", "coded_beside.jobs"], str(tmp_path))) == 8

    assert not (tmp_path / "ran").exists()
    assert "coded_beside" not in sys.modules
    for name in ("coded", "coded.asked"):
        del sys.modules[name]
