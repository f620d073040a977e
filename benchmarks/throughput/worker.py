"""One framework of `benchmarks.throughput` in a process of its own, asked over its pipes.

A question is one line of JSON. ``{"case": {...}, "kinds": {"compile": true, ...}, "folder": ...}``
prepares every variant and answers with the seconds of its first call, or with what kept it from
running;
``{"variant": name, "steps": n}`` answers with the seconds of n calls. Between questions the process
sleeps, so that it takes nothing from the other framework.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Array, Json

__all__ = ["JAX", "TORCH", "Prepared", "Side", "Worker", "serve"]

JAX, TORCH = "jaxcompress", "PyTorch"
Call = Callable[[], None]
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Memory in pages of 2 MB, for either framework; what 4 KB cost is in `benchmarks.pages`."""


class Prepared(Protocol):
    """What a framework prepared for one case: how far its logits are off, and its variants."""

    @property
    def logits_error(self) -> float:
        """The largest difference of the logits, relative to the largest logit."""

    @property
    def variants(self) -> Mapping[str, Call | str]:
        """A call that ends when the device is done, or the reason why there is none."""


Side = Callable[[dict[str, Any], Mapping[str, bool], Path], Prepared]


def serve(prepare: Side) -> None:
    """Answer questions until the pipe closes; the framework's own output goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    calls: dict[str, Call] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if "case" in question:
            calls, answer = _prepare(prepare, question)
        else:
            answer = {"seconds": _timed(calls[question["variant"]], question["steps"])}
        print(json.dumps(answer), file=answers, flush=True)


def _prepare(prepare: Side, question: dict[str, Array]) -> tuple[dict[str, Call], dict[str, Any]]:
    prepared = prepare(question["case"], question["kinds"], Path(question["folder"]))
    calls: dict[str, Call] = {}
    first: dict[str, Array] = {}
    for name, call in prepared.variants.items():
        if isinstance(call, str):
            first[name] = call
            continue
        try:
            (first[name],) = _timed(call, 1)
            _timed(call, 1)
        except Exception as error:  # noqa: BLE001 a variant that cannot run is a row of its own
            first[name] = f"{type(error).__name__}: {str(error).strip()[:200]}"
        else:
            calls[name] = call
    return calls, {"logits_error": prepared.logits_error, "first": first}


def _timed(call: Call, steps: int) -> list[float]:
    seconds = []
    for _ in range(steps):
        watch = Stopwatch()
        call()
        seconds.append(watch.seconds)
    return seconds


class Worker:
    """The other end: starts a framework's module, `ours` or `pytorch`, and asks it."""

    def __init__(self, module: str, python: str, threads: int, device: str) -> None:
        command = [python, "-m", "benchmarks.throughput.side", module, str(threads), device]
        environment = {**LARGE_PAGES, **os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )

    def ask(self, question: dict[str, Array]) -> dict[str, Json]:
        """Ask and wait for the answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} ended; its last words are above")
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
