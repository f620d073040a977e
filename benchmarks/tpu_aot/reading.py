"""What the text of a compiled program says: cycles, collectives, loops, calls to the host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxcompress.annotations import Json

__all__ = ["Reading", "cycles", "read_compiled", "read_text"]

HEAD = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*\) -> .*\{$")
CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
ROUNDS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
CONDITION = re.compile(r" while\(.*condition=%([\w.\-]+)")
LIMIT = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
CALLED = re.compile(
    r"(?:body|condition|to_apply|true_computation|false_computation)=%([\w.\-]+)"
    r"|branch_computations=\{([^}]*)\}|calls=%([\w.\-]+)"
)
RUNS_OTHERS = re.compile(r" (?:while|call|conditional|async-start)\(")
COUNTED = {
    "all_reduces": re.compile(r" all-reduce(?:-start)?\("),
    "all_gathers": re.compile(r" all-gather(?:-start)?\("),
    "reduce_scatters": re.compile(r" reduce-scatter(?:-start)?\("),
    "all_to_alls": re.compile(r" all-to-all(?:-start)?\("),
    "permutes": re.compile(r" collective-permute(?:-start)?\("),
    "whiles": re.compile(r" while\("),
    "host_calls": re.compile(r"is_host_transfer=true|host_callback|xla_python_\w*callback"),
}


class Reading(NamedTuple):
    """What a compiled program is expected to take on each device.

    Attributes:
        cycles: of all operations, the bodies of loops as often as they run; once where the text
            does not tell.
        counts: how many operations of each kind of `COUNTED`, in the text.
    """

    cycles: int
    counts: dict[str, int]


def read_text(text: str, without: str = "") -> Reading:
    """Read the text of a compiled program.

    Args:
        text: of the program.
        without: operations whose names hold this word take no cycles, where it is given.

    Example:
        >>> lines = [
        ...     "%body (p: f32[]) -> f32[] {",
        ...     '  %a = f32[] add(%p, %p), backend_config={"estimated_cycles":"10"}',
        ...     "}",
        ...     "ENTRY %main (p: f32[]) -> f32[] {",
        ...     '  %w = f32[] while(%p), body=%body, backend_config={"known_trip_count":{"n":"3"}}',
        ...     '  %b = f32[] add(%w, %w), backend_config={"estimated_cycles":"5"}',
        ...     "}",
        ... ]
        >>> reading = read_text(chr(10).join(lines))
        >>> reading.cycles, reading.counts["whiles"]
        (35, 1)
    """
    computations, entry = _computations(text)
    counts = {name: len(pattern.findall(text)) for name, pattern in COUNTED.items()}
    if without:
        computations = {
            name: [line for line in lines if without not in line]
            for name, lines in computations.items()
        }
    return Reading(_cycles(computations, entry, {}), counts)


def cycles(compiled: Any) -> int:
    """Return the cycles that a compiled program is expected to take."""
    return read_text(compiled.as_text()).cycles


def read_compiled(compiled: Any) -> dict[str, Json]:
    """Return what a compiled program is expected to take, memory and FLOPs included."""
    reading, memory = read_text(compiled.as_text()), compiled.memory_analysis()
    analysis = compiled.cost_analysis() or {}
    sizes = {
        name: int(getattr(memory, f"{name}_size_in_bytes"))
        for name in ("argument", "output", "temp", "alias", "generated_code")
    }
    peak = getattr(memory, "peak_memory_in_bytes", 0)
    held = sizes["argument"] + sizes["output"] + sizes["temp"] - sizes["alias"]
    return {
        "cycles": reading.cycles,
        "flops": analysis.get("flops"),
        "bytes_accessed": analysis.get("bytes accessed"),
        "peak_bytes": int(peak) or held,
        "memory": sizes,
        **reading.counts,
    }


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Return the lines of each computation by name, and the name of the first that runs."""
    computations: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        head = HEAD.match(line)
        if head:
            name = head[2]
            computations[name] = []
            entry = name if head[1] else entry
        elif name:
            computations[name].append(line)
    return computations, entry


def _cycles(computations: dict[str, list[str]], name: str, known: dict[str, int]) -> int:
    if name not in known:
        total = 0
        for line in computations.get(name, ()):
            estimate = CYCLES.search(line)
            # What an operation is estimated at holds the operations fused into it.
            inner = 0 if estimate else sum(_cycles(computations, c, known) for c in _called(line))
            total += int(estimate[1]) if estimate else inner * _rounds(computations, line)
        known[name] = total
    return known[name]


def _rounds(computations: dict[str, list[str]], line: str) -> int:
    """Return how often an operation runs what it calls: a loop as often as is said, or compared."""
    said, condition = ROUNDS.search(line), CONDITION.search(line)
    if said or not condition:
        return int(said[1]) if said else 1
    # A counted loop, which `scan` and `map` become, compares with one number.
    limits = [LIMIT.search(one) for one in computations.get(condition[1], ())]
    numbers = [int(limit[1]) for limit in limits if limit]
    return numbers[0] if len(numbers) == 1 else 1


def _called(line: str) -> Iterator[str]:
    """Yield the computations that an operation runs; a reduction's own sum is none of them."""
    if not RUNS_OTHERS.search(line):
        return
    for match in CALLED.finditer(line):
        for names in filter(None, match.groups()):
            yield from re.findall(r"[\w.\-]+", names)
