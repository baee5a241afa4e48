"""Guarded commands: builds what `cronq exec` works with, and nothing else, for people start it every minute.

It is no part of `Cronq` because that imports beats, workers and RQ; `Cronq.exec` calls it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import inf

from cronq.clock import ServerClock
from cronq.config import Config, person
from cronq.db.client import open_client, own_client
from cronq.db.keys import Keys
from cronq.errors import ConfigError
from cronq.hosts.groups import check_group_name
from cronq.jobs.command_options import check_surroundings
from cronq.locks.renewal import LockTiming
from cronq.process.system import open_standard_fds
from cronq.process.watchdog import Watchdog
from cronq.runs.exchange import Exchange
from cronq.runs.guarded import GuardedRuns, check_guarded_name, lock_names
from cronq.runs.store import RunStore
from cronq.runs.timing import RQ_LEASE_S, Timing
from cronq.timetext import parse_duration_s
from cronq.worker.child import child_main
from cronq.worker.desk import Desk
from cronq.worker.exec import Ended, ExecParts, GuardedCommand, Order
from cronq.worker.local_guard import LocalDesk, LocalGuards, lock_directory

__all__ = ["Ended", "Order", "make_order", "run_guarded"]

#: How long one call of Redis may take.
_TIMEOUT_S = 2.0

Duration = str | int | float | timedelta


def make_order(
    host: str,
    command: Sequence[str],
    *,
    name: str | None = None,
    group: str | None = None,
    lock: bool = True,
    per_host: bool = False,
    at_a_time: int = 1,
    wait: Duration = 0,
    min_hold: Duration = 0,
    timeout: Duration | None = None,
    grace: Duration = 10,
    max_load: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    run_as: str | None = None,
) -> Order:
    """What is to be executed on *host*, as `cronq exec --help` has it.

    Durations are seconds, `"5m"`, or timedelta. Raises ConfigError or DefinitionError for what means nothing.
    """
    if not command or not command[0]:
        raise ConfigError("the command is missing")
    if at_a_time < 1:
        raise ConfigError(f"at_a_time={at_a_time}: at least one run must be allowed")
    base = os.path.basename(command[0])
    if name is None and not base:
        raise ConfigError(f"{command[0]!r} has no base name; give it a name")
    checked = check_guarded_name(base if name is None else name.replace("{host}", host))
    surroundings = {"command": list(command), "env": dict(env or {}), "cwd": cwd and os.path.abspath(cwd)}
    check_surroundings(surroundings | {"run_as": run_as})
    return Order(
        checked,
        tuple(command),
        lock_names(checked, host=host if per_host else None, count=at_a_time) if lock else (),
        group=None if group is None else check_group_name(group),
        wait_s=_span_s("wait", wait),
        min_hold_s=_span_s("min_hold", min_hold),
        timeout_s=inf if timeout is None else _span_s("timeout", timeout),
        grace_s=_span_s("grace", grace),
        max_load=max_load,
        env=dict(env or {}),
        cwd=None if cwd is None else os.path.abspath(cwd),
        run_as=run_as,
    )


def _span_s(name: str, value: Duration) -> float:
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def run_guarded(config: Config, order: Order, *, is_local: bool = False) -> Ended:
    """Run a command under guard, in the main thread; its stdin, stdout and stderr are those of this process.

    With *is_local* its locks are those of this host alone, Redis is not asked, and no ledger knows of the run. Raises
    RedisError when Redis did not answer before it began, KeyBroken, RedisUnfit.
    """
    open_standard_fds()  # where stdin is closed, the connection to Redis would be taken for it
    return GuardedCommand(order, _local_parts(config) if is_local else _parts(config)).run()


def _parts(config: Config) -> ExecParts:
    keys, clock = Keys(config.prefix), ServerClock()
    client = own_client(open_client(config.url), _TIMEOUT_S)
    runs = RunStore(client, keys, row_ttl_s=config.keep_rows_for, keep_events=config.keep_events)
    guards = GuardedRuns(
        client,
        keys,
        row_ttl_s=config.keep_rows_for,
        keep_events=config.keep_events,
        lock_ttl_s=config.lock_ttl,
        silent_s=Timing(config.lost_after).vanished_s,
    )
    renewing = own_client(client, LockTiming(config.lock_ttl).socket_s)
    exchange, renewals = (
        Exchange(
            each, keys, runs, host=config.host, pid=os.getpid(), no_commands=False, lock_ttl_s=config.lock_ttl,
            lease_s=RQ_LEASE_S,
        )
        for each in (client, renewing)
    )  # fmt: skip
    return _common(config, guards, Desk(exchange, renewals, clock.now_s), runs, clock)


def _local_parts(config: Config) -> ExecParts:
    """The same without Redis: the ledger that its guardian is given is never asked."""
    runs = RunStore(open_client(config.url), Keys(config.prefix), row_ttl_s=config.keep_rows_for)
    return _common(config, LocalGuards(lock_directory()), LocalDesk(), runs, ServerClock())


def _common(
    config: Config, guards: GuardedRuns | LocalGuards, desk: Desk | LocalDesk, runs: RunStore, clock: ServerClock
) -> ExecParts:
    return ExecParts(
        guards, desk, runs, clock, Watchdog(child_main, stdin=0), config.host, person(config.host),
        Timing(config.lost_after), config.lock_ttl,
    )  # fmt: skip
