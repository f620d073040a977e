"""Groups: the channels that can only be removed together, gathered by the leaf axes they touch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
        The groups by name, in the order in which the program first reads their leaves; and for each
        component its group's position, or -1, and its channel.
    """
    places = _places(labelled.owners, components, offered)
    parts = _alike(places, counted, components, offered)
    made = [_make(labelled.owners, one, places, roles) for one in parts]
    named = _name(made)
    read = {path: number for number, path in enumerate(labelled.labelling.uses)}
    order = sorted(named, key=lambda name: _first_read(named[name][0], read))
    group_of = np.full(len(offered), -1)
    channel_of = np.zeros(len(offered), np.int64)
    for position, name in enumerate(order):
        _, channels = named[name]
        group_of[channels], channel_of[channels] = position, np.arange(len(channels))
    groups = {name: named[name][0]._replace(name=name) for name in order}
    return groups, group_of, channel_of


def _first_read(group: Group, read: Mapping[str, int]) -> tuple[object, ...]:
    """Order groups by where the program first reads a leaf of theirs, and where they lie on it.

    Not by name: what is drawn at random, or equally good, must not depend on what leaves are
    called.
    """
    return min(
        (read.get(m.path, len(read)), natural_order(m.path), m.axis, int(m.indices.min()))
        for m in group.members
    )


class _Places(NamedTuple):
    """Where the offered components lie: an entry for each index of a leaf axis, sorted.

    Attributes:
        component: `int[entries]`, rising.
        owner: `int[entries]`, the number of the leaf axis, rising within a component.
        position: `int[entries]`, on that axis.
    """

    component: np.ndarray
    owner: np.ndarray
    position: np.ndarray


def _places(owners: Sequence[Owner], components: np.ndarray, offered: np.ndarray) -> _Places:
    """Return where each offered component lies on the leaf axes."""
    nothing = np.zeros(0, np.int64)
    columns: list[tuple[np.ndarray, ...]] = [(nothing, nothing, nothing)]
    for number, owner in enumerate(owners):
        along = components[owner.start : owner.start + owner.size]
        index = np.flatnonzero(offered[along])
        columns.append((along[index], np.full(len(index), number), index))
    component, owner_of, index = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((index, owner_of, component))
    return _Places(component[order], owner_of[order], index[order])


def _alike(
    places: _Places, counted: Sequence[Axis], components: np.ndarray, offered: np.ndarray
) -> list[np.ndarray]:
    """Partition the components that lie on leaf axes by the axes that they touch, and how often."""
    present = np.zeros(len(offered), bool)
    present[places.component] = True
    rows = [np.stack([places.component, places.owner])]
    for number, axis in enumerate(_distinct(counted, components)):
        inside = axis[present[axis]]
        rows.append(np.stack([inside, np.full(len(inside), -1 - number)]))
    component, key = np.concatenate(rows, axis=1)
    if not len(component):
        return []
    order = np.lexsort((key, component))
    component, key = component[order], key[order]
    starts = np.flatnonzero(np.diff(component, prepend=-1))
    alike: dict[bytes, list[int]] = defaultdict(list)
    for number, keys in zip(component[starts].tolist(), np.split(key, starts[1:]), strict=True):
        alike[keys.tobytes()].append(number)
    return [np.asarray(numbers) for numbers in alike.values()]


def _distinct(axes: Iterable[Axis], components: np.ndarray) -> list[np.ndarray]:
    """Return the component multisets of axes, each once."""
    vectors = [np.sort(components[axis.labels]) for axis in axes if axis.labels is not None]
    return list({vector.tobytes(): vector for vector in vectors}.values())


def _make(
    owners: Sequence[Owner],
    parts: np.ndarray,
    places: _Places,
    roles: dict[tuple[str, int], str],
) -> tuple[Group, np.ndarray]:
    """Make a group of components; its channels are in index order on the naming axis."""
    first = np.searchsorted(places.component, parts)
    entries = int(np.searchsorted(places.component, parts[0], side="right") - first[0])
    owner_of = places.owner[first[0] : first[0] + entries]
    indices = places.position[first[:, None] + np.arange(entries)]
    numbers = np.unique(owner_of).tolist()
    naming = min(numbers, key=lambda n: _naming_order(owners[n], roles))
    order = np.argsort(indices[:, int(np.argmax(owner_of == naming))])
    members = [
        Member(
            owners[n].path,
            owners[n].axis,
            indices[order][:, owner_of == n],
            roles.get((owners[n].path, owners[n].axis), "other"),
        )
        for n in numbers
    ]
    members.sort(key=lambda m: (natural_order(m.path), m.axis))
    name = f"{owners[naming].path}[{owners[naming].axis}]"
    return Group(name, len(parts), tuple(members)), parts[order]


def _naming_order(owner: Owner, roles: dict[tuple[str, int], str]) -> tuple[object, ...]:
    role = roles.get((owner.path, owner.axis), "other")
    rank = {"producer": 0, "passing": 0, "other": 1, "consumer": 2}[role]
    return rank, natural_order(owner.path), owner.axis


def _name(made: list[tuple[Group, np.ndarray]]) -> dict[str, tuple[Group, np.ndarray]]:
    """Number groups that share a naming axis, by their first index on it."""
    shared: dict[str, list[tuple[Group, np.ndarray]]] = defaultdict(list)
    for group, parts in made:
        shared[group.name].append((group, parts))
    named = {}
    for name, entries in shared.items():
        path, axis = name[:-1].rsplit("[", 1)
        entries.sort(key=lambda e: int(e[0].member(path, int(axis)).indices[0, 0]))
        for number, entry in enumerate(entries):
            named[name if len(entries) == 1 else f"{name}:{number}"] = entry
    return named
