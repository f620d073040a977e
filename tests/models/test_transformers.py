"""Transformers: removing equals masking, padding is not read, scanned as unrolled, their FLOPs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import models
from jaxcompress.annotations import Array, PyTree
from tests.models.transformers import INPUTS, KINDS, case

every_kind = pytest.mark.parametrize("kind", KINDS)

# Multiply-accumulates of dots, from the sizes alone: for every layer and token the projections, for
# every pair of tokens scores and sums; then BERT's pooler, LLaMA's head.
BERT_MACS = 12 * (128 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 128**2 * 768) + 768**2
LLAMA_LAYER = 64 * (4 * 4096**2 + 3 * 4096 * 11_008) + 2 * 64**2 * 4096
MACS = [("bert_base", 128, BERT_MACS), ("llama_7b", 64, 32 * LLAMA_LAYER + 64 * 4096 * 32_000)]


@pytest.mark.parametrize(("name", "length", "macs"), MACS)
def test_multiply_accumulates_are_those_of_the_sizes(name: str, length: int, macs: int) -> None:
    module = models.build(name, scan=True)
    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    start = functools.partial(models.initialize, module, shape=tokens)
    variables = jax.eval_shape(start, jax.random.key(0))
    graph = jc.trace(models.evaluation_function(module), variables, tokens)
    assert graph.flops == 2 * macs


def random_keep(graph: jc.Graph, seed: int = 2) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    widths = {name: group.width for name, group in graph.groups.items()}
    return {name: random.permutation(w) < max(int(0.6 * w), 1) for name, w in widths.items()}


@every_kind
def test_removing_equals_masking_and_costs_as_predicted(kind: str) -> None:
    _, apply, variables, graph = case(kind)
    keep = random_keep(graph)
    prune = jc.shrink(graph, keep)
    small = prune.variables(variables)
    gates = {n: jnp.asarray(mask, jnp.float32) for n, mask in keep.items()}

    @jax.jit
    def outputs(small: PyTree, variables: PyTree, gates: PyTree) -> tuple[Array, Array, Array]:
        masked = jc.gated(graph, apply)(variables, gates, INPUTS)
        return prune.function(apply)(small, INPUTS), masked, apply(variables, INPUTS)

    shrunk, expected, dense = outputs(small, variables, gates)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(shrunk, expected, atol=1e-5 * scale)
    assert np.isfinite(shrunk).all() and np.abs(expected - dense).max() > 1e-2 * scale
    again = jc.trace(prune.function(apply), small, INPUTS)
    assert again.flops == graph.cost.flops(graph.cost.widths(keep))
    assert again.params == graph.cost.params(graph.cost.widths(keep))


@pytest.mark.parametrize("kind", ["encoder_scanned", "decoder_scanned"])
def test_gradients_of_what_is_left_are_those_at_the_mask(kind: str) -> None:
    _, apply, variables, graph = case(kind)
    keep = random_keep(graph, seed=3)
    prune = jc.shrink(graph, keep)
    gates = {n: jnp.asarray(mask, jnp.float32) for n, mask in keep.items()}
    masked = lambda v: jc.gated(graph, apply)(v, gates, INPUTS)  # noqa: E731

    @jax.jit
    def gradients(small: PyTree, variables: PyTree) -> tuple[PyTree, PyTree]:
        shrunk = jax.grad(lambda v: jnp.sin(prune.function(apply)(v, INPUTS)).sum())(small)
        return shrunk, jax.grad(lambda v: jnp.sin(masked(v)).sum())(variables)

    shrunk, expected = gradients(prune.variables(variables), variables)
    left, right = jax.tree.leaves(shrunk), jax.tree.leaves(prune.variables(expected))
    scale = max(np.abs(leaf).max() for leaf in right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * scale)


def test_what_goes_together() -> None:
    """A head with all its kernels; a head of keys with the queries that read it; a token never."""
    encoder, decoder = case("encoder").graph, case("decoder").graph
    heads = encoder.groups["params/layer0/attention/key/kernel[1]"]
    together = {m.path.removeprefix("params/layer0/attention/") for m in heads.members}
    assert together >= {"key/kernel", "query/kernel", "value/kernel", "out/kernel"}
    kv_heads = decoder.groups["params/layer1/key/kernel[1]"]
    taken = {m.path.removeprefix("params/layer1/"): m.indices.shape for m in kv_heads.members}
    expected = {"key/kernel": (2, 1), "value/kernel": (2, 1)}
    assert taken == {**expected, "query/kernel": (2, 2), "out/kernel": (2, 2)}
    pairs = decoder.groups["params/layer1/key/kernel[2]"]
    assert {m.indices.shape for m in pairs.members} == {(2, 2)}
    for kind in KINDS:
        frozen = {(axis.path, axis.axis) for axis in case(kind).graph.frozen}
        assert ("params/token_embedding/embedding", 0) in frozen


@every_kind
def test_layers_may_go(kind: str) -> None:
    """Stacked ones as a group; of an unrolled one both branches, as groups without any channel."""
    _, apply, variables, graph = case(kind)
    depth = [name for name, group in graph.groups.items() if group.is_depth]
    branches = [name for name in graph.optional if "layer1/" in name]
    assert (len(depth), len(branches) >= 2) == ((1, False) if "scanned" in kind else (0, True))
    if kind not in ("encoder", "decoder"):
        return
    keep = {name: np.zeros(graph.groups[name].width, bool) for name in branches}
    prune = jc.shrink(graph, keep)
    small = jax.jit(prune.function(apply))(prune.variables(variables), INPUTS)
    gates = {n: jnp.asarray(keep.get(n, np.ones(g.width)), float) for n, g in graph.groups.items()}
    masked = jax.jit(jc.gated(graph, apply))(variables, gates, INPUTS)
    np.testing.assert_allclose(small, masked, atol=1e-5 * np.abs(masked).max())


@pytest.mark.parametrize("kind", ["encoder", "decoder", "gpt2"])
def test_scanned_layers_compute_what_unrolled_ones_do(kind: str) -> None:
    module, apply, variables, _ = case(kind)
    scanned = models.evaluation_function(module.clone(scan=True))  # type: ignore[call-arg]
    stacked = models.stack_layers(variables)
    result = jax.jit(scanned)(stacked, INPUTS)
    np.testing.assert_allclose(result, jax.jit(apply)(variables, INPUTS), atol=1e-5)
    again = models.unstack_layers(stacked)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_layers_of_unlike_shape_are_not_stacked() -> None:
    variables = {"params": {"layer0": {"bias": jnp.ones(2)}, "layer1": {"bias": jnp.ones(3)}}}
    with pytest.raises(ValueError, match="those of layer1 are not layer0's"):
        models.stack_layers(variables)
    with pytest.raises(ValueError, match="but params holds head"):
        models.stack_layers({"params": {"head": jnp.ones(2)}})


@pytest.mark.parametrize("kind", ["encoder", "encoder_tokens", "decoder_scanned", "gpt2"])
def test_padding_is_not_read_before_nor_after_pruning(kind: str) -> None:
    _, apply, variables, graph = case(kind)
    prune = jc.shrink(graph, random_keep(graph))
    other = {**INPUTS, "tokens": jnp.where(INPUTS["mask"] == 0, 9, INPUTS["tokens"])}
    unmasked = {"tokens": other["tokens"]}
    for function, values in (
        (apply, variables),
        (prune.function(apply), prune.variables(variables)),
    ):
        run = jax.jit(function)
        read = lambda result: result[:, :3] if result.ndim == 3 else result  # noqa: E731
        one, two = read(run(values, INPUTS)), read(run(values, other))
        np.testing.assert_allclose(one, two, atol=1e-5)
        if function is apply and "encoder" in kind:
            assert np.abs(one - read(run(values, unmasked))).max() > 1e-3


@pytest.mark.parametrize("kind", ["decoder", "gpt2"])
def test_the_future_is_not_read(kind: str) -> None:
    _, apply, variables, _ = case(kind)
    tokens = INPUTS["tokens"]
    run = jax.jit(apply)
    one, two = run(variables, tokens), run(variables, tokens.at[:, 3].set(8))
    np.testing.assert_allclose(one[:, :3], two[:, :3], atol=1e-5)
    assert np.abs(one[:, 3:] - two[:, 3:]).max() > 1e-3


@pytest.mark.parametrize("kind", ["encoder", "decoder", "gpt2_scanned"])
def test_half_precision(kind: str) -> None:
    module, _, variables, _ = case(kind)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    apply = models.evaluation_function(module.clone(dtype="bfloat16"))  # type: ignore[call-arg]
    graph = jc.trace(apply, half, INPUTS)
    keep = random_keep(graph)
    prune = jc.shrink(graph, keep)
    gates = {n: jnp.asarray(mask, jnp.float32) for n, mask in keep.items()}
    shrunk = jax.jit(prune.function(apply))(prune.variables(half), INPUTS)
    masked = jax.jit(jc.gated(graph, apply))(half, gates, INPUTS)
    assert shrunk.dtype == jnp.float32 and list(graph.groups) == list(case(kind).graph.groups)
    np.testing.assert_allclose(shrunk, masked, atol=0.04 * np.abs(masked).max())


def test_dropout_and_modes() -> None:
    module = KINDS["encoder_scanned"].clone(dropout=0.5)
    variables = case("encoder_scanned").variables
    train = jax.jit(models.training_function(module))
    one, state = train(variables, INPUTS, jax.random.key(0))
    two, _ = train(variables, INPUTS, jax.random.key(1))
    assert state == {} and np.abs(one - two).max() > 1e-3
    hidden = models.evaluation_function(KINDS["encoder"].clone(num_classes=0))
    params = {n: v for n, v in case("encoder").variables["params"].items() if n != "classifier"}
    outputs = jax.eval_shape(hidden, {"params": params}, INPUTS)
    assert {name: leaf.shape for name, leaf in outputs.items()} == {
        "tokens": (2, 5, 12),
        "pooled": (2, 12),
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: models.Encoder(width=10, heads=3), "take width 9"),
        (lambda: models.Decoder(width=12, heads=4, kv_heads=3), "multiple of kv_heads"),
        (lambda: models.Decoder(width=12, heads=4, kv_heads=2), "width / heads even"),
        (lambda: models.GPT2(width=10, heads=3), "multiple of heads"),
        (lambda: case("gpt2").apply(case("gpt2").variables, jnp.ones((1, 8), int)), "7 tokens"),
    ],
)
def test_wrong_configurations_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
