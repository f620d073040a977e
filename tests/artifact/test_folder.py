"""An artifact's folder: savers and readers side by side, kills, and files of somebody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxcompress.artifact import inspect, load, save
from jaxcompress.compression import chain


def filled(value: float) -> dict[str, Any]:
    return {"a": np.full((30, 30), value, np.float32)}


def value_in(folder: Path) -> float:
    """Return the value of an artifact that was filled with one."""
    array = np.asarray(load(folder, abs)[1]["a"])
    assert (array == array[0, 0]).all()
    return float(array[0, 0])


def test_savers_and_readers_do_not_break_each_other(tmp_path: Path) -> None:
    save(tmp_path, chain(), filled(0))
    errors: list[Exception] = []
    done = threading.Event()
    seen: list[float] = []

    def write(base: int) -> None:
        try:
            for number in range(15):
                save(tmp_path, chain(), filled(base + number))
        except Exception as error:
            errors.append(error)

    def read() -> None:
        try:
            while not done.is_set():
                seen.append(value_in(tmp_path))
                assert inspect(tmp_path)["params"] == 900
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(base,)) for base in (100, 200)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not errors and len(set(seen)) > 2
    assert value_in(tmp_path) in (114, 214)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_reader_overtaken_by_a_saver_reads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, chain(), filled(1))
    module = sys.modules["jaxcompress.artifact.folder"]
    read, saves = module._read_structure, [2.0, 3.0]  # type: ignore[attr-defined]

    def overtaken(folder: Path) -> Any:
        structure = read(folder)
        if saves:
            save(folder, chain(), filled(saves.pop(0)))
        return structure

    monkeypatch.setattr(module, "_read_structure", overtaken)
    assert value_in(tmp_path) == 3


def test_files_of_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    foreign = ("variables-of-my-thesis.safetensors", f"variables-{'0' * 16}.safetensors")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in foreign:
        (folder / name).write_text("months of work")
    for name in ("variables.tmp", "structure.json.tmp", "structure.json"):
        (folder / name).symlink_to(victim)
    for value in range(3):
        save(folder, chain(), filled(value))
    assert victim.read_text() == "precious" and not (folder / "structure.json").is_symlink()
    assert all((folder / name).read_text() == "months of work" for name in foreign)
    # One artifact, the two of somebody else, two links and the lock.
    assert len(list(folder.iterdir())) == 2 + 2 + 2 + 1


@pytest.mark.parametrize("name", ["../victim", "/etc/nothing", "victim", 3, None, ["a"]])
def test_what_an_earlier_structure_names_is_not_trusted(tmp_path: Path, name: Any) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    for victim in (tmp_path / "victim", folder / "victim"):
        victim.write_text("precious")
    (folder / "structure.json").write_text(json.dumps({"file": {"name": name}}))
    save(folder, chain(), filled(1))
    assert (tmp_path / "victim").exists() and (folder / "victim").exists()
    assert value_in(folder) == 1


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_the_umask_decides_the_modes(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        save(tmp_path, chain(), filled(1))
    finally:
        os.umask(before)
    modes = {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {0o666 & ~mask}


def test_the_data_is_a_safetensors_file(tmp_path: Path) -> None:
    variables = {
        "half": jnp.arange(3, dtype=jnp.bfloat16),
        "wide": jnp.arange(4.0).reshape(2, 2),
        "ü": jnp.array(True),
        "none": jnp.ones((0, 2), jnp.int8),
    }
    save(tmp_path, chain(), variables)
    (file,) = tmp_path.glob("*.safetensors")
    loaded = load_file(file)
    assert loaded.keys() == variables.keys()
    for name, array in variables.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        assert loaded[name].tobytes() == np.asarray(array).tobytes()


def test_a_full_disk_leaves_the_old_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, chain(), filled(1))
    names = {file.name for file in tmp_path.iterdir()}
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "structure.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, chain(), filled(2))
    assert {file.name for file in tmp_path.iterdir()} == names and value_in(tmp_path) == 1


KILLED = """
import hashlib, os, signal, sys
from pathlib import Path
import numpy as np
from jaxcompress.artifact.folder import open_artifact, write_artifact
from jaxcompress.artifact.structure import Leaf, Structure

folder = Path(sys.argv[1])
def write(value):
    spec, shape = {"kind": "chain", "steps": []}, (50, 50)
    write_artifact(
        folder,
        {"a": np.full(shape, value, np.float32)},
        lambda file: Structure(
            spec, {"a": Leaf(shape, "float32", nonzero=2500)}, {"a": shape}, True, file
        ),
    )

def killed_at(step):
    count = 0
    def hook(event, arguments):
        nonlocal count
        is_file = event.startswith("os.") or event == "open" or event.startswith("fcntl.")
        count += is_file
        # The kill is an event of its own.
        if is_file and count == step + 1:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

for step in range(100):
    write(1)
    child = os.fork()
    if child == 0:
        killed_at(step)
        write(2)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    with open_artifact(folder) as (structure, data, _):
        content = data.read()
    assert hashlib.sha256(content).hexdigest() == structure.file.sha256
    print(int(np.frombuffer(content[-4:], np.float32)[0]))
    if status == 0:
        break
"""


def test_a_kill_at_every_file_system_event_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    values = [int(line) for line in done.stdout.split()]
    assert values == sorted(values) and values.count(1) >= 8 and values.count(2) >= 2
    save(tmp_path, chain(), filled(3))
    assert value_in(tmp_path) == 3 and len(list(tmp_path.iterdir())) == 3


def test_data_that_killed_savers_left_is_removed(tmp_path: Path) -> None:
    """Between its two renames a saver has written data that no structure names."""
    save(tmp_path / "killed", chain(), filled(1))
    (left,) = (tmp_path / "killed").glob("variables-*")
    save(tmp_path / "run", chain(), filled(2))
    copied = tmp_path / "run" / left.name
    shutil.copy(left, copied)
    (tmp_path / "run" / f"variables-{'1' * 16}.safetensors").symlink_to(left)
    (tmp_path / "run" / f"variables-{'2' * 16}.safetensors").mkdir()
    mine = tmp_path / "run" / f"my-{left.name}"
    shutil.copy(left, mine)
    save(tmp_path / "run", chain(), filled(2))
    assert not copied.exists() and mine.exists() and left.exists()
    # One artifact, three of somebody else and the lock.
    assert value_in(tmp_path / "run") == 2 and len(list((tmp_path / "run").iterdir())) == 6
