"""Weights by Hugging Face's names: their own answers, strictness, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxcompress as jc
from jaxcompress.annotations import PyTree
from jaxcompress.artifact import load_hugging_face, to_hugging_face
from jaxcompress.models import GPT2, Decoder, Encoder, ResNet, evaluation_function, stack_layers
from tests.artifact.hugging_face_answers import FILE, MASK, TOKENS, tensors

ANSWERS = json.loads(FILE.read_text())
ENCODER = Encoder(11, 12, 2, 3, 10, positions=7)
DECODER = Decoder(11, 16, 2, 4, 2, 10)
MODULES: dict[str, Any] = {
    "bert": ENCODER,
    "bert_tokens": ENCODER.clone(pooler=False, num_classes=4),
    "llama": DECODER,
    "llama_tied": DECODER.clone(tied=True),
    "gpt2": GPT2(11, 16, 2, 4, positions=7),
}
every_network = pytest.mark.parametrize("name", MODULES)


def published(name: str) -> dict[str, np.ndarray]:
    return tensors(ANSWERS[name]["shapes"])


@every_network
def test_answers_are_those_of_hugging_face(name: str) -> None:
    module = MODULES[name]
    variables = load_hugging_face(published(name), module)
    inputs = {"tokens": jnp.array(TOKENS), "mask": jnp.array(MASK)}
    result = jax.jit(evaluation_function(module))(variables, inputs)
    ours = [result["tokens"], result["pooled"]] if isinstance(result, dict) else [result]
    for array, answer in zip(ours, ANSWERS[name]["outputs"], strict=True):
        expected, read = np.array(answer), np.array(MASK) > 0 if array.ndim == 3 else slice(None)
        np.testing.assert_allclose(np.asarray(array)[read], expected[read], atol=3e-6)


@every_network
def test_the_way_back_gives_the_same_tensors_and_stacking_changes_nothing(name: str) -> None:
    module, weights = MODULES[name], published(name)
    variables = load_hugging_face(weights, module)
    back = to_hugging_face(variables, module)
    assert {n.removeprefix("transformer.").removeprefix("bert.") for n in weights} == set(back)
    for tensor, array in weights.items():
        plain = tensor.removeprefix("transformer.").removeprefix("bert.")
        np.testing.assert_array_equal(back[plain], array, err_msg=tensor)
    scanned = module.clone(scan=True)
    stacked = load_hugging_face(back, scanned)
    jax.tree.map(np.testing.assert_array_equal, stacked, stack_layers(variables))
    jax.tree.map(np.testing.assert_array_equal, to_hugging_face(stacked, scanned), back)


def smaller(variables: PyTree) -> PyTree:
    """Halve every group of a decoder."""
    tokens = jnp.array(TOKENS)
    graph = jc.trace(evaluation_function(DECODER), variables, tokens)
    keep = {n: np.arange(g.width) < max(g.width // 2, 1) for n, g in graph.groups.items()}
    return jc.shrink(graph, keep).variables(variables)


def test_compressed_widths_are_written_too() -> None:
    back = to_hugging_face(smaller(load_hugging_face(published("llama"), DECODER)), DECODER)
    shapes = {name: back[f"model.layers.0.{name}.weight"].shape for name in ("mlp.up_proj",)}
    assert shapes == {"mlp.up_proj": (5, 8)}
    # A key head of two, of two lanes of four; the queries that read it.
    assert back["model.layers.1.self_attn.k_proj.weight"].shape == (2, 8)
    assert back["model.layers.1.self_attn.o_proj.weight"].shape == (8, 4)


def test_every_problem_is_listed_at_once() -> None:
    weights = published("bert")
    del weights["pooler.dense.bias"]
    weights["cls.predictions.bias"] = np.zeros(11, np.float32)
    weights["embeddings.position_ids"] = np.zeros((1, 7), np.int64)
    weights["encoder.layer.2.output.dense.bias"] = np.zeros(12, np.float32)
    weights["encoder.layer.0.output.dense.bias"] = np.zeros(13, np.float32)
    with pytest.raises(ValueError) as error:
        load_hugging_face(weights, ENCODER.clone(scan=True))
    message = str(error.value)
    for fact in (
        "missing: params/pooler/bias",
        "unexpected: torch cls.predictions.bias",
        "unexpected: torch encoder.layer.2.output.dense.bias",
        "misshapen: torch encoder.layer.0.output.dense.bias (13,)",
    ):
        assert fact in message
    assert "position_ids" not in message
    with pytest.raises(ValueError) as error:
        load_hugging_face(weights, ENCODER, ignored=["cls.*", "encoder.layer.2.*"])
    assert "unexpected" not in str(error.value)


def test_a_repeated_embedding_is_left_out_only_where_it_is_one() -> None:
    weights, tied = published("llama"), MODULES["llama_tied"]
    with pytest.raises(ValueError, match="unexpected: torch lm_head.weight"):
        load_hugging_face(weights, tied)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    assert "head" not in load_hugging_face(weights, tied)["params"]
    assert "head" in load_hugging_face(weights, DECODER)["params"]


def test_buffers_and_old_names_are_known() -> None:
    weights = published("gpt2")
    weights["transformer.h.0.attn.bias"] = np.zeros((1, 1, 7, 7), np.float32)
    load_hugging_face(weights, MODULES["gpt2"])
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): leaf
        for name, leaf in published("bert").items()
    }
    assert "embeddings.LayerNorm.gamma" in old and "embeddings.LayerNorm.beta" in old
    load_hugging_face(old, ENCODER)


def test_folders_of_several_files_and_their_configuration(tmp_path: Path) -> None:
    weights = published("llama")
    names = sorted(weights)
    for number, part in enumerate((names[:5], names[5:])):
        save_file({n: weights[n] for n in part}, tmp_path / f"model-{number}.safetensors")
    config = {**ANSWERS["llama"]["config"], "rope_parameters": {"rope_theta": 10000.0}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_hugging_face(tmp_path, DECODER)
    jax.tree.map(np.testing.assert_array_equal, loaded, load_hugging_face(weights, DECODER))
    config |= {"rope_parameters": {"rope_theta": 5e5, "rope_type": "yarn"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError) as error:
        load_hugging_face(tmp_path, DECODER.clone(heads=8, kv_heads=4))
    for fact in ("num_attention_heads is 4", "rope_theta is 500000.0", "rope_type is yarn"):
        assert fact in str(error.value)
    with pytest.raises(FileNotFoundError, match="holds .safetensors files"):
        load_hugging_face(tmp_path / "nothing", DECODER)


def test_other_networks_and_factors_have_no_names() -> None:
    with pytest.raises(TypeError, match="Encoder, Decoder, GPT2, but the module is a ResNet"):
        load_hugging_face({}, ResNet(depth=8))
    variables = load_hugging_face(published("gpt2"), MODULES["gpt2"])
    variables["params"]["layer0"]["out"]["kernel"] = {"first": 1.0, "second": 2.0}
    with pytest.raises(ValueError, match="params/layer0/out/kernel/first.* have none"):
        to_hugging_face(variables, MODULES["gpt2"])
