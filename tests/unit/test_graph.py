"""The graph of jobs: an order with parents first, the cycles, and the words for them."""

from __future__ import annotations

import random

import pytest

from cronq.jobs.graph import cycle_text, in_use, parents_first, refused_parent

Graph = dict[str, list[str]]


def ordered(graph: Graph) -> tuple[list[str], list[list[str]]]:
    return parents_first(graph, lambda name: graph.get(name, []))


def test_parents_come_first_and_all_else_stays_in_its_order() -> None:
    graph = {"z": [], "report": ["load", "prices"], "a": [], "prices": ["load"], "load": []}

    assert ordered(graph) == (["z", "load", "prices", "report", "a"], [])


def test_a_chain_of_100_000_is_followed_to_its_end() -> None:
    graph = {f"j{number}": [f"j{number + 1}"] for number in range(100_000)}

    order, cycles = ordered(graph)

    assert (order[0], order[-1], cycles) == ("j100000", "j0", [])


def test_each_cycle_is_told_along_its_parents() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a"], "x": ["y", "a"], "y": ["x"], "me": ["me"]}

    assert ordered(graph)[1] == [["a", "b", "c"], ["x", "y"], ["me"]]


@pytest.mark.parametrize("seed", range(30))
def test_without_the_jobs_of_its_cycles_a_graph_has_none_and_its_order_holds(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"j{number}" for number in range(chance.randint(1, 30))]
    graph = {name: chance.sample(names, chance.randint(0, min(3, len(names)))) for name in names}

    order, cycles = ordered(graph)

    assert sorted(order) == sorted(names)
    for cycle in cycles:
        for child, parent in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            assert parent in graph[child]
    circling = {name for cycle in cycles for name in cycle}
    rest = {name: [each for each in graph[name] if each not in circling] for name in names if name not in circling}
    again, none = ordered(rest)
    assert none == []
    place = {name: number for number, name in enumerate(again)}
    assert all(place[parent] < place[child] for child in rest for parent in rest[child])


def test_a_cycle_is_told_step_by_step() -> None:
    assert cycle_text([("a", "depends_on"), ("b", "depends_on"), ("c", "depends_on")]) == (
        "a depends on b, b on c, c on a"
    )
    assert cycle_text([("a", "after"), ("b", "after")]) == "a runs after b, b after a"
    assert cycle_text([("a", "depends_on"), ("b", "after"), ("c", "after"), ("d", "depends_on")]) == (
        "a depends on b, b runs after c, c after d, d depends on a"
    )


def test_the_middle_of_a_long_cycle_is_left_out() -> None:
    text = cycle_text([(f"j{number}", "after") for number in range(1000)])

    assert text.startswith("j0 runs after j1, j1 after j2, ")
    assert "j5 after j6, … 988 more …, j994 after j995" in text
    assert text.endswith("j999 after j0")


def test_what_was_meant_is_suggested() -> None:
    assert str(refused_parent("report", "laod", "after", ["load", "prices"], bad=())) == (
        "job 'report': after: there is no job 'laod'; did you mean 'load'?"
    )
    assert "see `cronq list`" in str(refused_parent("report", "zz", "after", ["load"], bad=()))
    assert "its own definition was refused" in str(refused_parent("report", "load", "after", [], bad={"load"}))


def test_a_job_in_use_names_five_of_its_children() -> None:
    assert str(in_use("load", ["a", "b"])) == (
        "job 'load' is a parent of a, b; remove or change these first, or `cronq rm --force load`"
    )
    assert "of a, b, c, d, e and 2 more;" in str(in_use("load", "abcdefg"))
