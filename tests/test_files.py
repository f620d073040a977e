"""Files appear whole, and a folder has one owner, also where the system has no locks of its own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxcompress import files

NO_LOCKS = """
import sys
sys.modules["fcntl"] = None
from pathlib import Path
import jaxcompress, jaxcompress.artifact, jaxcompress.training
from jaxcompress import files
assert files.fcntl is None
folder = Path(sys.argv[1])
with files.locked(folder):
    print((folder / ".lock").read_text())
print((folder / ".lock").exists())
"""


def test_a_system_without_locks(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_LOCKS, str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    owner, left = output.stdout.splitlines()
    assert owner.startswith("process ") and left == "False"


@pytest.fixture(params=["system", "name"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "name":
        monkeypatch.setattr(files, "fcntl", None)
        monkeypatch.setattr(files, "POLL_SECONDS", 0.001)
    elif files.fcntl is None:
        pytest.skip("this system has no locks of its own")
    return str(request.param)


def test_a_second_owner_is_told_of_the_first(tmp_path: Path, way: str) -> None:
    for _ in range(2):
        with files.locked(tmp_path):
            with pytest.raises(
                BlockingIOError, match=f"{tmp_path} is held by process {os.getpid()}"
            ):
                with files.locked(tmp_path):
                    pytest.fail("it is held")
    with pytest.raises(ZeroDivisionError), files.locked(tmp_path):
        raise ZeroDivisionError
    with files.locked(tmp_path):
        pass


def test_what_a_killed_owner_left_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    (tmp_path / ".lock").write_text("process 1 on venus")
    with pytest.raises(BlockingIOError, match="process 1 on venus.*if it has ended, delete .*lock"):
        with files.locked(tmp_path):
            pytest.fail("it is held")


def test_those_who_wait_take_turns(tmp_path: Path, way: str) -> None:
    inside: list[int] = []

    def work() -> None:
        for _ in range(20):
            with files.locked(tmp_path, wait=True):
                inside.append(1)
                inside.append(-1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [1, -1] * 60


def test_a_lock_that_is_no_file_is_named(tmp_path: Path, way: str) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"a lock is a file, but .*\.lock is a link"):
        with files.locked(tmp_path):
            pytest.fail("it is no lock")
    assert (tmp_path / "victim").read_text() == "precious"


def test_only_one_module_knows_how_a_folder_is_held() -> None:
    root = Path(files.__file__).parents[1]
    folders = [root / name for name in ("jaxcompress", "experiments", "benchmarks")]
    sources = [file for folder in folders for file in folder.rglob("*.py")]
    users = [file.name for file in sources if "fcntl" in file.read_text()]
    assert users == ["files.py"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device: .*facts.json"):
        with files.atomic_file(tmp_path / "facts.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())
