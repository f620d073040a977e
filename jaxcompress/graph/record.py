"""`Graph`: what `trace` learnt about a function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxcompress.annotations import Array
from jaxcompress.graph.carried import Carried
from jaxcompress.graph.cost import Cost
from jaxcompress.graph.divided import DividedSum, show_divided
from jaxcompress.graph.frozen import Frozen
from jaxcompress.graph.groups import Group
from jaxcompress.graph.operations import Operation
from jaxcompress.graph.rounds import show_estimates
from jaxcompress.graph.show import show, show_derived, summary
from jaxcompress.graph.sites import Site

__all__ = ["Graph"]


@dataclass(frozen=True, eq=False)
class Graph:
    """What may be removed from a function, and what it costs.

    Attributes:
        groups: the prunable groups by name, in the order in which the program first reads them.
        sites: the convs and dots with a leaf kernel, by path of the kernel.
        cost: FLOPs, parameters and bytes as functions of the groups' widths.
        frozen: what cannot be removed, and why.
        leaves: abstract value of every leaf of the variables, by path.
        uses: how many equations read each leaf, in the order of the program.
        batch_axis: the axis of examples of the inputs, or None.
        unread: the leaves that no traced function reads. Nothing ties them to a group: they stay
            whole, and a function that reads them is refused unless it is traced as well (`also=`).
        carried: where groups lie on the inputs that outputs replace (`state=`).
        means: what a mean over channels divides by once some are gone: "kept", what is left, or
            "all", the number that the program names.
        derived: the lines of code that contract a kernel computed from the variables alone, which
            is no site until `fold` stores it.
        streams: the groups along which two branches are added somewhere, in the same order.
        scales: the leaves of one number per channel that what depends on the inputs is multiplied
            by: those of normalisations, and of layers that scale what they give.
        divided: the sums over groups that are divided by a number, and which of them are means.
        estimates: the lines of code whose FLOPs are not those of every run: a `while` that runs an
            unknown number of rounds counts as one, a `cond` as all of its branches.
        operations: every conv and dot alone, at any widths.
    """

    groups: Mapping[str, Group]
    sites: Mapping[str, Site]
    cost: Cost
    frozen: tuple[Frozen, ...]
    leaves: Mapping[str, Array]
    uses: Mapping[str, int]
    batch_axis: int | None
    unread: tuple[str, ...] = ()
    carried: tuple[Carried, ...] = ()
    streams: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    means: str = "kept"
    scales: tuple[str, ...] = ()
    divided: tuple[DividedSum, ...] = ()
    estimates: tuple[str, ...] = ()
    operations: tuple[Operation, ...] = ()

    @property
    def optional(self) -> list[str]:
        """The groups that may go as a whole, all of them: the outputs still depend on the inputs.

        A product with what is gone is zero, and of branches one of which must stay, that of the
        greatest width is not optional, the last of equal ones.
        """
        return [n for n, least in zip(self.cost.names, self.cost.least, strict=True) if not least]

    @property
    def graded(self) -> list[str]:
        """The groups whose gates have a gradient: no derivative rule of the user sums over them."""
        return [name for name, group in self.groups.items() if group.has_gate_gradient]

    @property
    def examples(self) -> int:
        """How many examples it was traced with: by how many FLOPs are divided."""
        return self.cost.examples

    @property
    def flops(self) -> float:
        """FLOPs per example (multiply-accumulates x 2) of the function as traced."""
        return float(self.cost.flops(self.cost.dense))

    @property
    def params(self) -> int:
        """Number of trainable parameters."""
        return int(self.cost.params(self.cost.dense))

    def __str__(self) -> str:
        table = show(
            self.groups, self.cost, len(self.sites), self.frozen, self.unread, self.carried
        )
        more = show_derived(self.derived) + show_divided(self.divided, self.means)
        return table + more + show_estimates(self.estimates)

    def __repr__(self) -> str:
        return f"<Graph: {summary(self.groups, self.cost, len(self.sites))}>"
