"""Stored answers to sequences: each position's, nothing of padding, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxcompress import models, parallel
from jaxcompress.knowledge import Source, Views
from jaxcompress.knowledge.store import Storage, intermediates, open_store, plan, verify, write
from jaxcompress.knowledge.store.manifest import FORMAT
from tests.knowledge import tokens, toy

DTYPES: list[tuple[Any, float]] = [("float32", 1e-6), ("float16", 2**-11), ("bfloat16", 2**-8)]
SMALL: dict[str, Any] = {"block": 4, "chunk": 2}


def written(folder: Path, source: Source, storage: Storage) -> dict[str, np.ndarray]:
    options: dict[str, Any] = {"batch_size": 4, "mesh": parallel.mesh(jax.devices()[:1])}
    write(folder, tokens.teacher, tokens.VARIABLES, source, storage=storage, **options)
    store = open_store(folder, variables=tokens.VARIABLES, source=source)
    verify(store, tokens.teacher, tokens.VARIABLES, source, count=16)
    return {name: array[:, 0].astype(np.float32) for name, array in store.load().items()}


@pytest.mark.parametrize(("dtype", "rounding"), DTYPES)
def test_ragged_sequences_come_back(tmp_path: Path, dtype: Any, rounding: float) -> None:
    records = written(tmp_path, tokens.source(), Storage(dtype=dtype, **SMALL))
    desired = tokens.expected()
    assert records.keys() == desired.keys()
    for name, array in records.items():
        np.testing.assert_allclose(array, desired[name], rtol=2 * rounding, err_msg=name)
    padding = ~tokens.DATA["mask"]
    assert padding.any() and not records["logits"][padding].any()


def test_what_stands_at_padding_is_not_stored(tmp_path: Path) -> None:
    storage = Storage(dtype="float32", top_k=2, **SMALL)
    written(tmp_path / "dirty", tokens.source(), storage)
    written(tmp_path / "clean", tokens.source(tokens.DATA), storage)
    dirty, clean = (toy.files(tmp_path / name) for name in ("dirty", "clean"))
    chunks = [name for name in dirty if "/c/" in name]
    assert len(chunks) > 10 and all(dirty[name] == clean[name] for name in chunks)


def test_the_largest_logits_of_each_position(tmp_path: Path) -> None:
    records = written(tmp_path, tokens.source(), Storage(dtype="float32", top_k=2, **SMALL))
    there, logits = tokens.DATA["mask"], tokens.expected()["logits"]
    ordered = -np.sort(-logits, axis=-1)
    np.testing.assert_allclose(records["logits/values"][there], ordered[there][:, :2], rtol=1e-6)
    rest = np.log(np.exp(ordered[..., 2:]).sum(-1))
    np.testing.assert_allclose(records["logits/rest"][there], rest[there], rtol=1e-5, atol=1e-6)
    taken = np.take_along_axis(logits, records["logits/indices"].astype(int), -1)
    np.testing.assert_allclose(taken[there], ordered[there][:, :2], rtol=1e-6)


def test_without_a_mask_padding_is_data(tmp_path: Path) -> None:
    whole = dataclasses.replace(tokens.source(), mask=None)
    with pytest.raises(FloatingPointError, match=r"logits of examples \[1, 2, 3\]"):
        written(tmp_path, whole, Storage(dtype="float32", **SMALL))
    clean = dataclasses.replace(tokens.source(tokens.DATA), mask=None)
    records = written(tmp_path / "clean", clean, Storage(dtype="float32", **SMALL))
    assert records["logits"][~tokens.DATA["mask"]].any()
    with pytest.raises(ValueError, match="views/masked: stored None, expected True"):
        open_store(tmp_path / "clean", source=tokens.source(tokens.DATA))


def test_sources_without_a_mask_are_described_as_before(original: Path) -> None:
    """Stores of earlier versions keep their identity, and can be gone on with."""
    described = json.loads((original / "manifest.json").read_text())
    assert FORMAT == described["format"] == 1
    assert described["views"].keys() == {"count", "key", "generator", "settings", "mix"}
    manifest = plan(toy.teacher, toy.VARIABLES, toy.SOURCE, toy.STORAGE, toy.ABOUT)
    assert manifest.identity == "2c0700c43973eec0ec7a709c5269d2a3abfac803e7f3f9bd0318511b24a3f16e"


def test_hidden_states_of_a_decoder_are_outputs_like_any_other() -> None:
    module = models.Decoder(tokens.VOCABULARY, 8, 1, 2, 1, 12)
    variables = jax.eval_shape(lambda: models.initialize(module, jax.random.key(0), tokens.DATA))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    teacher = intermediates(module, ["layer0", "final_norm"], train=False)
    records = plan(teacher, variables, tokens.source(), Storage(top_k=2)).records
    shapes = {name: record.shape for name, record in records.items()}
    assert shapes["layer0"] == shapes["final_norm"] == (tokens.LENGTH, 8)
    assert shapes["logits/indices"] == (tokens.LENGTH, 2)
    assert shapes["logits/rest"] == (tokens.LENGTH,)


def test_wrong_sources_are_refused() -> None:
    with pytest.raises(ValueError, match=r"each of the 12 examples, .*'mask': \(9, 5\)"):
        Source(tokens.DATA, 12, "more")
    with pytest.raises(ValueError, match=r"of one array of images .*\['mask', 'tokens'\]"):
        Source(tokens.DATA, 9, "views", jax.random.key(0), settings=Views())
    with pytest.raises(ValueError, match="the key is None"):
        Source(toy.IMAGES, 9, "views", settings=Views())


def test_a_mask_of_other_positions_is_refused() -> None:
    shorter = dataclasses.replace(tokens.source(), mask=lambda batch: batch["mask"][:, :3])
    with pytest.raises(ValueError, match=r"it is \[2, 3\] and the arrays are .*'logits': \(2, 5"):
        plan(tokens.teacher, tokens.VARIABLES, shorter)
    with pytest.raises(ValueError, match=r"the arrays are {'pooled': \(2, 3\)}"):
        pooled = lambda v, batch: {"pooled": tokens.teacher(v, batch)["hidden"][:, 0]}  # noqa: E731
        plan(pooled, tokens.VARIABLES, tokens.source())
