"""Law 4, at its root: what a contraction is charged is what XLA, or enumeration, counts."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcompress as jc
from jaxcompress.graph import trace
from jaxcompress.graph.cost import KINDS
from jaxcompress.graph.internals import bind, inner_jaxprs
from jaxcompress.graph.taps import Window, windows
from tests.laws import TOYS, graph_of, toy_of

IMAGE = jnp.ones((1, 4, 4, 8))
NHWC = ("NHWC", "HWIO", "NHWC")


def xla_flops(function: Any, *arguments: Any) -> float:
    """Return what XLA counts before it changes anything."""
    costs: Any = jax.jit(function).lower(*arguments).cost_analysis()
    return costs.get("flops", 0.0)


def with_real_zeros(equation: Any) -> Any:
    """Run a convolution on an image whose padding was made of pixels, which XLA counts."""
    params = equation.params
    numbers, count = params["dimension_numbers"], len(params["window_strides"])
    config = [(0, 0, 0)] * (count + 2)
    for dimension, (low, high) in zip(numbers.lhs_spec[2:], params["padding"], strict=True):
        config[dimension] = (low, high, 0)

    def run(image: Any, kernel: Any) -> Any:
        return bind(equation, [lax.pad(image, jnp.zeros((), image.dtype), config), kernel], changes)

    changes = {"padding": ((0, 0),) * count}
    return run


def counted(jaxpr: Any) -> float:
    """Sum XLA's count over every dot and conv of a jaxpr, loops as often as they run."""
    total = 0.0
    for equation in jaxpr.eqns:
        name, avals = equation.primitive.name, [atom.aval for atom in equation.invars]
        # Not by `bind`, whose context is that of the devices inside a `shard_map`.
        run = partial(equation.primitive.bind, **equation.params)
        arguments = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals[:2]]
        if name == "conv_general_dilated":
            dilated = any(size > 1 for size in equation.params["lhs_dilation"] or ())
            total += xla_flops(run if dilated else with_real_zeros(equation), *arguments)
        elif name == "dot_general":
            total += xla_flops(run, *arguments)
        elif name == "ragged_dot_general":  # each row meets the kernel of its group
            total += xla_flops(jnp.dot, arguments[0], arguments[1].update(shape=avals[1].shape[1:]))
        else:
            times = equation.params["length"] if name == "scan" else 1
            total += times * sum(counted(inner.jaxpr) for inner in inner_jaxprs(equation))
    return total


@pytest.mark.parametrize("name", TOYS)
def test_every_contraction_of_every_toy_costs_what_xla_counts(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    inputs = one_example(toy.inputs, graph.cost.examples)
    jaxpr = jax.make_jaxpr(toy.apply)(toy.variables, *inputs).jaxpr
    expected = pytest.approx(counted(jaxpr), rel=1e-6)
    assert trace(toy.apply, toy.variables, *inputs).flops == expected
    assert graph.flops == expected  # whatever the batch


def one_example(inputs: Any, examples: int) -> Any:
    """Return abstract inputs of a batch of one."""
    return [
        jax.ShapeDtypeStruct((1, *each.shape[1:]), each.dtype)
        if each.ndim and len(each) == examples
        else each
        for each in map(jnp.asarray, inputs)
    ]


def random_windows() -> list[Window]:
    draw = np.random.default_rng(0)
    drawn: list[Window] = []
    while len(drawn) < 40:
        size, taps, stride, dilation, spacing = (int(draw.integers(1, m)) for m in (8, 6, 5, 5, 4))
        before, after = (int(draw.integers(-2, 7)) for _ in range(2))
        padded = (size - 1) * dilation + 1 + before + after
        outputs = (padded - (taps - 1) * spacing - 1) // stride + 1
        if padded > 0 and outputs > 0:
            drawn.append(Window(size, taps, outputs, stride, before, after, dilation, spacing))
    return drawn


@pytest.mark.parametrize("window", random_windows(), ids=lambda w: "-".join(map(str, w)))
def test_taps_that_meet_a_pixel_are_those_that_xla_counts(window: Window) -> None:
    def run(image: Any, kernel: Any) -> Any:
        padding = [(window.before, window.after)]
        return lax.conv_general_dilated(
            image, kernel, (window.stride,), padding, (window.dilation,), (window.spacing,)
        )

    met = np.zeros(window.taps, int)
    for tap in range(window.taps):
        for output in range(window.outputs):
            place = output * window.stride + tap * window.spacing - window.before
            inside = 0 <= place <= (window.size - 1) * window.dilation
            met[tap] += inside and place % window.dilation == 0
    np.testing.assert_array_equal(window.met, met)
    image, kernel = jnp.ones((1, 1, window.size)), jnp.ones((1, 1, window.taps))
    assert windows(jax.make_jaxpr(run)(image, kernel).eqns[0]) == (window,)
    assert xla_flops(run, image, kernel) == 2 * met.sum()


@pytest.mark.parametrize(
    ("window", "pairs"),
    [
        (Window(8, 3, 8, before=1, after=1), 8 * 3),
        (Window(8, 3, 6), 6 * 3),
        (Window(8, 3, 4, stride=2, before=0, after=1), 4 * 3),
        (Window(1, 3, 1, before=1, after=1), 1),
        (Window(4, 3, 4, before=8, after=8, spacing=8), 4),
        (Window(1, 3, 3, before=2, after=2), 3),
        (Window(4, 2, 8, before=1, after=1, dilation=2), 4 * 2),
    ],
    ids=["same", "valid", "strided", "only padding", "far apart", "full", "transposed"],
)
def test_which_padding_counts(window: Window, pairs: int) -> None:
    assert window.pairs == pairs


@pytest.mark.parametrize(
    ("shape", "stride", "padding", "expected"),
    [
        ((2, 2, 8, 8), 2, "VALID", 2 * 16 * 4 * 64),
        ((3, 3, 8, 8), 4, "SAME", 2 * 16 * 9 * 64),
        ((3, 3, 8, 8), 3, "SAME", 2 * 16 * 9 * 64),
        ((3, 3, 8, 2), 1, "VALID", 2 * 16 * 9 * 16),
    ],
)
def test_a_transposed_convolution_costs_pixels_times_kernel(
    shape: tuple[int, ...], stride: int, padding: str, expected: int
) -> None:
    def apply(variables: Any, image: Any) -> Any:
        return lax.conv_transpose(image, variables["w"], (stride, stride), padding)

    variables = {"w": jnp.ones(shape)}
    assert trace(apply, variables, IMAGE).flops == expected
    assert trace(apply, variables, IMAGE).sites["w"].flops == expected
    assert xla_flops(apply, variables, IMAGE) == expected


def test_batch_groups_are_counted() -> None:
    def apply(variables: Any, image: Any) -> Any:
        return lax.conv_general_dilated(
            image, variables["w"], (1, 1), "VALID", dimension_numbers=NHWC, batch_group_count=2
        )

    variables, images = {"w": jnp.ones((3, 3, 8, 4))}, jnp.ones((2, 4, 4, 8))
    graph = trace(apply, variables, images)
    assert graph.flops * 2 == xla_flops(apply, variables, images) == 2 * 4 * 9 * 8 * 4


def test_half_of_a_decoder_is_half_of_its_operations() -> None:
    def apply(variables: Any, image: Any) -> Any:
        for name in ("e", "m"):
            image = jax.nn.relu(conv(image, variables[name]))
        image = lax.conv_transpose(image, variables["u"], (2, 2), "VALID")
        return conv(jax.nn.relu(image), variables["o"])

    def conv(image: Any, kernel: Any) -> Any:
        return lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=NHWC)

    def operations(e: int, m: int, u: int) -> int:
        pixels = 64 * 9 * 3 * e + 64 * 9 * e * m + 64 * 4 * m * u + 256 * 9 * u * 2
        return 2 * pixels

    shapes = {"e": (3, 3, 3, 16), "m": (3, 3, 16, 16), "u": (2, 2, 16, 16), "o": (3, 3, 16, 2)}
    variables = {name: jnp.ones(shape) for name, shape in shapes.items()}
    graph = trace(apply, variables, jnp.ones((1, 8, 8, 3)))
    assert graph.flops == operations(16, 16, 16)
    scores = {name: (name != "u[3]") + np.arange(16) * 1e-3 for name in graph.groups}
    keep = jc.select(graph, scores, jc.Budget(flops=0.5))
    widths = (int(keep[name].sum()) for name in ("e[3]", "m[3]", "u[3]"))
    assert 0.45 < operations(*widths) / operations(16, 16, 16) <= 0.5


def test_every_kind_that_a_budget_bounds_is_counted() -> None:
    variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
    graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
    cost, half = graph.cost, graph.cost.dense / 2
    assert tuple(jc.Budget(flops=0.5).__dict__) == (*KINDS, "latency")
    for kind, count in zip(KINDS, (cost.flops, cost.params, cost.bytes), strict=True):
        assert cost.of(kind) == count(cost.dense) == 2 * count(half) == 2 * cost.of(kind, half)
    with pytest.raises(ValueError, match="one of flops, params, bytes, latency, but 'names'"):
        cost.of("names")
    with pytest.raises(ValueError, match="looked up in a table .* this graph has none"):
        cost.of("latency")
