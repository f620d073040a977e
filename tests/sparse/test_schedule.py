"""Schedules follow their equations at every step, traced or not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Function
from jaxcompress.sparse.schedule import Schedule, cubic, one_shot, periodic


def test_cubic_is_zhu_and_gupta_at_every_step() -> None:
    initial, final, begin, interval, count = 0.1, 0.875, 7, 5, 20
    schedule = cubic(
        final, begin=begin, end=begin + count * interval, every=interval, initial=initial
    )
    steps = np.arange(begin + count * interval + 10)
    sparsities = schedule.sparsity(steps)
    assert not sparsities[:begin].any() and sparsities[-1] == final == schedule.levels[-1]
    for step in steps[begin:]:
        last = min(begin + (step - begin) // interval * interval, schedule.end)
        left = 1 - (last - begin) / (count * interval)
        assert sparsities[step] == pytest.approx(final + (initial - final) * left**3, abs=1e-12)
    assert schedule.is_event(steps).sum() == count + 1


@pytest.mark.parametrize(
    "schedule", [one_shot(0.4, step=3), periodic(0.9, begin=2, end=8, every=3)]
)
def test_a_traced_step_gives_the_same(schedule: Schedule) -> None:
    steps = np.arange(12)
    functions = (schedule.sparsity, schedule.is_event, schedule.event)
    for function in functions:
        traced = jax.jit(jax.vmap(function))(jnp.asarray(steps))
        np.testing.assert_allclose(traced, function(steps), rtol=1e-6)
        assert function(5) == function(steps)[5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: one_shot(1.0), "sparsity must be .* below 1, but is 1.0"),
        (lambda: one_shot(-0.1), "sparsity must be .* at least 0"),
        (lambda: cubic(0.5, begin=10, end=5), "ends after it begins, but begin=10 and end=5"),
        (lambda: cubic(0.5, begin=5, end=5), "ends where it begins"),
        (lambda: periodic(0.5, end=10, every=3), "must divide"),
        (lambda: Schedule(-1, 0, ()), "begin must .* -1; every must .* 0"),
        (lambda: Schedule(0, 1, ()), "no level"),
    ],
)
def test_wrong_schedules_are_refused(make: Function, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
