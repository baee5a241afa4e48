"""The users of this machine, for whoever asks whose crontab it is."""

from __future__ import annotations

import os

from cronq.worker.command import has_user as has_user
from cronq.worker.command import user_name


def own_user() -> str:
    """Return the name of the user that this process is."""
    return user_name(os.geteuid())
