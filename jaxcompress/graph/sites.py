"""Sites: the convs and dots whose kernel is a leaf, and the two-op forms that may replace them.

A form writes the kernel as a product of two factors of rank r:

* `dense`: the contracted axes against the free ones, for dots;
* `channel`: a convolution with r filters of the full window, then a 1x1 convolution;
* `spatial`: a convolution with r filters along the first window axis, then one along the second
  (Tai et al. 2016, "Convolutional neural networks with low-rank regularization", eq. 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

from jax.extend.core import JaxprEqn

from jaxcompress.annotations import Array, Json
from jaxcompress.graph.axes import Step
from jaxcompress.graph.internals import shape_of, source_line
from jaxcompress.graph.labelling import Contraction
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.taps import windows

__all__ = ["Form", "Site", "find_sites", "kernel_operand"]


class Form(NamedTuple):
    """One way to write a site's kernel as two factors.

    Attributes:
        name: "dense", "channel" or "spatial".
        rows: rows of the matrix that is factored, of each group.
        columns: its columns.
        groups: independent matrices: the groups of a convolution.
        flops: per example, per unit of rank (all groups together).
        params: per unit of rank (all groups together).
    """

    name: str
    rows: int
    columns: int
    groups: int
    flops: float
    params: int

    @property
    def full(self) -> int:
        """The largest rank: min(rows, columns)."""
        return min(self.rows, self.columns)


class Site(NamedTuple):
    """A conv or dot whose kernel is a leaf, up to convert, transpose, reshape or a scan's slice.

    Attributes:
        path: the kernel.
        primitive: "conv_general_dilated" or "dot_general".
        shape: the kernel's shape.
        flops: per example, all its uses together (multiply-accumulates x 2).
        params: entries of the kernel.
        uses: how many convs and dots use it.
        other_uses: how many other equations read it; it cannot be replaced if there are any.
        steps: how the leaf is rearranged before it is used.
        layout: of the rearranged kernel: for a dot its dimensions `contracted`, `batch` and
            `free`; for a conv `output`, `input`, `window` dimensions and `groups`.
        forms: the forms that may replace it, the preferred one first; none if it is refused.
        source: the line of code of its first use.
    """

    path: str
    primitive: str
    shape: tuple[int, ...]
    flops: float
    params: int
    uses: int
    other_uses: int
    steps: tuple[Step, ...]
    layout: Mapping[str, Json]
    forms: tuple[Form, ...]
    source: str

    def form(self, name: str) -> Form:
        """Return the form called `name`."""
        return next(form for form in self.forms if form.name == name)

    def described(self, form: str) -> dict[str, Array]:
        """Return what is needed to split the kernel in a form, as JSON can hold it."""
        return {
            "shape": list(self.shape),
            "steps": [[name, list(numbers)] for name, numbers in self.steps],
            "layout": dict(self.layout),
            "form": form,
        }


def kernel_operand(contraction: Contraction) -> int | None:
    """Return which operand of a contraction is a leaf, the right one if both are; else None."""
    return next((i for i in (1, 0) if contraction.operands[i].leaf is not None), None)


def find_sites(
    labelled: LabelledProgram, contractions: Sequence[Contraction], examples: int
) -> dict[str, Site]:
    """Return all sites of a labelled program by path, in the order of their first use."""
    sites: dict[str, Site] = {}
    for contraction in contractions:
        position = kernel_operand(contraction)
        if position is None or contraction.equation.primitive.name == "ragged_dot_general":
            continue
        site = _site(labelled, contraction, position, examples)
        before = sites.get(site.path)
        sites[site.path] = site if before is None else _another_use(before, site)
    return sites


def _site(
    labelled: LabelledProgram, contraction: Contraction, position: int, examples: int
) -> Site:
    operand, equation = contraction.operands[position], contraction.equation
    path = operand.leaf
    assert path is not None
    shape = tuple(labelled.program.leaves[path].shape)
    size = contraction.constant * prod(axis.size for axis in contraction.counted)
    is_dot = equation.primitive.name == "dot_general"
    layout = _dot_layout(equation, position) if is_dot else _conv_layout(equation)
    kernel = tuple(axis.size for axis in operand.axes)
    copies = prod(shape) // max(prod(kernel), 1)
    make_forms = _dot_forms if is_dot else _conv_forms
    allowed = position == 1 or is_dot
    forms = make_forms(equation, layout, kernel, size / examples, copies) if allowed else ()
    if contraction.inside_rule:
        forms = ()
    readers = labelled.labelling.uses[path]
    return Site(
        path,
        equation.primitive.name,
        shape,
        size / examples,
        prod(shape),
        1,
        readers - 1,
        operand.steps,
        layout,
        forms,
        source_line(equation),
    )


def _another_use(before: Site, site: Site) -> Site:
    """Count one more use of a shared kernel; uses that differ in layout forbid replacing it."""
    same = (before.steps, before.layout) == (site.steps, site.layout)
    flops = [form._replace(flops=form.flops + other.flops) for form, other in _pairs(before, site)]
    return before._replace(
        flops=before.flops + site.flops,
        uses=before.uses + 1,
        other_uses=before.other_uses - 1,
        forms=tuple(flops) if same else (),
    )


def _pairs(before: Site, site: Site) -> list[tuple[Form, Form]]:
    return list(zip(before.forms, site.forms, strict=False))


def _dot_layout(equation: JaxprEqn, position: int) -> dict[str, Array]:
    contracted, batch = equation.params["dimension_numbers"]
    rank = len(shape_of(equation.invars[position]))
    used = (*contracted[position], *batch[position])
    return {
        "contracted": list(contracted[position]),
        "batch": list(batch[position]),
        "free": [i for i in range(rank) if i not in used],
    }


def _dot_forms(
    equation: JaxprEqn,
    layout: Mapping[str, Json],
    kernel: tuple[int, ...],
    flops: float,
    copies: int,
) -> tuple[Form, ...]:
    """A dot of m x n entries costs K x m x n; of rank r, K x (m + n) x r."""
    if layout["batch"]:
        return ()
    rows = prod(kernel[i] for i in layout["contracted"])
    columns = prod(kernel[i] for i in layout["free"])
    if min(rows, columns) < 1:
        return ()
    rate = flops / (rows * columns) * (rows + columns)
    return (Form("dense", rows, columns, 1, rate, (rows + columns) * copies),)


def _conv_layout(equation: JaxprEqn) -> dict[str, Array]:
    spec = equation.params["dimension_numbers"].rhs_spec
    return {
        "output": spec[0],
        "input": spec[1],
        "window": list(spec[2:]),
        "groups": equation.params["feature_group_count"],
    }


def _conv_forms(
    equation: JaxprEqn,
    layout: Mapping[str, Json],
    kernel: tuple[int, ...],
    flops: float,
    copies: int,
) -> tuple[Form, ...]:
    """Count both convolutions of each form at the positions where they are really computed."""
    if equation.params["batch_group_count"] > 1:
        return ()
    groups, dimensions = layout["groups"], windows(equation)
    inputs, outputs = kernel[layout["input"]], kernel[layout["output"]] // groups
    window = [dimension.taps for dimension in dimensions]
    pairs = [dimension.pairs for dimension in dimensions]
    positions = [dimension.outputs for dimension in dimensions]
    if not flops:
        return ()
    rate = flops / (prod(pairs) * inputs * outputs)
    full = rate * (prod(pairs) * inputs + prod(positions) * outputs)
    parameters = (prod(window) * inputs + outputs) * groups * copies
    channel = Form("channel", prod(window) * inputs, outputs, groups, full, parameters)
    if len(window) != 2 or min(window) == 1:
        return (channel,)
    # The first convolution runs before the second axis is strided: at all its input positions.
    first, second = pairs[0] * dimensions[1].size, positions[0] * pairs[1]
    cost = rate * (first * inputs + second * outputs)
    parameters = (window[0] * inputs + window[1] * outputs) * groups * copies
    rows, columns = window[0] * inputs, window[1] * outputs
    return Form("spatial", rows, columns, groups, cost, parameters), channel
