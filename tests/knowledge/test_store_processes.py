"""Any number of processes writes the same store, also when one is killed and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxcompress.knowledge.store import open_store
from tests.knowledge import toy


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
    found = {name: content for name, content in toy.files(tmp_path).items() if name in desired}
    assert found == desired
