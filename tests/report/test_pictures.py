"""Pictures: nothing covers anything, marks lie where their numbers say, fronts are fronts."""

from __future__ import annotations

import re

import numpy as np
import pytest

from jaxcompress.report.canvas import LETTER, Box
from jaxcompress.report.formats import MEASURES
from jaxcompress.report.pareto import dominators
from jaxcompress.report.scales import scale
from jaxcompress.report.scatter import PLOT, Point, scatter


@pytest.mark.parametrize("seed", range(3))
def test_dominators_are_those_of_the_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    costs, goods = generator.integers(0, 8, (2, 60)).astype(float).tolist()
    pairs = list(zip(costs, goods, strict=True))
    for i, best in enumerate(dominators(costs, goods)):
        above = [(c, g) for c, g in pairs if c <= costs[i] and g >= goods[i] and (c, g) != pairs[i]]
        assert (best is None) == (not above)
        assert best is None or pairs[best] in above


@pytest.mark.parametrize("count", [2, 5, 14, 120])
def test_names_cover_neither_marks_nor_names(count: int) -> None:
    generator = np.random.default_rng(count)
    costs, goods = generator.uniform(0.1, 1, (2, count)).tolist()
    best = dominators(costs, goods)
    points = [
        Point(f"network number {n}", "", 0, costs[n], goods[n], None if best[n] is None else "x")
        for n in range(count)
    ]
    text = scatter("label", points, MEASURES["flops"], "score", "score", goods)
    names = [
        Box(float(x), float(y) - 8, float(x) + LETTER * len(name), float(y))
        for x, y, name in re.findall(r'class="name" x="([^"]+)" y="([^"]+)">([^<]*)', text)
    ]
    circles = re.findall(r'<path class="mark run0[^"]*" d="M([\d.]+) ([\d.]+)a', text)
    marks = [Box(float(x), float(y) - 4, float(x) + 8, float(y) + 4) for x, y in circles]
    assert len(marks) == count
    assert names or count > 100, "no name where there is room"
    for number, name in enumerate(names):
        assert name.inside(PLOT)
        assert not any(name.overlaps(other) for other in [*marks, *names[number + 1 :]])
    assert all(mark.inside(PLOT) for mark in marks)


@pytest.mark.parametrize(
    "values", [[0.9], [0.0, 0.0], [0.91, 0.9105], [1, 1e9], [3e5, 4e5], [-2, 7]]
)
def test_scales_hold_their_values_and_have_round_ticks(values: list[float]) -> None:
    made = scale(values, 10, 110)
    assert all(10 <= made.place(value) <= 110 for value in values)
    assert 1 <= len(made.ticks) <= 12
    assert all(10 <= made.place(tick) <= 110 for tick in made.ticks)
    places = [made.place(value) for value in sorted(values)]
    assert places == sorted(places)
