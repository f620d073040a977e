"""Equations that move entries, sum them up or contract them: what becomes of axes that turn."""

from __future__ import annotations

from collections.abc import Sequence

from jaxcompress.graph.internals import shape_of
from jaxcompress.graph.interpret import Node
from jaxcompress.graph.passing import sources
from jaxcompress.prune.rotation.record import Action, Record, Scale
from jaxcompress.prune.rotation.states import TURNING, State, Status

__all__ = ["MOVES", "contraction", "moved", "summed"]

MOVES = """
broadcast_in_dim concatenate dynamic_slice expand_dims gather pad reshape rev slice split squeeze
transpose
""".split()
REARRANGING = "broadcast_in_dim expand_dims reshape slice squeeze transpose".split()


def moved(record: Record, node: Node, states: Sequence[State]) -> list[State]:
    """Return the states of an equation's results, whose entries are those of its operands."""
    name = node.equation.primitive.name
    arrays = states[: None if name in ("concatenate", "pad") else 1]
    results = [_moved(node, position, states) for position in range(len(node.outputs))]
    lost = name == "concatenate" and any(state.scaled is not None for state in arrays)
    lost |= any(_is_lost(node, results, arrays, number) for number in range(len(arrays)))
    if name == "pad":
        lost |= states[0].turns and states[1].number != 0
    if not lost and not _is_moved_along(node, states):
        return results
    for state in arrays:
        record.fail(node, state.scaled, f"'{name}' takes its channels apart")
    if all(state.scaled is None for state in arrays):
        record.refuse(node, f"'{name}' takes its channels apart")
    return results


def _moved(node: Node, position: int, states: Sequence[State]) -> State:
    name, shape = node.equation.primitive.name, shape_of(node.equation.outvars[position])
    axes = []
    for size, origins in zip(shape, sources(node, position), strict=True):
        pairs = [
            (states[operand].axes[dimension], node.inputs[operand].axes[dimension].size)
            for operand, dimension in origins
        ]
        statuses = {status for status, length in pairs if length > 1}
        is_joined = name in ("concatenate", "pad", "gather") and {n for _, n in pairs} != {size}
        if size == 1 or (not statuses and not is_joined and name in REARRANGING):
            axes.append(Status.SAME)
        elif len(statuses) == 1 and not is_joined:
            axes.append(statuses.pop())
        else:
            axes.append(Status.VARIES)
    first, numbers = states[0], {state.number for state in states}
    is_known = name in ("concatenate", "pad", *REARRANGING) and len(numbers) == 1
    number = first.number if is_known else None
    if name in ("concatenate", "pad"):
        return State(tuple(axes), None, first.scaled and first.scaled.times(None), number)
    return State(tuple(axes), first.multiple, first.scaled, number)


def _is_lost(node: Node, results: Sequence[State], arrays: Sequence[State], number: int) -> bool:
    """Tell whether an axis that turns is not whole, once, in each result, or joined to another."""
    for dimension, status in enumerate(arrays[number].axes):
        if status not in TURNING:
            continue
        size = node.inputs[number].axes[dimension].size
        for position, result in enumerate(results):
            origins = sources(node, position)
            shape = shape_of(node.equation.outvars[position])
            places = [
                place
                for place, pairs in enumerate(origins)
                if (number, dimension) in pairs and shape[place] > 1
            ]
            if len(places) != 1 or shape[places[0]] != size:
                return True
            if result.axes[places[0]] is not status:
                return True
    return False


def _is_moved_along(node: Node, states: Sequence[State]) -> bool:
    """Tell whether entries are taken in another order along an axis that turns."""
    params, axes = node.equation.params, states[0].axes
    turning = {place for place, status in enumerate(axes) if status in TURNING}
    if node.equation.primitive.name == "rev":
        return bool(turning & set(params["dimensions"]))
    if node.equation.primitive.name == "concatenate":
        return params["dimension"] in turning
    if node.equation.primitive.name == "gather":
        numbers, shape = params["dimension_numbers"], shape_of(node.equation.invars[0])
        chosen = {*numbers.start_index_map, *numbers.operand_batching_dims}
        whole = all(params["slice_sizes"][place] == shape[place] for place in turning)
        return bool(turning & chosen) or not whole or any(state.turns for state in states[1:])
    return False


def summed(record: Record, node: Node, state: State) -> State:
    """Return the state of a sum: over channels that turn, products of two stay what they were."""
    axes = node.equation.params["axes"]
    statuses = [state.axes[place] for place in axes if state.axes[place] in TURNING]
    left = [status for place, status in enumerate(state.axes) if place not in axes]
    if statuses and state.scaled is not None:
        record.fail(node, state.scaled, "its channels are summed up")
        return State(tuple(left))
    is_rest = not any(status in TURNING for status in left)
    if statuses == [Status.TURNS]:
        record.actions[id(node)] = Action("sum", 0, state.axes.index(Status.TURNS))
    elif statuses and not (is_rest and set(statuses) == {Status.SQUARE}):
        record.refuse(node, "some axes of a product of channels are summed up")
    number = 1
    for place in axes:
        number *= node.inputs[0].axes[place].size
    count = float(number) if isinstance(number, int) else None
    return State(tuple(left), None, state.scaled and state.scaled.times(count))


def contraction(record: Record, node: Node, states: Sequence[State]) -> State:
    """Return the state of a dot or convolution: where both operands turn, the product does not."""
    is_dot = node.equation.primitive.name == "dot_general"
    summed_pairs, kept = (_dot if is_dot else _convolution)(node)
    kernel = next((i for i in (1, 0) if node.inputs[i].leaf is not None), None)
    for place, state in enumerate(states):
        for dimension, status in enumerate(state.axes):
            is_free = dimension in kept[place]
            if status is Status.TURNS and is_free:
                continue
            if status in TURNING and (is_free or dimension not in summed_pairs[place]):
                _refuse(record, node, state, "its channels are no longer apart")
    for left, right in zip(*summed_pairs, strict=True):
        _pair(record, node, states, (left, right), kernel)
    result = []
    for size, origins in zip(shape_of(node.equation.outvars[0]), sources(node, 0), strict=True):
        statuses = {states[operand].axes[dimension] for operand, dimension in origins}
        is_one = len(statuses) == 1 and (is_dot or statuses == {Status.TURNS})
        varies = Status.SAME if size == 1 else Status.VARIES
        result.append(statuses.pop() if is_one else varies)
    return State(tuple(Status.TURNS if status in TURNING else status for status in result))


def _refuse(record: Record, node: Node, state: State, reason: str) -> None:
    if state.scaled is not None:
        record.fail(node, state.scaled, reason)
    else:
        record.refuse(node, reason)


def _pair(
    record: Record,
    node: Node,
    states: Sequence[State],
    places: tuple[int, int],
    kernel: int | None,
) -> None:
    """Look at one pair of axes that is summed over."""
    statuses = [state.axes[place] for state, place in zip(states, places, strict=True)]
    if not any(status in TURNING for status in statuses):
        return
    path = None if kernel is None else node.inputs[kernel].leaf
    if statuses == [Status.TURNS, Status.TURNS]:
        if path is not None:
            record.readers.add(path)
        return
    waiting = [state.scaled for state in states if state.scaled is not None]
    if len(waiting) == 1 and path is not None and set(statuses) == {Status.TURNS, Status.SCALED}:
        assert kernel is not None
        if states[kernel].scaled is None and node.equation.primitive.name == "dot_general":
            _taken(record, node, states[1 - kernel], path)
            return
    for scaled in waiting:
        record.fail(node, scaled, "no kernel takes its scale")
    if not waiting:
        record.refuse(node, "its channels are contracted with what does not turn")


def _taken(record: Record, node: Node, state: State, kernel: str) -> None:
    """Note that a kernel takes a scale, and the bias behind it the shift."""
    scaled = state.scaled
    assert scaled is not None
    if scaled.weight is None:
        record.fail(node, scaled, "its shift is added an unknown number of times")
        return
    before = record.scales.get(scaled.scale, Scale(scaled))
    if before.kernels and before.scaled != scaled:
        record.fail(node, scaled, "it is shifted here and not there")
    record.scales[scaled.scale] = Scale(scaled, before.kernels | {kernel})


def _dot(node: Node) -> tuple[Sequence[Sequence[int]], list[set[int]]]:
    contracted, batch = node.equation.params["dimension_numbers"]
    kept = [
        set(range(len(value.axes))) - {*contracted[place], *batch[place]}
        for place, value in enumerate(node.inputs)
    ]
    return contracted, kept


def _convolution(node: Node) -> tuple[Sequence[Sequence[int]], list[set[int]]]:
    params = node.equation.params
    numbers = params["dimension_numbers"]
    is_whole = params["feature_group_count"] == params["batch_group_count"] == 1
    contracted = ((numbers.lhs_spec[1],), (numbers.rhs_spec[1],)) if is_whole else ((), ())
    return contracted, [set(), {numbers.rhs_spec[0]} if is_whole else set()]
