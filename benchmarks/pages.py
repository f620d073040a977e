"""What small pages of memory cost a training step on a CPU.

    python -m benchmarks.pages

Trains ResNet-20 in two kinds of processes by turns: as they are, and with glibc asking the kernel
for pages of 2 MB (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`). Writes the median processor time of a
step, what part of it the kernel took, and the pages it handed out, to
`benchmarks/results/pages.json`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.cpu_profile import step
from benchmarks.throughput.worker import LARGE_PAGES
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from jaxcompress.annotations import Json

__all__ = ["COMMAND", "Config", "Usage", "main", "measured", "tell"]

KINDS: Mapping[str, Mapping[str, str]] = {"pages of 4 KB": {}, "pages of 2 MB": LARGE_PAGES}


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is measured.

    Attributes:
        network: one of the registry, of 32 x 32 images; batches are of 128.
        rounds: processes of each kind.
        steps: that are measured in each, after two.
        output: the JSON file.
    """

    network: str = "resnet20"
    rounds: int = 3
    steps: int = 8
    output: Path = Path("benchmarks/results/pages.json")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What a step took.

    Attributes:
        seconds: of processor time.
        kernel_seconds: of those, in the kernel.
        pages: that the kernel handed out.
    """

    seconds: float
    kernel_seconds: float
    pages: float


def measured(network: str, steps: int) -> list[Usage]:
    """Return what each of some training steps takes, after two."""
    call = step(True, network)
    call(), call()
    marks = [resource.getrusage(resource.RUSAGE_SELF)]
    for _ in range(steps):
        call()
        marks.append(resource.getrusage(resource.RUSAGE_SELF))
    return [
        Usage(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            after.ru_stime - before.ru_stime,
            after.ru_minflt - before.ru_minflt,
        )
        for before, after in zip(marks[:-1], marks[1:], strict=True)
    ]


def main(config: Config) -> dict[str, Json]:
    """Measure in turns, print and write."""
    prepare()
    usages: dict[str, list[Usage]] = {kind: [] for kind in KINDS}
    for _ in range(config.rounds):
        for kind, variables in KINDS.items():
            usages[kind] += _of_a_process(config, variables)
    rows = [{"kind": kind, **_medians(of_kind)} for kind, of_kind in usages.items()]
    for row in rows:
        print(row, flush=True)
    settings = {"network": config.network, "rounds": config.rounds, "steps": config.steps}
    report = {"environment": describe(), "config": settings, "rows": rows}
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(report, indent=2) + "\n")
    return report


def _of_a_process(config: Config, variables: Mapping[str, str]) -> list[Usage]:
    """Measure in a new process: glibc reads its settings when one starts."""
    plain = {name: value for name, value in os.environ.items() if name not in LARGE_PAGES}
    code = f"from benchmarks.pages import tell; tell({config.network!r}, {config.steps})"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**plain, **variables},
        check=True,
        capture_output=True,
        text=True,
    )
    return [Usage(**usage) for usage in json.loads(answer.stdout)]


def tell(network: str, steps: int) -> None:
    """Print what steps take in this process, as JSON."""
    prepare()
    print(json.dumps([dataclasses.asdict(usage) for usage in measured(network, steps)]))


def _medians(usages: list[Usage]) -> dict[str, Json]:
    rows = [dataclasses.asdict(usage) for usage in usages]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


COMMAND = Command("benchmarks.pages", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
