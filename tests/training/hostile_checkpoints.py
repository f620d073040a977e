"""A hundred ways to make a checkpoint lie: each changes the folder of a step and signs it anew.

Each takes that folder and a source of chance.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from jaxcompress.annotations import Json, PyTree
from jaxcompress.training import digests, save_checkpoint

STATE: PyTree = {
    "step": np.int32(7),
    "a": {"w": np.arange(32, dtype=np.float32).reshape(8, 4)},
    "b": {"w": np.ones((8, 4), np.float32)},
}
SIZES: tuple[Json, ...] = (-1, 0, 3, True, 1.5, 1 << 40, 10**30, "8", None, [8], {}, float("nan"))


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
    paths = [path for path in step.rglob("*") if path.is_file() and path.name != digests.FILE]
    return sorted(path for path in paths if path.stat().st_size)


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
    save_checkpoint(step.parent, draw.choice(others), step=3)
    (step / digests.FILE).unlink()
    digests.write_digests(step, **facts)


def other_layout(step: Path, draw: random.Random) -> None:
    """The description of an array inside Orbax's database."""
    store = database(step)
    described = json.loads(store.read("a.w/zarr.json").result().value)
    shape: list[Any] = draw.choice(
        [[1 << 13, 1 << 13], [1 << 20, 1 << 20], [8, 2], [1, 4], [0, 4], ["8", 4]]
    )
    if draw.random() < 0.5:
        described["shape"] = shape
    else:
        set_chunks(described, shape)
    store.write("a.w/zarr.json", json.dumps(described).encode()).result()
    sign(step)


def large_chunk(step: Path, draw: random.Random) -> None:
    """A few bytes that unpack to 256 MB, of which the array is a corner."""
    store = database(step)
    described = json.loads(store.read("a.w/zarr.json").result().value)
    set_chunks(described, [1 << 13, 1 << 13])
    store.delete_range(ts.KvStore.KeyRange("a.w/", "a.w0")).result()
    place = {**store.spec().to_json(), "path": "a.w/"}
    spec = {"driver": "zarr3", "metadata": described, "kvstore": place}
    opened = ts.open(spec, create=True, open=True).result()
    opened[:].write(STATE["a"]["w"]).result()
    sign(step)


def database(step: Path) -> ts.KvStore:
    return ts.KvStore.open({"driver": "ocdbt", "base": f"file://{step}/state/"}).result()


def set_chunks(described: dict[str, Any], shape: list[Any]) -> None:
    described["chunk_grid"]["configuration"]["chunk_shape"] = shape
    described["codecs"][0]["configuration"]["chunk_shape"] = shape


HOSTILE = (
    *(flips, flips_signed, cuts_signed, removes_signed, renames_signed, swaps_signed, adds, links),
    *(pipes, changes_leaves, changes_facts, changes_digests, odd_text, too_much_text, renumbers),
    *(other_state, other_layout, large_chunk),
)
OFTEN: dict[Callable[[Path, random.Random], None], int] = {
    changes_leaves: 18,
    other_state: 12,
    large_chunk: 1,
    other_layout: 10,
    changes_digests: 12,
    flips_signed: 9,
}
