"""Element-wise equations on what turns: sums of two, multiples, products, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxcompress.graph.interpret import Node
from jaxcompress.graph.rules.elementwise import RULES
from jaxcompress.prune.rotation.record import Action, Record, Scale
from jaxcompress.prune.rotation.states import TURNING, Multiple, Scaled, State, Status

__all__ = ["elementwise", "is_elementwise"]

ADDITIONS = ("add", "sub", "add_any")
PASSING = """
convert_element_type copy copy_p neg optimization_barrier pcast pvary real reduce_precision
reshard sharding_constraint stop_gradient
""".split()
ARITHMETIC: dict[str, Callable[..., float | None]] = {
    "add": lambda one, other: one + other,
    "sub": lambda one, other: one - other,
    "mul": lambda one, other: one * other,
    "div": lambda one, other: one / other if other else None,
    "neg": lambda one: -one,
    "convert_element_type": lambda one: one,
    "copy": lambda one: one,
    "stop_gradient": lambda one: one,
}


def is_elementwise(node: Node) -> bool:
    """Tell whether entries of the one result are functions of the operands' entries there."""
    return node.equation.primitive.name in RULES and len(node.outputs) == 1


def elementwise(record: Record, node: Node, states: Sequence[State]) -> State:
    """Return the state of an element-wise equation's result."""
    name = node.equation.primitive.name
    axes = _statuses(node, states)
    if not any(state.turns for state in states):
        operation = ARITHMETIC.get(name)
        numbers = [state.number for state in states]
        is_known = operation is not None and None not in numbers
        return State(axes, number=operation(*numbers) if is_known and operation else None)
    places = [place for place, status in enumerate(axes) if status in TURNING]
    if name in PASSING:
        return _negative(states[0], axes) if name == "neg" else states[0]
    if name in ADDITIONS:
        return _sum(record, node, states, axes, places)
    if name in ("mul", "div"):
        return _product(record, node, states, axes, places)
    is_square = name == "square" or (name == "integer_pow" and node.equation.params["y"] == 2)
    if is_square and states[0].only(Status.TURNS):
        return State(tuple(Status.SQUARE if s in TURNING else s for s in axes))
    if name == "select_n":
        return _selection(record, node, states, axes, places)
    return _refused(record, node, states, axes, f"'{name}' acts on single channels")


def _statuses(node: Node, states: Sequence[State]) -> tuple[Status, ...]:
    """Return what turns, and of the rest what is the same along an axis for all operands."""
    return tuple(
        _together([_along(state, place) for state in states])
        for place in range(len(node.outputs[0].axes))
    )


def _along(state: State, place: int) -> Status:
    return state.axes[place] if state.axes else Status.SAME


def _together(statuses: Sequence[Status]) -> Status:
    for status in (Status.SCALED, Status.SQUARE, Status.TURNS, Status.VARIES):
        if status in statuses:
            return status
    return Status.SAME


def _inexact(state: State) -> Multiple | None:
    return None if state.multiple is None else state.multiple._replace(is_exact=False)


def _negative(state: State, axes: tuple[Status, ...]) -> State:
    return State(axes, _inexact(state), state.scaled and state.scaled.times(-1.0))


def _refused(
    record: Record, node: Node, states: Sequence[State], axes: tuple[Status, ...], reason: str
) -> State:
    """Note why: a scale that can be a matrix is one, all else is refused."""
    waiting = [state.scaled for state in states if state.scaled is not None]
    for scaled in waiting:
        record.fail(node, scaled, reason)
    if not waiting:
        record.refuse(node, reason)
    return State(tuple(Status.TURNS if status in TURNING else status for status in axes))


def _is_same(state: State, places: Sequence[int]) -> bool:
    return all(_along(state, place) is Status.SAME for place in places)


def _sum(
    record: Record,
    node: Node,
    states: Sequence[State],
    axes: tuple[Status, ...],
    places: Sequence[int],
) -> State:
    left, right = states
    if right.number == 0:
        return left._replace(axes=axes)
    if left.number == 0:
        is_less = node.equation.primitive.name == "sub"
        return _negative(right, axes) if is_less else right._replace(axes=axes)
    is_scaled = left.scaled is not None or right.scaled is not None
    if _alike(left, right, places) and not is_scaled:
        return State(axes)
    turned = [state for state in states if state.turns]
    if len(turned) == 2 or is_scaled:
        return _shifted(record, node, left, right, axes)
    same = 1 - states.index(turned[0])
    is_same = turned[0].only(Status.TURNS) and len(places) == 1 and _is_same(states[same], places)
    if not is_same:
        reason = "what is no leaf is added to its channels, each in its way"
        return _refused(record, node, states, axes, reason)
    record.actions[id(node)] = Action("add", same, places[0])
    return State(axes)


def _alike(left: State, right: State, places: Sequence[int]) -> bool:
    return all(_along(left, place) is _along(right, place) for place in places)


def _shifted(
    record: Record, node: Node, left: State, right: State, axes: tuple[Status, ...]
) -> State:
    """Take a leaf that is added to scaled channels as their shift."""
    is_subtracted = node.equation.primitive.name == "sub"
    for one, other in ((left, right), (right, left)):
        leaf = other.multiple
        if one.scaled is None or leaf is None or not leaf.is_exact or other.scaled is not None:
            continue
        if not one.scaled.shift and not (is_subtracted and one is right):
            weight = -1.0 if is_subtracted else 1.0
            return State(axes, None, Scaled(one.scaled.scale, leaf.leaf, weight))
    return _refused(record, node, (left, right), axes, "something is added to scaled channels")


def _product(
    record: Record,
    node: Node,
    states: Sequence[State],
    axes: tuple[Status, ...],
    places: Sequence[int],
) -> State:
    left, right = states
    is_product = node.equation.primitive.name == "mul"
    for one, other in ((left, right), (right, left))[: 2 if is_product else 1]:
        if _is_same(other, places):
            number = other.number
            if not is_product and number is not None:
                number = 1 / number if number else None
            return State(axes, _inexact(one), one.scaled and one.scaled.times(number))
    both = all(state.only(Status.TURNS) for state in states) and _alike(left, right, places)
    if not is_product or not both:
        reason = "its channels are multiplied or divided, each in its way"
        return _refused(record, node, states, axes, reason)
    for position, state in ((1, right), (0, left)):
        if state.multiple is not None and states[1 - position].multiple is None:
            return _scaled(record, node, position, state.multiple.leaf, axes, places[0])
    return State(tuple(Status.SQUARE if status in TURNING else status for status in axes))


def _scaled(
    record: Record, node: Node, position: int, leaf: str, axes: tuple[Status, ...], place: int
) -> State:
    if leaf in record.matrices:
        record.actions[id(node)] = Action("matrix", position, place)
        return State(axes)
    record.scales.setdefault(leaf, Scale(Scaled(leaf)))
    changed = tuple(Status.SCALED if status in TURNING else status for status in axes)
    return State(changed, None, Scaled(leaf))


def _selection(
    record: Record,
    node: Node,
    states: Sequence[State],
    axes: tuple[Status, ...],
    places: Sequence[int],
) -> State:
    """Choose between arrays that turn alike, or zero, for all channels together."""
    which, *cases = states
    turned = [state for state in cases if state.turns]
    is_dropped = record.is_training and not which.turns
    rest = all(state.number == 0 for state in cases if not state.turns)
    alike = bool(turned) and all(_alike(state, turned[0], places) for state in turned)
    if not (rest and alike and (is_dropped or _is_same(which, places))):
        return _refused(record, node, states, axes, "single channels of it are selected")
    if turned[0].scaled is not None and len(turned) > 1:
        return _refused(record, node, states, axes, "scaled channels are selected")
    scaled = turned[0].scaled and turned[0].scaled.times(None)
    return State(axes, None, scaled)
