"""What a command job becomes on its worker: words, environment, directory, standard input, and whose process it is.

`run_as` is kept or refused, never bent: the command runs as exactly that user, or not at all.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from cronq.config import environment
from cronq.db.decode import read_json
from cronq.errors import BadValue, RunRefused
from cronq.jobs.command_options import DEFAULT_PATH, SH
from cronq.jobs.spec import JobSpec
from cronq.process.system import die_with_parent, may_kill_others


def order_of(spec: JobSpec) -> dict[str, Any]:
    """The part of *spec* that travels to the child, as JSON."""
    return {
        "words": command_line(list(spec.command or ()), shell=spec.shell),
        "shell": SH if spec.shell is True else spec.shell or None,
        "env": spec.env,
        "cwd": spec.cwd,
        "run_as": spec.run_as,
        "stdin": spec.stdin,
    }


def command_line(command: list[str], *, shell: bool | str) -> list[str]:
    """The argument list to execute; a shell only where the job asks for one."""
    if not shell:
        return command
    return [SH if shell is True else shell, "-c", command[0]]


@dataclass(frozen=True)
class Command:
    """A command, ready to be executed by this process or one that it starts."""

    words: list[str]
    env: dict[str, str]
    cwd: str | None
    stdin: str | None
    account: pwd.struct_passwd | None = None  #: whom to become first; None when this process is that user

    def become(self) -> NoReturn:
        """Replace this process by the command. Raises RunRefused, or the OSError of the exec."""
        self._read_stdin()
        if self.account is not None:
            _hand_over_output(self.account)
            _switch_to(self.account)
        try:
            if self.cwd is not None:
                os.chdir(self.cwd)
        except OSError as error:
            who = f" by {self.account.pw_name}" if self.account is not None else ""
            reason = f"its directory {self.cwd} cannot be entered{who} on this host: {error.strerror}"
            raise RunRefused(f"{reason}; make it, or change cwd") from None
        os.execvpe(self.words[0], self.words, self.env)

    def _read_stdin(self) -> None:
        """Make the text standard input, by a file without a name that is opened before the user changes."""
        if self.stdin is None:
            return
        with tempfile.TemporaryFile() as file:
            file.write(self.stdin.encode("utf-8", "surrogateescape"))
            file.seek(0)
            os.dup2(file.fileno(), 0)


def further_words(args_json: str) -> list[str]:
    """The words that a run adds to its command. Raises RunRefused for stored arguments that are damaged."""
    try:
        words, _ = read_json(args_json)
        if not isinstance(words, list) or not all(isinstance(word, str) and "\0" not in word for word in words):
            raise ValueError
    except (BadValue, ValueError, TypeError):
        raise RunRefused("the words that this run adds to its command are damaged in Redis; queue it anew") from None
    return words


def prepare(order: Mapping[str, Any], run: dict[str, str], further: Sequence[str] = ()) -> Command:
    """The command of *order* (see `order_of`) with the *run*'s `CRONQ_…` variables and the *further* words it adds.

    Raises RunRefused when this process is neither the user it is for nor can become that user.
    """
    cwd, stdin = order["cwd"], order["stdin"]
    name = [os.path.basename(order["shell"])] if order["shell"] and further else []  # else the first would be its $0
    words = [*order["words"], *name, *further]
    if order["run_as"] is None:
        return Command(words, environment() | order["env"] | run, cwd, stdin)
    account = _account_of(order["run_as"])
    mine = os.geteuid()
    if mine not in (0, account.pw_uid):
        raise RunRefused(
            f"it is to run as {account.pw_name}, and this worker, being {user_name(mine)}, cannot become another user; "
            f"start a worker as {' or as '.join(dict.fromkeys(['root', account.pw_name]))}"
        )
    # Not the worker's environment: that may hold passwords, such as the one of Redis.
    env = {"HOME": account.pw_dir, "PATH": DEFAULT_PATH, "SHELL": order["shell"] or account.pw_shell or SH}
    env |= {"USER": account.pw_name} | order["env"] | {"LOGNAME": account.pw_name}
    if cwd is None:  # as cron does it: where there is no home, the command still runs
        cwd = env["HOME"] if os.path.isabs(env["HOME"]) and os.path.isdir(env["HOME"]) else "/"
    return Command(words, env | run, cwd, stdin, None if mine == account.pw_uid else account)


def has_user(name: str) -> bool:
    """Return True if this host knows the user *name*."""
    try:
        pwd.getpwnam(name)
        return True
    except (KeyError, ValueError):
        return False


def _account_of(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise RunRefused(
            f"it is to run as {user!r}, and this host has no such user (the worker is {user_name(os.geteuid())}); "
            "make the user here, or let only hosts that have it serve this queue"
        ) from None


def user_name(uid: int) -> str:
    """The name of a user, or `uid N`."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _hand_over_output(account: pwd.struct_passwd) -> None:
    """Let *account* open its own output by name, as /dev/stdout, when that is a pipe of this run alone."""
    for fd in (1, 2):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, account.pw_uid, account.pw_gid)


def _switch_to(account: pwd.struct_passwd) -> None:
    """Become *account* for good: groups first, because only root can set them. Raises RunRefused.

    The kernel forgets the parent-death signal at that; it is set again, and if the parent died in between, this
    process ends.
    """
    if not may_kill_others():
        raise RunRefused(
            f"it is to run as {account.pw_name}, and this worker, being root without CAP_KILL, could not end it; "
            f"give it that right, or start a worker as {account.pw_name}"
        )
    parent = os.getppid()  # the signal is still armed, so this is the one that started us
    try:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        is_switched = {os.getuid(), os.geteuid()} == {account.pw_uid} and {os.getgid(), os.getegid()} == {
            account.pw_gid
        }
        why = "the system did not change it"
    except OSError as error:
        is_switched, why = False, error.strerror or str(error)
    if not is_switched:
        raise RunRefused(
            f"it is to run as {account.pw_name}, and this worker, being root, could not become that user ({why}); "
            f"give it the right to (CAP_SETUID, CAP_SETGID), or start a worker as {account.pw_name}"
        )
    die_with_parent(parent)
