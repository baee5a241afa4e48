"""Lines of a crontab, imported and executed: by a worker that is root, as the users they name, and by nobody else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import until
from tests.system.worker_processes import Installation, installation, is_alive

TABLE = r"""
MAILTO=ann
TZ=UTC
PATH=/usr/sbin:/usr/bin:/sbin:/bin
* * * * * nobody cd {there}; id -un > who; echo "$MAILTO $PATH $LOGNAME $(date +\%Z)" > env; cat > input%dear%nobody
0 1 1 1 * no-such-user touch {there}/never
0 2 1 1 * nobody cd {there} && sleep 1000 & echo $! > {there}/pid; wait
"""


@pytest.fixture
def shop(redis_url: str, tmp_path: Path) -> Iterator[Installation]:
    with installation(redis_url, tmp_path) as made:
        made.worker()
        yield made


@pytest.fixture
def there() -> Iterator[Path]:
    """A directory that anybody may write to."""
    with tempfile.TemporaryDirectory(prefix="cronq-there-") as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_each_line_runs_as_its_user_or_not_at_all(
    shop: Installation, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronq.app.app.has_user", lambda name: True)
    text = TABLE.format(there=there)
    report = shop.app.import_crontab(text.encode(), "/etc/cron.d/shop", system=True, tz="UTC")
    who, never, sleeper = report.created
    assert report.faults == []

    done = shop.result(who)

    assert (done.outcome, done.reason) == ("succeeded", "it ran to its end")
    assert (there / "who").read_text() == "nobody\n"
    assert (there / "input").read_text() == "dear\nnobody\n"
    assert (there / "env").read_text() == "ann /usr/sbin:/usr/bin:/sbin:/bin nobody UTC\n"

    refused = shop.result(never)

    assert (refused.outcome, refused.exit_code) == ("failed", 126)
    assert "'no-such-user'" in str(refused.reason)
    assert "the worker is root" in str(refused.reason)
    assert not (there / "never").exists()

    run_id = shop.enqueue(sleeper)
    until(lambda: (there / "pid").exists() and (there / "pid").read_text(), what=lambda: shop.logs)
    pid = int((there / "pid").read_text())
    assert is_alive(pid)
    assert shop.app.stop(sleeper) == [run_id]
    assert shop.settles(run_id).outcome == "stopped"
    assert not is_alive(pid)
