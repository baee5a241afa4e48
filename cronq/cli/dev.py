"""`cronq dev`: a private Redis, a beat and a worker in one terminal, with one log. For development only.

In production each process belongs to a real supervisor: systemd, a container runtime, a Procfile runner.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cronq.app.processes import die_with_parent
from cronq.cli.options import call_state, load_config, open_app, options_of_cronq
from cronq.cli.output import left, moment, print_table, say, say_problems
from cronq.clock import Stop, boot_s, rest
from cronq.config import PRIVATE_URL_FILE, environment

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import StoredJob
    from cronq.cli.private_redis import PrivateRedis
    from cronq.config import Config

#: On the way out: TERM lets a run end, a second TERM ends it, then KILL; seconds for each.
_STAGES = ((signal.SIGTERM, 5.0), (signal.SIGTERM, 12.0), (signal.SIGKILL, 5.0))
_LOOK_S = 0.2
_MOST_SHOWN = 15
#: Characters of one line; a longer one is shown as several.
_MOST_LINE = 8192
_COLOURS = {"redis": "magenta", "beat": "cyan", "worker": "green"}
#: A log line of a beat or worker, to be shortened to its time and words.
_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\.\d{3}Z (\w+) cronq\.\w+ (.*)")
_TALK = "cronq: "


class _Screen:
    """Merges the output of the processes, a line at a time. When nobody reads any more, `is_closed`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has_failed = False
        self.colour = sys.stdout is not None and sys.stdout.isatty() and not environment().get("NO_COLOR")

    def say(self, words: str = "") -> None:
        with self._lock:
            try:
                click.echo(words)
            except (OSError, ValueError):
                self._has_failed = True

    def line(self, name: str, words: str) -> None:
        """Show a line of the process *name*: `06:42:00 worker  FINISH …`, or output of a job after a bar."""
        found = _LOG_LINE.fullmatch(words)
        clock = " " * 8
        if found:
            clock, level, words = found.groups()
            words = words if level in ("INFO", "DEBUG") else f"{level} {words}"
        elif words.startswith(_TALK):
            words = words.removeprefix(_TALK)
        else:
            words = f"| {words}"
        label = click.style(f"{name:<7}", fg=_COLOURS.get(name)) if self.colour else f"{name:<7}"
        self.say(f"{clock} {label} {words}")

    @property
    def is_closed(self) -> bool:
        """Return True if the reader is gone: `cronq dev | head`, or a terminal that was closed."""
        if self._has_failed:
            return True
        try:
            poller = select.poll()  # without events: only errors and hang-ups are reported
            poller.register(sys.stdout.fileno(), 0)
            return bool(poller.poll(0))
        except (OSError, ValueError, AttributeError):
            return False


@dataclass
class _Process:
    name: str
    popen: subprocess.Popen[str]
    reader: threading.Thread


class _Dev:
    """The processes of one `cronq dev`."""

    def __init__(self, ctx: click.Context, config: Config) -> None:
        self.screen = _Screen()
        self.stop = Stop()
        self.private: PrivateRedis | None = None
        self._debug = bool(call_state(ctx).get("debug"))
        self._processes: list[_Process] = []
        self._asked = 0
        self._env = environment() | {
            "CRONQ_REDIS_URL": config.url,
            "CRONQ_PREFIX": config.prefix,
            "CRONQ_JOBS": " ".join(config.jobs),
            "PYTHONUNBUFFERED": "1",
        }

    def listen(self) -> None:
        """Let Ctrl-C, TERM and a closed terminal end it; `nohup` keeps its meaning."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self._asked += 1
        self.stop.set()

    def start_redis(self, private: PrivateRedis) -> str:
        """Start the private Redis. Return its version."""
        self.private = private
        self._env["CRONQ_REDIS_URL"] = private.url
        me = os.getpid()
        return private.start(lambda: die_with_parent(me, signal.SIGTERM))

    def start(self, verbs: dict[str, list[str]]) -> None:
        """Start verbs of cronq, each in a session of its own, so that Ctrl-C reaches only us."""
        me = os.getpid()
        debug = ["--debug"] if self._debug else []
        for name, words in verbs.items():  # all of them before the first thread: a fork and threads go ill together
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "cronq", *debug, name, "--within-dev", *words],
                env=self._env, text=True, errors="replace", bufsize=1,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=lambda: die_with_parent(me),
            )  # fmt: skip
            reader = threading.Thread(target=self._read, args=(name, popen), daemon=True)
            self._processes.append(_Process(name, popen, reader))
        for process in self._processes:
            process.reader.start()

    def _read(self, name: str, popen: subprocess.Popen[str]) -> None:
        assert popen.stdout is not None
        while piece := popen.stdout.readline(_MOST_LINE):  # a job may print on and on without a line's end
            self.screen.line(name, piece.rstrip("\n"))

    def watch(self) -> int:
        """Wait until told to stop, or until a process ends that should not. Return the exit code."""
        while not rest(_LOOK_S, self.stop):
            if self.screen.is_closed:
                return 0
            ended = {process.name: process.popen.poll() for process in self._processes}
            if self.private is not None and self.private.process is not None:
                ended["private Redis"] = self.private.process.poll()
            for name, code in ended.items():
                if code is not None:
                    how = f"with code {code}" if code >= 0 else f"by signal {-code}"
                    say(f"the {name} ended {how}; stopping the rest")
                    return 1
        return 0

    def end(self) -> None:
        """End all processes, the Redis last."""
        redis = self.private.process if self.private is not None else None
        count = sum(each.poll() is None for each in [redis, *(process.popen for process in self._processes)] if each)
        for stage, (number, patience_s) in enumerate(_STAGES):
            alive = [process for process in self._processes if process.popen.poll() is None]
            if not alive:
                break
            if stage:
                names = " and ".join(process.name for process in alive)
                self.screen.say(f"{'ending' if number != signal.SIGKILL else 'killing'} the {names}")
            for process in alive:
                process.popen.send_signal(number)
            self._await_end(alive, patience_s)
        for process in self._processes:
            if process.reader.is_alive():
                process.reader.join(2)
        if self.private is not None:
            self.private.stop()
        if count:
            self.screen.say(f"stopped {count} process{'' if count == 1 else 'es'}")

    def _await_end(self, alive: list[_Process], patience_s: float) -> None:
        """Wait until they have ended, at most *patience_s*, or until somebody presses Ctrl-C once more."""
        begun, asked, has_said = boot_s(), self._asked, False
        nap = threading.Event()
        while any(process.popen.poll() is None for process in alive):
            waited_s = boot_s() - begun
            if waited_s > patience_s or self._asked > asked:
                return
            if waited_s > 1 and not has_said:
                has_said = True
                self.screen.say("a run is still at work; Ctrl-C again ends it at once")
            nap.wait(0.05)


@click.command("dev")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@options_of_cronq
@click.pass_context
def dev_command(ctx: click.Context, modules: tuple[str, ...]) -> int:
    """Run all of it here: Redis, a beat and a worker for the jobs of MODULEs, in one log. Ctrl-C ends it all.

    Without a configured URL a private Redis is started; its data stays in .cronq/. Other cronq commands in this
    directory find it by themselves. After a change of code start it anew.
    """
    from cronq.cli.private_redis import PrivateRedis, Room

    config = load_config(ctx, jobs=modules)
    if not config.jobs:
        raise click.UsageError("name the modules with your jobs: cronq dev MODULE..., or set jobs in [tool.cronq]")
    dev = _Dev(ctx, config)
    dev.listen()
    with ExitStack() as stack:
        room = Room(Path.cwd())
        stack.callback(room.leave)
        stack.callback(dev.end)
        if config.origin("url") in ("default", PRIVATE_URL_FILE):
            private = PrivateRedis(room.path / "redis")
            version = dev.start_redis(private)
            room.tell(private.url)
            call_state(ctx)["url"] = private.url
            dev.screen.say(f"redis   private {version}, data kept in {os.path.relpath(private.home)}")
        else:
            dev.screen.say(f"redis   {config.shown_url} (from {config.origin('url')})")
        queues = _introduce(ctx, dev.screen, config.jobs, is_private=dev.private is not None)
        if not dev.stop.is_set():
            dev.start({"beat": [], "worker": queues})
        return dev.watch()


def _introduce(ctx: click.Context, screen: _Screen, modules: tuple[str, ...], *, is_private: bool) -> list[str]:
    """Store the jobs and show what will happen next, the one thing a newcomer waits for. Return the queues in use."""
    app = open_app(ctx, jobs=modules)
    report = app.sync(modules, remove=is_private)
    say_problems(report.problems)
    jobs, _ = app.read_jobs()
    screen.say(f"jobs    {len(jobs)} stored; modules: {', '.join(modules)}")
    if not jobs:
        screen.say("        decorate a function with @job(...), or store a command with `cronq add`")
    queues = sorted({job.spec.queue for job in jobs} | {"default"}, key=lambda name: (name != "default", name))
    if queues != ["default"]:
        screen.say(f"queues  {', '.join(queues)}")
    _show_next(screen, app, jobs)
    screen.say("Ctrl-C ends it; in another terminal, here: cronq list, cronq history NAME, cronq run NAME")
    return queues


def _show_next(screen: _Screen, app: Cronq, jobs: list[StoredJob]) -> None:
    now_s = app.now_s()
    due = [each for each in app.upcoming(jobs, now_s) if each.excluded is None]
    pending = sum(job.next_tick is not None and job.next_tick <= now_s for job in jobs)
    rows = [
        [moment(tick, job.spec.tz, now_s), left(tick, now_s), job.spec.name, job.spec.schedule.describe()]
        for tick, job, _ in due[:_MOST_SHOWN]
        if job.spec.schedule is not None
    ]
    if rows:
        screen.say()
        print_table(["NEXT", "LEFT", "NAME", "MEANING"], rows, cut=["MEANING"])
        if len(due) > _MOST_SHOWN:
            screen.say(f"… and {len(due) - _MOST_SHOWN} more: cronq next")
        screen.say()
    if pending:
        screen.say(f"{pending} of them fell due while no beat ran: caught up now, each by its `catchup` rule")
