"""A save that is interrupted anywhere leaves the old artifact or the new one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxcompress.artifact import load, save
from tests.artifact.small import Small, assert_same, data_file, mlp


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@contextlib.contextmanager
def crashing(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """Let the `step`-th system call of a save, and all after it, fail."""
    calls = 0

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > step:
                raise KeyboardInterrupt
            return call(*arguments, **keywords)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync", "open", "unlink"):
            patch.setattr(os, name, guarded(getattr(os, name)))
        yield


def test_an_interrupted_save_leaves_the_old_or_the_new(
    folder: Path, plain: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = jax.tree.map(lambda leaf: leaf + 1, plain.small)
    outcomes = []
    for step in range(40):
        save(folder, plain.prune, plain.small)
        try:
            with crashing(monkeypatch, step):
                save(folder, plain.prune, new)
        except KeyboardInterrupt:
            finished = False
        else:
            finished = True
        _, loaded = load(folder, mlp)
        is_new = bool(loaded["a"]["kernel"][0, 0] == new["a"]["kernel"][0, 0])
        assert_same(loaded, new if is_new else plain.small)
        outcomes.append(is_new)
        if finished:
            break
    assert finished and outcomes == sorted(outcomes)
    assert 5 <= outcomes.count(False) and 2 <= outcomes.count(True)
    assert names_in(folder) == {".lock", "structure.json", data_file(folder).name}


ENDLESS = """
import sys, jax.numpy as jnp
from jaxcompress.artifact import save
from jaxcompress.compression import chain
i = 0
while True:
    save(sys.argv[1], chain(), {"a": jnp.full((100_000,), i, jnp.int32), "b": jnp.int32(i)})
    i += 1
    print(i, flush=True)
"""


def test_a_killed_process_leaves_a_whole_artifact(tmp_path: Path) -> None:
    waits = random.Random(0)
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(2):
            saved = int(writer.stdout.readline())
        time.sleep(waits.uniform(0, 0.2))
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        _, loaded = load(tmp_path, abs)
        assert int(loaded["b"]) >= saved - 1 and bool((loaded["a"] == loaded["b"]).all())
        writer.stdout.close()
