"""The machine behind a table: processor, cores, versions, and how busy it was with other things."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from server import server_version


def cpu_model() -> str:
    """The processor's name, as Linux has it; else what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # no Linux
        pass
    return platform.processor() or platform.machine()


def memory_mb() -> int:
    """Memory of the whole machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def versions_of(packages: Sequence[str]) -> dict[str, str | None]:
    """The versions of *packages*; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _processor_ticks() -> tuple[int, int, int]:
    """Of all cores since boot, in clock ticks: all, idle, and stolen by other guests of the host."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:  # no Linux
        return 0, 0, 0
    return sum(ticks), ticks[3] + ticks[4], ticks[7]


@dataclass
class Machine:
    """What a measurement ran on; made when it begins, asked for `facts` when it has ended."""

    packages: Sequence[str]

    def __post_init__(self) -> None:
        self._load = os.getloadavg()
        self._ticks = _processor_ticks()
        self._began_s = time.time()

    def facts(self) -> dict[str, Any]:
        """For `--json`. Loads are those of 1, 5 and 15 minutes; `busy` and `stolen` shares of all cores meanwhile."""
        all_ticks, idle, stolen = (now - then for now, then in zip(_processor_ticks(), self._ticks, strict=True))
        return {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "memory_mb": memory_mb(),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "redis_server": server_version(),
            "packages": versions_of(self.packages),
            "began_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began_s)),
            "took_s": round(time.time() - self._began_s, 1),
            "load_start": [round(load, 2) for load in self._load],
            "load_end": [round(load, 2) for load in os.getloadavg()],
            "busy": round(1 - idle / all_ticks, 3) if all_ticks else None,
            "stolen": round(stolen / all_ticks, 3) if all_ticks else None,
        }


def in_words(facts: Mapping[str, Any]) -> str:
    """The `facts` of a machine in three lines."""
    packages = ", ".join(f"{name} {found}" if found else f"no {name}" for name, found in facts["packages"].items())
    loads = " -> ".join(str(facts[when][0]) for when in ("load_start", "load_end"))
    lines = [
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_mb'] / 1024:.0f} GB, {facts['system']}",
        f"Python {facts['python']}, redis-server {facts['redis_server']}" + (f", {packages}" if packages else ""),
        f"{facts['began_at']}, {facts['took_s']:g} s, load {loads}",
    ]
    if facts["busy"] is not None:
        lines[-1] += f", cores {facts['busy']:.0%} busy, {facts['stolen']:.1%} stolen by other guests"
    return "\n".join(lines)
