"""Watches filesystems and fails while one of them has too little space or too few inodes left."""

from __future__ import annotations

import os
from pathlib import Path

from cronq import job
from workers import environment


@job("* * * * *", description="Fail when a filesystem runs out of space or inodes", timeout="30s", catchup="skip")
def watch_disks() -> dict[str, object]:
    """What is free in percent, by path. Raises RuntimeError naming every path below a limit."""
    limits = {
        "space": environment.percent("CRONQ_DISK_SPACE_PERCENT", 2.0),
        "inodes": environment.percent("CRONQ_DISK_INODES_PERCENT", 2.0),
    }
    seen: dict[str, object] = {}
    faults = []
    for word in environment.words("CRONQ_DISK_PATHS", "/:."):
        path = str(Path(word).expanduser().absolute())
        try:
            found = free_percent(os.statvfs(path))
        except OSError as error:
            faults.append(f"{path} cannot be read ({error.strerror}); see CRONQ_DISK_PATHS")
            continue
        seen[path] = {what: round(free, 1) for what, free in found.items()}
        faults += [
            f"{path} has {free:.1f} % {what} free, the limit is {limits[what]:g} %"
            for what, free in found.items()
            if free < limits[what]
        ]
    if faults:
        raise RuntimeError("; ".join(faults))
    return seen


def free_percent(filesystem: os.statvfs_result) -> dict[str, float]:
    """Free "space" and "inodes" as `df` counts them for ordinary users; without what cannot run out.

    A read-only filesystem is always full; btrfs and others have no fixed inodes and report 0 of them.
    """
    if filesystem.f_flag & os.ST_RDONLY:
        return {}
    free = {}
    blocks = filesystem.f_blocks - filesystem.f_bfree + filesystem.f_bavail  # without those kept for root
    if blocks > 0:
        free["space"] = 100 * filesystem.f_bavail / blocks
    if filesystem.f_files > 0:
        free["inodes"] = 100 * filesystem.f_favail / filesystem.f_files
    return free
