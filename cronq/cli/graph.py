"""`graph`: which job waits for which, as a tree or for Graphviz."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import click

from cronq.app.views import graph_document, schedule_text
from cronq.cli.options import as_json, in_utc, open_app, options_of_cronq, suggesting
from cronq.cli.output import counted, moment, print_json, print_lines, print_table, say
from cronq.safetext import printable, shortened

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import JobGraph, StoredJob

#: Of the lines that lead to a job: deep ones keep their end.
_LONGEST_LEAD = 44
_LONGEST_NEXT = 60
#: What leads to a job that others follow, to the last one, and below each; for terminals that know no more than ASCII.
_LINES, _PLAIN_LINES = ("├ ", "└ ", "│ ", "… "), ("|-", "`-", "| ", "..")


@click.command("graph")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--dot", is_flag=True, help="For Graphviz: cronq graph --dot | dot -Tsvg.")
@as_json
@in_utc
@options_of_cronq
@click.pass_context
def graph_command(ctx: click.Context, names: tuple[str, ...], dot: bool, json_: bool, utc: bool) -> int:
    """The jobs that wait for others: those that NAMEs wait for and those that wait for them, else all.

    Each job stands below its parents. NEXT says of one with depends_on when its next tick is, of one with `after` which
    jobs start it. One with several parents has its own children where it stands first.
    """
    if dot and json_:
        raise click.UsageError("--dot and --json are two formats; give one of them")
    app = open_app(ctx)
    known = set(app.job_names()) if names else set()
    with suggesting(app, next((name for name in names if name not in known), "")):
        graph = app.graph(names)
    states = _states(app, graph)
    if json_:
        print_json(graph_document(graph, states))
    elif dot:
        print_lines(_dot(graph, states))
    elif graph.jobs:
        rows = [_row(line, graph, states, app.now_s(), utc) for line in _tree(graph)]
        print_table(["JOB", "STATUS", "NEXT"], rows, cut=["NEXT"], spare=["NEXT"])
    if not (json_ or dot):
        others = f"{counted(graph.alone, 'job')} {'has' if graph.alone == 1 else 'have'} neither parents nor children"
        if graph.alone:
            say(others if graph.jobs else f"no job waits for another: {others}")
        elif not graph.jobs:
            say("no jobs")
    return 0


def _states(app: Cronq, graph: JobGraph) -> dict[str, str]:
    """The status of each job of *graph*."""
    jobs = [job for job in graph.jobs.values() if job is not None]
    active, now_s = app.active_runs([job.spec.name for job in jobs]), app.now_s()
    return {job.spec.name: job.status(active[job.spec.name], now_s) for job in jobs}


class _Line(NamedTuple):
    """One line of the tree: what leads to the job, and whether it stands further up with its children."""

    lead: str
    name: str
    is_again: bool


def _tree(graph: JobGraph) -> Iterator[_Line]:
    """Each job below each of its parents, its own children where it stands first."""
    branch, last, below, gap = _LINES if _is_drawn() else _PLAIN_LINES
    seen: set[str] = set()
    roots = [name for name in graph.jobs if name not in graph.parents]
    for root in [*roots, *graph.jobs]:  # what has no root, because it goes round in a circle, begins anywhere
        if root in seen:
            continue
        todo = [("", "", root)]  # what leads to a job, what leads to those below it, its name
        while todo:
            lead, under, name = todo.pop()
            children = list(dict.fromkeys(edge.child for edge in graph.children.get(name, ())))
            yield _Line(_cut(lead, gap), name, name in seen and bool(children))
            if name not in seen:
                seen.add(name)
                ends = [last, *[branch] * len(children)]
                todo += [
                    (under + end, under + ("  " if end == last else below), child)
                    for end, child in zip(ends, reversed(children), strict=False)
                ]


def _cut(lead: str, gap: str) -> str:
    return lead if len(lead) <= _LONGEST_LEAD else gap + lead[len(gap) - _LONGEST_LEAD :]


def _is_drawn() -> bool:
    try:
        "".join(_LINES).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _row(line: _Line, graph: JobGraph, states: Mapping[str, str], now_s: float, utc: bool) -> list[str]:
    job, what = graph.jobs[line.name], f"{line.lead}{line.name}"
    if job is None:
        return [what, "no such job", "-"]
    if line.is_again:
        return [what, states[line.name], "(its children are above)"]
    return [what, _status_text(job, states[line.name]), _next_text(job, now_s, utc)]


def _status_text(job: StoredJob, status: str) -> str:
    return f"{status} x{-job.state.streak}" if status == "failing" and job.state.streak < -1 else status


def _next_text(job: StoredJob, now_s: float, utc: bool) -> str:
    if job.spec.schedule is None:
        return shortened(schedule_text(job.spec), _LONGEST_NEXT)
    when = moment(job.next_tick, job.spec.tz, now_s, force_utc=utc)
    gate = ", ".join(job.spec.depends_on)
    return shortened(f"{when}, waits for {gate}" if gate else when, _LONGEST_NEXT)


def _dot(graph: JobGraph, states: Mapping[str, str]) -> Iterator[str]:
    """The graph in the language of Graphviz; a gate is dashed."""
    yield "digraph cronq {"
    yield "  rankdir=LR;"
    yield "  node [shape=box];"
    for name in graph.jobs:
        status = states.get(name, "no such job")
        color = ", color=red" if status in ("failing", "no such job") else ""
        yield f"  {_quoted(name)} [label={_quoted(name, status)}{color}];"
    for edge in graph.edges:
        style = ", style=dashed" if edge.kind == "depends_on" else ""
        yield f"  {_quoted(edge.parent)} -> {_quoted(edge.child)} [label={_quoted(edge.kind)}{style}];"
    yield "}"


def _quoted(*lines: str) -> str:
    """Text as Graphviz takes it, whatever stands in it."""
    words = (printable(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(words) + '"'
