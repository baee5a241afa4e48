"""Whether anybody writes to a file at this moment. Defines no job."""

from __future__ import annotations

import fcntl
import signal


def has_writer(descriptor: int) -> bool:
    """Ask the kernel, which grants a read lease (given back at once) only on a file nobody has open for writing.

    False, too, where it cannot tell: another user's file, a filesystem or a system without leases.
    """
    try:
        # Who opens the file in the instant of the lease makes the kernel signal us; SIGIO would kill, SIGURG not.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except (OSError, AttributeError):
        return False
    return False
