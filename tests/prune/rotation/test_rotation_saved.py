"""Rotations as artifacts: loaded without Q, and what no spec can say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.artifact.spec_schema import shapes_before
from tests.prune.rotation.networks import turned


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_turned_and_cut_network_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    case = turned(kind)
    group = case.rotated.group
    keep = {group: np.arange(case.rotated.graph.groups[group].width) < 9}
    both = jc.chain(case.rotated.compression, jc.shrink(case.rotated.graph, keep))
    small = both.variables(case.variables)
    jc.save(tmp_path / "small", both, small)
    function, variables = jc.load(tmp_path / "small", case.apply)
    jax.tree.map(np.testing.assert_array_equal, variables, small)
    expected = jax.jit(both.function(case.apply))(small, case.inputs)
    np.testing.assert_array_equal(jax.jit(function)(variables, case.inputs), expected)
    function, again = jc.load(tmp_path / "small", case.apply, case.variables)
    jax.tree.map(np.testing.assert_array_equal, again, small)


def test_a_spec_survives_json_but_holds_no_rotation() -> None:
    case = turned("gpt2")
    spec = json.loads(json.dumps(case.rotated.compression.spec))
    again = jc.from_spec(spec)
    result = jax.jit(again.function(case.apply))(case.small, case.inputs)
    np.testing.assert_allclose(result, case.function(case.small, case.inputs), atol=1e-5)
    with pytest.raises(ValueError, match="holds no rotation: that is in the variables of"):
        again.variables(case.variables)


def test_variables_of_other_shapes_are_refused_by_name() -> None:
    case = turned("gpt2")
    with pytest.raises(ValueError, match=r"final_norm/scale: \(16, 16\), expected \(16,\)"):
        case.rotated.compression.variables(case.small)
    with pytest.raises(ValueError, match=r"final_norm/scale: \(16,\), expected \(16, 16\)"):
        case.function(case.variables, case.inputs)


SCALE = {"shape": [4], "axes": [0], "role": "matrix"}
STEP = {"kind": "rotate", "group": "a[1]", "width": 4, "ones": True}


@pytest.mark.parametrize(
    ("leaf", "step", "message"),
    [
        (SCALE, {}, ""),
        ({**SCALE, "role": "ones"}, {}, r"rotated to \(4,\), but \(4, 4\) is stored"),
        ({**SCALE, "role": "mine"}, {}, "neither of turned, ones, matrix"),
        ({**SCALE, "axes": [1]}, {}, "no axes of its shape"),
        ({**SCALE, "axes": [True]}, {}, "no axes of its shape"),
        ({**SCALE, "axes": []}, {}, "a scale of other axes"),
        ({**SCALE, "shape": [-1]}, {}, "no shape"),
        ({**SCALE, "shape": [2**31 - 1]}, {}, "rotated to"),
        ("turned", {}, "no shape"),
        (SCALE, {"width": 0}, "without its group, width and ones"),
        (SCALE, {"width": 5}, "a rotation of width 5"),
        (SCALE, {"ones": 1}, "without its group, width and ones"),
        (SCALE, {"group": None}, "without its group, width and ones"),
    ],
)
def test_what_no_rotation_can_say(leaf: Any, step: Any, message: str) -> None:
    spec = {**STEP, **step, "leaves": {"scale": leaf}}
    problems, before = shapes_before(spec, {"scale": (4, 4)}, {})
    if message:
        assert re.search(message, problems[0])
    else:
        assert (problems, before) == ([], {"scale": (4,)})


def test_a_turned_network_is_turned_again() -> None:
    """One rotation after the other is a rotation: scales are 1 by now."""
    case = turned("decoder")
    graph = jc.trace(case.function, case.small, case.inputs)
    again = jc.rotate(graph, case.function, case.small, [case.inputs])
    both = jc.chain(case.rotated.compression, again.compression)
    result = jax.jit(both.function(case.apply))(both.variables(case.variables), case.inputs)
    expected = jax.jit(case.apply)(case.variables, case.inputs)
    np.testing.assert_allclose(result, expected, atol=1e-5 * float(jnp.abs(expected).max()))
