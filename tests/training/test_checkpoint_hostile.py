"""Checkpoints of somebody else, signed anew: refused by name, or restored as they were saved."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from jaxcompress.training import checkpoint_steps, digests, restore, save

STATE = {
    "step": np.int32(7),
    "a": {"w": np.arange(32, dtype=np.float32).reshape(8, 4)},
    "b": {"w": np.ones((8, 4), np.float32)},
}
LIKE = jax.tree.map(np.zeros_like, STATE)
SIZES = (-1, 0, 3, True, 1.5, 1 << 40, 10**30, "8", None, [8], {}, float("nan"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "run"
    save(folder, STATE, step=3)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "run"))


def sign(step: Path, /, **changed: Any) -> None:
    """Write the digests of a step again, with some facts changed."""
    facts = {**digests.facts(step), **changed}
    if not facts:
        facts = changed
    (step / digests.FILE).unlink()
    digests.write_digests(step, **facts)


def rewrite(step: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the file of digests itself, and sign it."""
    file = step / digests.FILE
    value = json.loads(file.read_text())
    del value["digest"]
    changed = change(value)
    value = value if changed is None else changed
    signed = value
    if isinstance(value, dict):
        signed = {**value, "digest": digests._own_digest(value)}
    file.write_text(json.dumps(signed))


def files_of(step: Path) -> list[Path]:
    found = [path for path in step.rglob("*") if path.is_file() and path.name != digests.FILE]
    return sorted(path for path in found if path.stat().st_size)


# Each takes the folder of a step and a source of chance, and changes what is there.


def flips(step: Path, draw: random.Random) -> None:
    file = draw.choice([*files_of(step), step / digests.FILE])
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def flips_signed(step: Path, draw: random.Random) -> None:
    flips(step, draw)
    if digests.facts(step):
        sign(step)


def cuts_signed(step: Path, draw: random.Random) -> None:
    file = draw.choice(files_of(step))
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(len(content))])
    sign(step)


def removes_signed(step: Path, draw: random.Random) -> None:
    path = draw.choice([*files_of(step), step / "state", step / "state/d"])
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    sign(step)


def renames_signed(step: Path, draw: random.Random) -> None:
    file = draw.choice(files_of(step))
    file.rename(file.with_name("x" + file.name))
    sign(step)


def swaps_signed(step: Path, draw: random.Random) -> None:
    one, other = draw.sample(files_of(step), 2)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    sign(step)


def adds(step: Path, draw: random.Random) -> None:
    way = draw.randrange(4)
    file = draw.choice([step, step / "state"]) / "more"
    if way == 0:
        file.symlink_to("/etc")
    elif way == 1:
        os.mkfifo(file)
    elif way == 2:
        with file.open("wb") as stream:
            stream.truncate(1 << 40)
    else:
        file.write_text("more")


def links(step: Path, draw: random.Random) -> None:
    file = draw.choice([*files_of(step), step / digests.FILE, step / "state"])
    target = step.parent / "elsewhere"
    file.rename(target)
    file.symlink_to(target)


def pipes(step: Path, draw: random.Random) -> None:
    """A pipe that nobody writes into would be read for ever."""
    file = draw.choice([*files_of(step), step / digests.FILE])
    file.unlink()
    os.mkfifo(file)


def changes_leaves(step: Path, draw: random.Random) -> None:
    leaves = digests.facts(step)["leaves"]
    path = draw.choice(sorted(leaves))
    ways: list[Callable[[], Any]] = [
        lambda: leaves.pop(path),
        lambda: leaves.update({draw.choice(["../x", "", "x", "\ud800"]): leaves[path]}),
        lambda: leaves[path].update(shape=draw.choice([*SIZES, [draw.choice(SIZES)], [8, 4, 1]])),
        lambda: leaves[path].update(dtype=draw.choice(["float16", "int32 ", "", 3, None, [], {}])),
        lambda: leaves[path].update(sha256=draw.choice(["0" * 64, "", 0, [], "x" * 64])),
        lambda: leaves.update({path: draw.choice([None, [], {}, 1, "x"])}),
    ]
    draw.choice(ways)()
    sign(step, leaves=leaves)


def changes_facts(step: Path, draw: random.Random) -> None:
    name = draw.choice(["step", "score", "leaves"])
    sign(step, **{name: draw.choice([x for x in (*SIZES, "x", []) if x is not None])})


def changes_digests(step: Path, draw: random.Random) -> None:
    def change(value: dict[str, Any]) -> Any:
        odd = draw.choice([None, 1, "x", [], {}, [1, 2], {"a": 1}, {"../x": [1, "x"]}])
        way = draw.randrange(5)
        if way == 0:
            return odd
        if way == 1:
            del value[draw.choice(["facts", "files"])]
        elif way == 2:
            value[draw.choice(["facts", "files", "more"])] = odd
        elif way == 3:
            value["files"][draw.choice(sorted(value["files"]))] = odd
        else:
            value["files"]["../" * 9 + "etc/passwd"] = [1, "x"]
        return None

    rewrite(step, change)


def odd_text(step: Path, draw: random.Random) -> None:
    texts = ["[" * 99_999, '{"digest":' * 9_999, "9" * 5_000, "", "null", '{"digest": 1}', "\0"]
    (step / digests.FILE).write_text(draw.choice(texts))


def too_much_text(step: Path, draw: random.Random) -> None:
    with (step / digests.FILE).open("r+b") as stream:
        stream.truncate(1 << 36)


def renumbers(step: Path, draw: random.Random) -> None:
    step.rename(step.parent / str(draw.choice([0, 2, 4, 10**40])))


def other_state(step: Path, draw: random.Random) -> None:
    """The arrays of another state under the record of this one, e.g. two of one size swapped."""
    w, v, number = STATE["a"]["w"], STATE["b"]["w"], STATE["step"]
    others = [
        {"step": number, "a": {"w": v}, "b": {"w": w}},
        {"step": np.int32(8), "a": {"w": w}, "b": {"w": v}},
        {"step": number, "a": {"w": w.T.copy()}, "b": {"w": v}},
        {"step": number, "a": {"w": np.ones((1 << 14, 4), np.float32)}, "b": {"w": v}},
        {"step": number, "a": {"w": w.astype(np.float16)}, "b": {"w": v}},
        {"step": number, "a": {"w": w}},
        {"step": number, "a": {"w": w}, "b": {"w": v}, "c": {"w": v}},
        {"step": number, "a.w": w, "b": {"w": v}},
        {"step": number, "a": [w], "b": {"w": v}},
    ]
    facts = digests.facts(step)
    shutil.rmtree(step)
    save(step.parent, draw.choice(others), step=3)
    (step / digests.FILE).unlink()
    digests.write_digests(step, **facts)


def other_layout(step: Path, draw: random.Random) -> None:
    """The description of an array inside Orbax's database, and a chunk that unpacks to a lot."""
    store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{step}/state/"}).result()
    described = json.loads(store.read("a.w/zarr.json").result().value)
    shapes = [[1 << 13, 1 << 13], [1 << 20, 1 << 20], [8, 2], [1, 4], [0, 4], [-1, 4], ["8", 4]]
    if draw.random() < 0.5:
        described["shape"] = draw.choice(shapes)
    else:
        shape = draw.choice(shapes)
        described["chunk_grid"]["configuration"]["chunk_shape"] = shape
        described["codecs"][0]["configuration"]["chunk_shape"] = shape
        if shape == [1 << 13, 1 << 13]:
            array = {"driver": "zarr3", "metadata": described, "kvstore": store.spec().to_json()}
            store.delete_range(ts.KvStore.KeyRange("a.w/", "a.w0")).result()
            array["kvstore"]["path"] = "a.w/"
            ts.open(array, create=True, dtype=ts.float32).result()[:].write(
                STATE["a"]["w"]
            ).result()
    store.write("a.w/zarr.json", json.dumps(described).encode()).result()
    sign(step)


HOSTILE = (
    *(flips, flips_signed, cuts_signed, removes_signed, renames_signed, swaps_signed, adds, links),
    *(pipes, changes_leaves, changes_facts, changes_digests, odd_text, too_much_text, renumbers),
    *(other_state, other_layout),
)
OFTEN = {
    changes_leaves: 18,
    other_state: 12,
    other_layout: 14,
    changes_digests: 12,
    flips_signed: 9,
}


def start_measuring() -> None:
    """Let the largest memory of this process be counted from now on, where Linux does."""
    if os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> int:
    """Return a size that Linux knows of this process in bytes, e.g. `VmHWM`; 0 elsewhere."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return 0
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"{name}:\s+(\d+) kB", status)[0])


def is_refused(folder: Path) -> bool:
    start_measuring()
    before, started = memory("VmRSS"), time.process_time()
    try:
        loaded = restore(folder, LIKE)
    except (ValueError, FileNotFoundError) as error:
        assert type(error) in (ValueError, FileNotFoundError), error
        assert str(folder) in str(error), error
        assert re.search("start from init_state|pass the state that was saved", str(error)), error
        return True
    finally:
        assert memory("VmHWM") - before < 64 << 20 and time.process_time() - started < 2
    jax.tree.map(np.testing.assert_array_equal, loaded, STATE)
    assert jax.tree.map(lambda x: x.dtype, loaded) == jax.tree.map(lambda x: x.dtype, STATE)
    return False


@pytest.mark.parametrize("change", HOSTILE, ids=lambda own: own.__name__)
def test_hostile_checkpoints_are_refused_or_restored_right(
    saved: Path, tmp_path: Path, change: Callable[[Path, random.Random], None]
) -> None:
    draw, refused, count = random.Random(change.__name__), 0, OFTEN.get(change, 4)
    for number in range(count):
        folder = tmp_path / str(number) / "run"
        shutil.copytree(saved, folder)
        change(folder / "3", draw)
        refused += is_refused(folder)
        checkpoint_steps(folder)
        save(folder, STATE, overwrite=True, keep=1)
        assert not is_refused(folder)
    assert refused or change is renames_signed


def test_the_unchanged_one_is_restored(copied: Path) -> None:
    sign(copied / "3")
    assert not is_refused(copied)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({**LIKE, "step": np.float32(0)}, r"step: int32\[\] there, float32\[\] asked for"),
        ({**LIKE, "c": np.zeros(2, np.int8)}, r"c: nothing there, int8\[2\] asked for"),
        ({**LIKE, "a": {"w": np.zeros((4, 8), np.float32)}}, r"a/w: float32\[8, 4\] there, .*4, 8"),
        ({"step": LIKE["step"]}, r"a/w: .* there, nothing asked for; b/w: .*; pass the state that"),
    ],
)
def test_a_state_of_other_leaves_is_refused(saved: Path, like: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        restore(saved, like)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a.b": jnp.ones(2), "a": {"b": jnp.zeros(2)}}, "a.b: two of one name.*rename"),
        ({"a": "text", "b": np.ones((0, 3))}, r"a: a str; b: of shape \(0, 3\); leave them out"),
        ({"a": {}}, "there are none"),
        ({"a": object()}, "a: a object"),
    ],
)
def test_what_could_not_be_restored_is_not_saved(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        save(tmp_path / "run", state)
    assert not (tmp_path / "run").exists()


def test_numbers_of_numpy_and_python_are_saved(tmp_path: Path) -> None:
    state = {"a": np.int64(3), "b": 2, "c": 0.5, "d": True, "e": np.float64(0.1)}
    save(tmp_path / "run", state)
    found = restore(tmp_path / "run", state)
    assert jax.tree.map(float, found) == jax.tree.map(lambda x: float(jnp.asarray(x)), state)


@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
def test_what_lies_in_the_way_of_a_save_is_removed(copied: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "notes").write_text("precious")
    aside = copied / ".unfinished"
    if kind == "file":
        aside.write_text("in the way")
    else:
        aside.symlink_to(tmp_path / ("victim" if kind == "link" else "nothing"))
    save(copied, STATE, overwrite=True)
    assert not is_refused(copied) and not aside.exists()
    assert (tmp_path / "victim" / "notes").read_text() == "precious"
