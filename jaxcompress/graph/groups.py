"""Groups: the channels that can only be removed together, gathered by the leaf axes they touch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxcompress.graph.axes import Axis
from jaxcompress.graph.program import LabelledProgram, Owner
from jaxcompress.paths import natural_order

__all__ = ["Consumer", "Group", "Member", "find_groups"]


class Member(NamedTuple):
    """One axis of one leaf that a group touches.

    Attributes:
        path: the leaf.
        axis: its axis.
        indices: `int[width, multiplicity]`, the indices along it of each channel.
        role: "producer" for the output axis of a kernel, "passing" for one whose channels each
            come from one channel of the input (depthwise kernels, the batch axes of a dot),
            "consumer" for one summed over, "other" for biases, normalisation and anything else.
    """

    path: str
    axis: int
    indices: np.ndarray
    role: str


class Consumer(NamedTuple):
    """One contraction over a group's channels, or one sum, maximum or other reduction of them.

    Attributes:
        path: the leaf kernel; None where both operands are computed, and for a reduction.
        axis: the kernel's axis that is summed over.
        source: the line of code.
    """

    path: str | None
    axis: int | None
    source: str


class Group(NamedTuple):
    """Channels that touch the same leaf axes.

    Attributes:
        name: its smallest producing or passing member, e.g. `params/Conv_3/kernel[3]`.
        width: number of channels.
        members: every leaf axis it touches.
        consumers: every contraction over it.
        is_depth: whether its channels are the steps of a scan over stacked layers.
        has_gate_gradient: whether gates of it can be differentiated by: not where a function with a
            derivative rule of the user's sums over it, since that rule knows of no gates.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    consumers: tuple[Consumer, ...] = ()
    is_depth: bool = False
    has_gate_gradient: bool = True

    def member(self, path: str, axis: int) -> Member:
        """Return the member on one leaf axis."""
        return next(m for m in self.members if (m.path, m.axis) == (path, axis))

    @property
    def producers(self) -> tuple[Member, ...]:
        """The kernel axes that make the channels; a depthwise kernel only passes them on."""
        return tuple(member for member in self.members if member.role == "producer")

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.width} {'layers' if self.is_depth else 'channels'}"]
        for m in self.members:
            times = f" x {m.indices.shape[1]}" if m.indices.shape[1] > 1 else ""
            lines.append(f"  {m.role:8}  {m.path}[{m.axis}]{times}")
        return "\n".join(lines)


def find_groups(
    labelled: LabelledProgram,
    components: np.ndarray,
    offered: np.ndarray,
    counted: Sequence[Axis],
    roles: dict[tuple[str, int], str],
) -> tuple[dict[str, Group], np.ndarray, np.ndarray]:
    """Partition the offered components by the leaf axes, and counted axes, that they touch.

    Args:
        labelled: the reading.
        components: `int[labels]`.
        offered: `bool[components]`, which may be removed.
        counted: the axes of contractions; a group is uniform on each, so that costs depend on
            widths alone.
        roles: "producer" or "consumer" of a leaf axis.

    Returns:
        The groups by name, sorted; and for each component its group's position, or -1, and its
        channel.
    """
    touched = _touched(labelled.owners, components, offered)
    signature: dict[int, list[tuple[int, int]]] = {
        c: [(owner, len(places)) for owner, places in axes.items()] for c, axes in touched.items()
    }
    for number, axis in enumerate(_distinct(counted, components)):
        for component, count in zip(*np.unique(axis, return_counts=True), strict=True):
            if int(component) in signature:
                signature[int(component)].append((-1 - number, int(count)))
    gathered: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for component, touches in signature.items():
        gathered[tuple(touches)].append(component)
    made = [_make(labelled.owners, parts, touched, roles) for parts in gathered.values()]
    named = _name(made)
    order = sorted(named, key=natural_order)
    group_of = np.full(len(offered), -1)
    channel_of = np.zeros(len(offered), np.int64)
    for position, name in enumerate(order):
        _, parts = named[name]
        group_of[parts], channel_of[parts] = position, np.arange(len(parts))
    groups = {name: named[name][0]._replace(name=name) for name in order}
    return groups, group_of, channel_of


def _touched(
    owners: Sequence[Owner], components: np.ndarray, offered: np.ndarray
) -> dict[int, dict[int, list[int]]]:
    """Return, for each offered component, the indices that it has on each leaf axis."""
    touched: dict[int, dict[int, list[int]]] = {}
    for number, owner in enumerate(owners):
        own = components[owner.start : owner.start + owner.size]
        for index in np.flatnonzero(offered[own]).tolist():
            touched.setdefault(int(own[index]), {}).setdefault(number, []).append(index)
    return touched


def _distinct(axes: Iterable[Axis], components: np.ndarray) -> list[np.ndarray]:
    """Return the component multisets of axes, each once."""
    vectors = [np.sort(components[axis.labels]) for axis in axes if axis.labels is not None]
    return list({vector.tobytes(): vector for vector in vectors}.values())


def _make(
    owners: Sequence[Owner],
    parts: list[int],
    touched: dict[int, dict[int, list[int]]],
    roles: dict[tuple[str, int], str],
) -> tuple[Group, list[int]]:
    """Make a group of components; its channels are in index order on the naming axis."""
    numbers = list(touched[parts[0]])
    naming = min(numbers, key=lambda n: _naming_order(owners[n], roles))
    parts = sorted(parts, key=lambda c: touched[c][naming])
    members = [
        Member(
            owners[n].path,
            owners[n].axis,
            np.asarray([touched[c][n] for c in parts]),
            roles.get((owners[n].path, owners[n].axis), "other"),
        )
        for n in numbers
    ]
    members.sort(key=lambda m: (natural_order(m.path), m.axis))
    name = f"{owners[naming].path}[{owners[naming].axis}]"
    return Group(name, len(parts), tuple(members)), parts


def _naming_order(owner: Owner, roles: dict[tuple[str, int], str]) -> tuple[object, ...]:
    role = roles.get((owner.path, owner.axis), "other")
    rank = {"producer": 0, "passing": 0, "other": 1, "consumer": 2}[role]
    return rank, natural_order(owner.path), owner.axis


def _name(made: list[tuple[Group, list[int]]]) -> dict[str, tuple[Group, list[int]]]:
    """Number groups that share a naming axis, by their first index on it."""
    shared: dict[str, list[tuple[Group, list[int]]]] = defaultdict(list)
    for group, parts in made:
        shared[group.name].append((group, parts))
    named = {}
    for name, entries in shared.items():
        path, axis = name[:-1].rsplit("[", 1)
        entries.sort(key=lambda e: int(e[0].member(path, int(axis)).indices[0, 0]))
        for number, entry in enumerate(entries):
            named[name if len(entries) == 1 else f"{name}:{number}"] = entry
    return named
