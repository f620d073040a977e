"""Manifests that anyone may have written are refused by name, or are what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxcompress.annotations import Json
from jaxcompress.knowledge.fingerprints import fingerprint_json
from jaxcompress.knowledge.store import Storage, open_store
from tests.knowledge import toy


def mutated(value: Any, generator: np.random.Generator) -> Any:
    """Replace, remove or add one entry somewhere in a JSON object."""
    odd: list[Json] = [None, -1, 0, 1.5, True, "", "x", "../x", [], {}, [-1], 1 << 62, 1e308]
    if not isinstance(value, dict) or not value:
        return odd[generator.integers(len(odd))]
    name = list(value)[generator.integers(len(value))]
    kind = generator.integers(4)
    if kind == 0:
        return {n: x for n, x in value.items() if n != name}
    if kind == 1:
        return {**value, str(odd[generator.integers(len(odd))]): value[name]}
    return {**value, name: mutated(value[name], generator)}


def test_hostile_manifests_are_refused_by_name(tmp_path: Path) -> None:
    toy.write_toy(tmp_path)
    generator, manifest = np.random.default_rng(0), tmp_path / "manifest.json"
    whole = json.loads(manifest.read_text())
    refused = 0
    for _ in range(300):
        hostile = mutated(whole, generator)
        manifest.write_text(json.dumps(hostile))
        try:
            store = open_store(tmp_path)
        except ValueError as error:
            known = "damaged|has format|written for another|lacks|dots for slashes"
            assert re.search(known, str(error)), (hostile, error)
            refused += 1
        else:
            # What tells about the writing alone may say anything.
            assert store.manifest.identity == toy_identity(whole)
    assert refused > 200


def toy_identity(facts: dict[str, Any]) -> str:
    return fingerprint_json({name: x for name, x in facts.items() if name != "versions"})


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float64", "", None])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match="stored as one of .*'float16'.*but dtype="):
        Storage(dtype=dtype)
