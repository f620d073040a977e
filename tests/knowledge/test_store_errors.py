"""What can go wrong with a store is told clearly, and nothing else is lost."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxcompress.knowledge import Source, Views
from jaxcompress.knowledge.store import Storage, open_store, write
from tests.knowledge import toy

OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"variables": {"kernel": toy.VARIABLES["kernel"] + 1}}, "teacher: stored"),
    ({"source": dataclasses.replace(toy.SOURCE, dataset="other")}, "dataset: .*expected other"),
    (
        {"source": dataclasses.replace(toy.SOURCE, settings=Views(pad=2))},
        "views/settings/brightness: stored 0.2, expected 0.0; views/settings/pad",
    ),
    ({"source": dataclasses.replace(toy.SOURCE, key=jax.random.key(8))}, "views/key: stored"),
    ({"about": {"scale": 2.0}}, "about/scale: stored 1.0, expected 2.0"),
]


@pytest.mark.parametrize(("other", "difference"), OTHERS)
def test_other_knowledge_is_refused(original: Path, other: Any, difference: str) -> None:
    with pytest.raises(ValueError, match=difference):
        open_store(original, **other)
    arguments = {"variables": toy.VARIABLES, "source": toy.SOURCE, "about": toy.ABOUT, **other}
    variables, source = arguments.pop("variables"), arguments.pop("source")
    with pytest.raises(ValueError, match=difference):
        write(original, toy.teacher, variables, source, storage=toy.STORAGE, **arguments)


def test_a_corrupted_chunk_is_named_and_alone_written_again(original: Path, folder: Path) -> None:
    file = folder / "records/logits/c/1/2/0"
    content = bytearray(file.read_bytes())
    content[5] ^= 255
    file.write_bytes(content)
    store = open_store(folder)
    everything = np.arange(toy.EXAMPLES)
    with pytest.raises(OSError, match="delete those files") as caught:
        store.read(everything, 1)
    assert str(file) in str(caught.value) and "c/1/3/0" not in str(caught.value)
    assert store.read(everything, 0)["logits"].shape == (45, 6)
    file.unlink()
    with pytest.raises(ValueError, match="lacks 1, the first of them view 1, examples 16 to 23"):
        open_store(folder)
    seen: list[int] = []
    toy.write_toy(folder, on_progress=lambda progress: seen.append(progress.written))
    assert seen == [11, 12] and toy.files(folder) == toy.files(original)


def test_a_truncated_manifest_is_written_again(original: Path, folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    with pytest.raises(ValueError, match="damaged.*delete that file and call write"):
        open_store(folder)
    with pytest.raises(ValueError, match="damaged"):
        toy.write_toy(folder)
    manifest.unlink()
    with pytest.raises(ValueError, match="written for another"):
        write(
            folder,
            toy.teacher,
            {"kernel": np.ones((16, 6), np.float32)},
            toy.SOURCE,
            storage=toy.STORAGE,
            about=toy.ABOUT,
            batch_size=8,
        )
    manifest.unlink()
    seen: list[int] = []
    toy.write_toy(folder, on_progress=lambda progress: seen.append(progress.written))
    assert seen == [12] and toy.files(folder) == toy.files(original)
    open_store(folder, variables=toy.VARIABLES, source=toy.SOURCE)


def test_a_store_of_another_format_is_refused(folder: Path) -> None:
    manifest = folder / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "format": 0}))
    with pytest.raises(ValueError, match="has format 0.*'jaxcompress': .*another folder"):
        open_store(folder)


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from tests.knowledge import toy
def limit(progress):
    if progress.written == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
try:
    toy.write_toy(sys.argv[1], on_progress=limit)
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes as POSIX does")
def test_a_full_disk_keeps_what_is_written(original: Path, tmp_path: Path) -> None:
    output = subprocess.check_output([sys.executable, "-c", FULL, str(tmp_path)], text=True)
    assert "call write again to go on" in output
    done, desired = toy.files(tmp_path), toy.files(original)
    blocks = {name: content for name, content in done.items() if name.endswith("0")}
    assert 6 <= len(blocks) < 24
    assert all(desired[name] == content for name, content in blocks.items())
    seen: list[int] = []
    toy.write_toy(tmp_path, on_progress=lambda progress: seen.append(progress.written))
    assert seen[0] >= 3 and open_store(tmp_path).manifest.examples == toy.EXAMPLES


NO_ROOM = """
import resource, shutil, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from tests.knowledge import toy
toy.write_toy(sys.argv[1] + "/whole")
if sys.argv[2] == "manifest":
    shutil.copytree(sys.argv[1] + "/whole", sys.argv[1] + "/full")
    shutil.rmtree(sys.argv[1] + "/full/records")
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
try:
    toy.write_toy(sys.argv[1] + "/full")
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes as POSIX does")
@pytest.mark.parametrize(
    ("there", "message"),
    [("nothing", "begins with its manifest"), ("manifest", "cannot be opened")],
)
def test_a_disk_that_is_full_from_the_start(tmp_path: Path, there: str, message: str) -> None:
    program = [sys.executable, "-c", NO_ROOM, str(tmp_path), there]
    assert message in subprocess.check_output(program, text=True)
    assert not list((tmp_path / "full").glob(".manifest.*"))
    toy.write_toy(tmp_path / "full")
    assert toy.files(tmp_path / "full") == toy.files(tmp_path / "whole")


def test_a_damaged_description_of_an_array_is_written_again(original: Path, folder: Path) -> None:
    file = folder / "records/logits/zarr.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(ValueError, match="zarr.json is damaged.*delete that file and call write"):
        open_store(folder)
    file.unlink()
    with pytest.raises(OSError, match="logits cannot be opened"):
        open_store(folder)
    toy.write_toy(folder)
    assert toy.files(folder) == toy.files(original)


def test_outputs_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    def infinite(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        return {"logits": toy.teacher(variables, images)["logits"] * 1e3}

    storage = Storage(dtype="float16", block=8, chunk=8)
    with pytest.raises(FloatingPointError, match="logits of examples .*view 0.*65504"):
        write(tmp_path, infinite, toy.VARIABLES, toy.SOURCE, storage=storage, batch_size=8)
    with pytest.raises(ValueError, match="top_k=6 leaves out"):
        toy.write_toy(tmp_path / "k", storage=Storage(top_k=6, block=8, chunk=8))
    with pytest.raises(ValueError, match="one row per example.*'mean': \\(\\)"):
        write(tmp_path / "m", lambda v, x: {"mean": x.mean()}, {}, toy.SOURCE)
    with pytest.raises(ValueError, match=r"dots for slashes.*\['a.b', 'a/b'\]"):
        write(tmp_path / "n", lambda v, x: {"a.b": x * 1.0, "a/b": x * 1.0}, {}, toy.SOURCE)
    with pytest.raises(ValueError, match="batch_size=3"):
        toy.write_toy(tmp_path / "b", batch_size=3)


def test_addresses_outside_are_refused(original: Path) -> None:
    store = open_store(original)
    with pytest.raises(IndexError, match=r"examples are numbered from 0 to 44.*\[-1, 45\]"):
        store.read([0, 45, -1], 0)
    with pytest.raises(IndexError, match="views are numbered from 0 to 1"):
        store.read([0], 2)
    with pytest.raises(TypeError, match="whole numbers, but .*'examples': 'float64'"):
        store.read([0.5], 0)
    with pytest.raises(KeyError, match="hints"):
        store.read([0], 0, names=["hints"])


def test_a_source_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="examples must be a whole number of at least 1, but is 0"):
        Source(toy.IMAGES, 0, "none", jax.random.key(0))
    with pytest.raises(ValueError, match="views=2"):
        Source(toy.IMAGES, 3, "same", jax.random.key(0), views=2)
    with pytest.raises(FileNotFoundError, match="manifest.json"):
        open_store(tmp_path)


def test_importing_jaxcompress_does_not_import_tensorstore() -> None:
    program = "import sys, jaxcompress.knowledge; print('tensorstore' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
