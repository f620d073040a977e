"""Rules of element-wise primitives: operands of one shape, tied axis by axis."""

from __future__ import annotations

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.internals import shape_of
from jaxcompress.graph.interpret import Outcome, Rule
from jaxcompress.graph.labelling import Labelling
from jaxcompress.graph.symbolic import is_long

__all__ = ["RULES"]

NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
cbrt ceil clamp clz complex conj cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1
floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p
log2 logistic lt lt_to max min mul mulhi ne neg nextafter not one_minus_square or polygamma
population_count pow real reduce_precision regularized_incomplete_beta rem round rsqrt select_n
shift_left
shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor
zeta random_gamma_grad select_if_vmap
""".split()

COPIES = """
convert_element_type copy copy_p nonbatchable nondifferentiable_backward nontraceable pcast pvary
sharding_constraint
""".split()

PARALLEL = """
device_put name optimization_barrier pmax pmin psum psum_invariant reshard
""".split()


def elementwise(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Tie the axes of all operands; scalars and axes of size 1 join in anywhere."""
    shaped = [value for value in inputs if value.axes]
    if not shaped:
        return Outcome([Value(()) for _ in equation.outvars])
    axes = tuple(
        _meet(labelling, equation, [value.axes[dimension] for value in shaped])
        for dimension in range(len(shaped[0].axes))
    )
    return Outcome([Value(axes) for _ in equation.outvars])


def _meet(labelling: Labelling, equation: JaxprEqn, axes: list[Axis]) -> Axis:
    long = [axis for axis in axes if is_long(axis.size)] or axes[:1]
    return long[0] if len(long) == 1 else labelling.tie(equation, *long)


def copied(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Pass the one operand on as the same leaf."""
    return Outcome([inputs[0]])


def parallel(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Pass each operand on to the result of the same position.

    `axes` names mesh axes; a number among them, left by `jax.vmap(axis_name=...)`, is an axis of
    the operands that is reduced.
    """
    name = equation.primitive.name
    dropped = {axis for axis in equation.params.get("axes", ()) if isinstance(axis, int)}
    for value in inputs:
        for dimension in dropped:
            axis = value.axes[dimension]
            labelling.pin(equation, axis, f"it is reduced by {name}", hard=False)
    return Outcome(
        [Value(tuple(a for i, a in enumerate(v.axes) if i not in dropped)) for v in inputs]
    )


def bits(labelling: Labelling, equation: JaxprEqn, inputs: Sequence[Value]) -> Outcome:
    """Reinterpret bits; between types of different width a new axis appears, which is fixed."""
    shape = shape_of(equation.outvars[0])
    axes = inputs[0].axes
    if len(shape) == len(axes):
        return Outcome([Value(axes)])
    if len(shape) < len(axes):
        labelling.pin(equation, axes[-1], "its bytes are read as one number")
        return Outcome([Value(axes[:-1])])
    return Outcome([Value((*axes, Axis(shape[-1])))])


RULES = {
    **{name: Rule(elementwise) for name in NAMES},
    **{name: Rule(copied) for name in COPIES},
    **{name: Rule(parallel) for name in PARALLEL},
    "bitcast_convert_type": Rule(bits),
}
