"""Any number of processes writes the same store, also when they are killed and go on.

Processes share the blocks because they are told so (`part`), or because `jax.distributed` counts
them; then the views of a batch spread over their devices are those of one device as well.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from jaxcompress.knowledge.store import open_store
from tests.knowledge import distributed, toy

Process: TypeAlias = "subprocess.Popen[str]"


def start(folder: Path, number: int, count: int, pause: float = 0.0) -> subprocess.Popen[bytes]:
    arguments = [str(folder), str(number), str(count), str(pause)]
    return subprocess.Popen([sys.executable, "-m", "tests.knowledge.toy", *arguments])


@pytest.fixture(scope="module")
def desired(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("store")
    toy.write_toy(folder)
    return toy.files(folder)


def test_two_processes_share_the_blocks(tmp_path: Path, desired: dict[str, bytes]) -> None:
    both = [start(tmp_path, number, 2) for number in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert toy.files(tmp_path) == desired
    open_store(tmp_path, variables=toy.VARIABLES, source=toy.SOURCE)


def test_a_killed_process_goes_on_where_it_was(tmp_path: Path, desired: dict[str, bytes]) -> None:
    process = start(tmp_path, 0, 1, pause=0.2)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("records/logits/c/0/*/0"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = open_store(tmp_path, partial=True)
    with pytest.raises(ValueError, match="call write again"):
        open_store(tmp_path)
    assert store.read([0], 0)["logits"].shape == (1, 6)
    seen: list[int] = []
    toy.write_toy(tmp_path, on_progress=lambda progress: seen.append(progress.written))
    assert 2 <= seen[0] < seen[-1] == 12
    contents = {name: content for name, content in toy.files(tmp_path).items() if name in desired}
    assert contents == desired


def start_distributed(folder: Path, count: int, pause: float = 0.0) -> list[Process]:
    """Start processes of one device each that find each other."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    program = [sys.executable, "-m", "tests.knowledge.distributed", str(port)]
    return [
        subprocess.Popen(
            [*program, str(number), str(count), str(folder), str(pause)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def wait_for(processes: list[Process]) -> None:
    """Wait until all are done; skip where this machine cannot run them together."""
    errors = [process.communicate(timeout=240)[1] for process in processes]
    if any(process.returncode for process in processes):
        text = "\n".join(errors)
        if "Multiprocess computations aren't implemented" in text or "DEADLINE_EXCEEDED" in text:
            pytest.skip(f"jax.distributed does not run on this CPU: {text[-300:]}")
        raise AssertionError(text)


@pytest.mark.parametrize("count", [1, 2])
def test_distributed_processes_agree_with_one(
    tmp_path: Path, desired: dict[str, bytes], count: int
) -> None:
    wait_for(start_distributed(tmp_path, count))
    assert toy.files(tmp_path / "store") == desired
    open_store(tmp_path / "store", variables=toy.VARIABLES, source=toy.SOURCE)
    drawn = [np.load(file) for file in sorted(tmp_path.glob("views-*.npy"))]
    assert len(drawn) == count
    np.testing.assert_array_equal(np.concatenate(drawn), distributed.reference())


def test_killed_distributed_processes_go_on(tmp_path: Path, desired: dict[str, bytes]) -> None:
    both = start_distributed(tmp_path, 2, pause=0.5)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and all(process.poll() is None for process in both):
        if len(list(tmp_path.glob("store/records/logits/c/*/*/0"))) >= 4:
            break
        time.sleep(0.02)
    for process in both:
        process.kill()
        process.communicate()
    written = len(list(tmp_path.glob("store/records/logits/c/*/*/0")))
    assert 4 <= written < 12
    wait_for(start_distributed(tmp_path, 2))
    contents = toy.files(tmp_path / "store")
    assert {name: content for name, content in contents.items() if name in desired} == desired
