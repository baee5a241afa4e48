"""The verbs of an application about locks: who holds them, to take one for a fixed time, or away from its holder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cronq.app.guarded import Ended, make_order, run_guarded
from cronq.app.parts import Parts
from cronq.jobs.pause import check_note
from cronq.locks.held import HeldLock, read_locks
from cronq.locks.lock import check_lock_name
from cronq.locks.window import take_window
from cronq.runs.forced_release import release_by_force


class LockVerbs(Parts):
    """Verbs of `Cronq` about locks."""

    def locks(self, names: Sequence[str] = ()) -> list[HeldLock]:
        """The locks that are held now, by name; with *names* only those of them. Raises ConfigError."""
        for name in names:
            check_lock_name(name)
        return read_locks(self.client, self.keys, list(dict.fromkeys(names)) or None)

    def once(self, name: str, window_s: float) -> bool:
        """Take the lock *name* for a fixed time, whatever becomes of this process. Return False if somebody has it.

        Raises ConfigError, RedisError.
        """
        holder: dict[str, str | int] = {"host": self.config.host, "pid": os.getpid()}
        return take_window(self.prompt_client(), self.keys, name, window_s, holder)

    def exec(self, command: Sequence[str], *, local_lock: bool = False, **options: Any) -> Ended:
        """Run a command under guard, as `cronq exec` does it, with its options by name; the words are not a shell's.

        Call it in the main thread: it handles the signals of this process, and takes its stdin, stdout and stderr. It
        forks, so it wants a process without other threads. *options* are those of `app.guarded.make_order`.

            ended = app.exec(["/opt/mail/send", "--all"], name="mail", wait="1m", timeout="10m")
            ended.code, ended.run_id  # 0 and None when somebody else had the lock

        Raises ConfigError for what means nothing, RedisError when Redis did not answer before it began.
        """
        order = make_order(self.config.host, command, **options)
        return run_guarded(self.config, order, is_local=local_lock)

    def release_lock(self, name: str, *, note: str = "") -> str | None:
        """Take the lock *name* from whoever holds it; None when nobody does. The holder stops within a second or two.

        Returns the id of the run that held it, "" when that is not known. It is recorded who did this. Raises
        ConfigError, KeyBroken, and DefinitionError for a note that is too long.
        """
        check_lock_name(name)
        check_note(note)
        return release_by_force(
            self.client, self.keys, name, by=self.who, note=note, keep_events=self.config.keep_events
        )
