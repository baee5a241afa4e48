"""What every benchmark ends with: a table in which each line holds one figure against another."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from machine import in_words
from rounds import Ratio


@dataclass(frozen=True)
class Target:
    """What is to be reached: a bound for the ratio, or for the *figure*."""

    least: float | None = None
    most: float | None = None
    of: str = "ratio"  #: or "figure"

    def in_words(self) -> str:
        bounds = [f"{sign} {bound:g}" for sign, bound in ((">=", self.least), ("<=", self.most)) if bound is not None]
        return f"{self.of} {' and '.join(bounds)}"

    def is_met(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Comparison:
    """One line of the table: *figure* of *system* for *what*, and how it stands to that of *against*."""

    what: str
    system: str
    figure: float
    unit: str
    against: str = ""  #: "": it stands alone
    its_figure: float | None = None
    ratio: float | None = None
    lowest: float | None = None  #: of the rounds' ratios; None: one round
    highest: float | None = None
    target: Target | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether its target was reached; None without a target."""
        value = self.figure if self.target and self.target.of == "figure" else self.ratio
        return None if self.target is None or value is None else self.target.is_met(value)

    def to_json(self) -> dict[str, Any]:
        """As `--json` has it: the target in words, and `met`."""
        found = {name: _rounded(value) if isinstance(value, float) else value for name, value in vars(self).items()}
        return found | {"target": self.target.in_words() if self.target else "", "met": self.is_met}


def compared(
    what: str, system: str, figure: float, unit: str, against: str, its: float, found: Ratio,
    target: Target | None = None,
) -> Comparison:  # fmt: skip
    """A line whose ratio comes from several rounds."""
    return Comparison(what, system, figure, unit, against, its, found.median, found.lowest, found.highest, target)


_MET = {True: ": yes", False: ": NO", None: ""}


def _rounded(value: float) -> float:
    """Four digits, and all those before the point."""
    return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")


def shown(value: float | None) -> str:
    """A figure as a table has it."""
    if value is None:
        return "-"
    return f"{_rounded(value):,}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) < 1 else f"{value:.1f}"


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """The comparisons, as `to_json` gives them, in plain columns."""
    rows = [("what", "of", "figure", "unit", "against", "its figure", "ratio", "lowest", "highest", "target")]
    for line in lines:
        ratios = (f"{line[name]:.2f}" if line[name] is not None else "-" for name in ("ratio", "lowest", "highest"))
        figures = shown(line["figure"]), line["unit"], line["against"] or "-", shown(line["its_figure"])
        rows.append((line["what"], line["system"], *figures, *ratios, line["target"] + _MET[line["met"]]))
    left = {0, 1, 3, 4, 9}
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def joined(row: Sequence[str]) -> str:
        cells = (
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )  # fmt: skip
        return "  ".join(cells).rstrip()

    return "\n".join(map(joined, rows))


def show(
    document: dict[str, Any],
    comparisons: Sequence[Comparison],
    machine: Mapping[str, Any],
    *,
    as_json: bool,
    also: str = "",
) -> None:
    """Print *document*, comparisons and machine as one JSON object; or a table for people, who see *also* before it."""
    lines = [each.to_json() for each in comparisons]
    if as_json:
        print(json.dumps(document | {"comparisons": lines, "machine": dict(machine)}))
        return
    print(in_words(machine))
    if also:
        print(f"\n{also}")
    print(f"\n{table(lines)}")


def start_parser(description: str) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take. SIGTERM from now on ends what was started, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _end)
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of tables")
    return parser


def pick(parser: argparse.ArgumentParser, only: str | None, names: Sequence[str]) -> list[str]:
    """Those of *names* that `--only` names, all without it."""
    wanted = only.split(",") if only else list(names)
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"--only: unknown {', '.join(unknown)}; there are {', '.join(names)}")
    return [name for name in names if name in wanted]


def _end(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)
