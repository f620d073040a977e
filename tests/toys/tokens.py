"""Toys over tokens and time: attention, embeddings, gated units, scans, recurrent cells, loops."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxcompress.models import VisionTransformer, evaluation_function, training_function
from tests.toys.record import Toy, draw, initial, rows

__all__ = ["TOYS", "scanned"]

TOKENS = rows(2, 5, 3)


def vision_transformer() -> Toy:
    """ViT: heads, head sizes, perceptron widths, and the residual width that LayerNorm averages."""
    module = VisionTransformer(num_classes=3, width=16, depth=1, heads=2, mlp_ratio=0.375)
    images = rows(2, 8, 8, 3)
    variables = initial(module, images, train=False)
    block = "params/block0"
    groups = {
        f"{block}/attention/key/kernel[1]": 2,
        f"{block}/attention/key/kernel[2]": 8,
        f"{block}/attention/out/kernel[2]": 16,
        f"{block}/attention/value/kernel[2]": 8,
        f"{block}/mlp_expand/kernel[1]": 6,
    }
    return Toy(evaluation_function(module), variables, (images,), groups)


def fused_attention() -> Toy:
    """One kernel for query, key and value, split into heads by a reshape: whole heads go."""
    shapes = {"embed": (3, 6), "qkv": (6, 24), "qkv_bias": (24,), "out": (8, 6), "head": (6, 2)}

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        hidden = jnp.tanh(tokens @ variables["embed"])
        fused = hidden @ variables["qkv"] + variables["qkv_bias"]
        query, key, value = jnp.split(fused, 3, axis=-1)
        query, key, value = (x.reshape(*x.shape[:2], 4, 2) for x in (query, key, value))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / 2**0.5)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*tokens.shape[:2], 8)
        hidden = hidden + mixed @ variables["out"]
        return hidden.mean(1) @ variables["head"]

    return Toy(apply, draw(1, shapes), (TOKENS,), {"embed[1]": 6, "qkv[1]": 4})


def fused_attention_reshaped() -> Toy:
    """The same with one reshape to (3, heads, head size), as in timm and nanoGPT."""
    shapes = {"qkv": (3, 24), "out": (8, 2)}

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        fused = (tokens @ variables["qkv"]).reshape(*tokens.shape[:2], 3, 4, 2)
        query, key, value = jnp.moveaxis(fused, 2, 0)
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / 2**0.5)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*tokens.shape[:2], 8)
        return mixed @ variables["out"]

    return Toy(apply, draw(2, shapes), (TOKENS,), {"qkv[1]": 4})


def multi_query() -> Toy:
    """Many query heads share one key and value head."""
    shapes = {"query": (3, 4, 2), "key": (3, 2), "value": (3, 5), "out": (4, 5, 2)}

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        query = jnp.einsum("btc,chd->bthd", tokens, variables["query"])
        key, value = tokens @ variables["key"], tokens @ variables["value"]
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkd->bhqk", query, key))
        mixed = jnp.einsum("bhqk,bkd->bqhd", weights, value)
        return jnp.einsum("bqhd,hdo->bqo", mixed, variables["out"])

    groups = {"query[1]": 4, "key[1]": 2, "value[1]": 5}
    return Toy(apply, draw(3, shapes), (TOKENS,), groups)


def grouped_query() -> Toy:
    """Two query heads read each key and value head, which is repeated for them."""
    shapes = {"query": (3, 8), "key": (3, 4), "value": (3, 4), "out": (8, 2)}

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        size = tokens.shape[:2]
        query = (tokens @ variables["query"]).reshape(*size, 4, 2)
        key, value = (
            jnp.repeat((tokens @ variables[name]).reshape(*size, 2, 2), 2, axis=2)
            for name in ("key", "value")
        )
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        return mixed.reshape(*size, 8) @ variables["out"]

    return Toy(apply, draw(4, shapes), (TOKENS,), {"key[1]": 2})


def embedding() -> Toy:
    """Embeddings by gather, positions by a dynamic slice, logits by the embedding transposed."""
    shapes = {"words": (7, 6), "places": (9, 6), "mix": (6, 6), "expand": (6, 5), "reduce": (5, 6)}

    def apply(variables: Any, words: jax.Array, start: jax.Array) -> jax.Array:
        hidden = variables["words"][words]
        hidden = hidden + lax.dynamic_slice_in_dim(variables["places"], start, words.shape[1])
        hidden = hidden + jax.nn.gelu(hidden @ variables["expand"]) @ variables["reduce"]
        last = jnp.take_along_axis(hidden, jnp.full((words.shape[0], 1, 1), 2), axis=1)[:, 0]
        return (last @ variables["mix"] + last) @ variables["words"].T

    words = jnp.asarray([[1, 2, 6, 0], [3, 3, 5, 1]])
    groups = {"mix[1]": 6, "expand[1]": 5}
    return Toy(apply, draw(5, shapes), (words, jnp.int32(2)), groups, frozen="indexed at run time")


def gated_linear_unit() -> Toy:
    """SwiGLU: two halves of one kernel are multiplied, so they go together."""
    shapes = {"embed": (3, 6), "expand": (6, 10), "expand_bias": (10,), "project": (5, 6)}

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        hidden = jnp.tanh(tokens @ variables["embed"])
        gate, value = jnp.split(hidden @ variables["expand"] + variables["expand_bias"], 2, axis=-1)
        hidden = hidden + (jax.nn.silu(gate) * value) @ variables["project"]
        return hidden[:, 0] @ variables["embed"].T

    groups = {"embed[1]": 6, "expand[1]": 5}
    return Toy(apply, draw(6, shapes), (TOKENS,), groups)


def scanned(width: int = 4) -> Toy:
    """Stacked layers under one scan share one keep."""
    shapes = {
        "embed": (3, width),
        "expand": (3, width, 2 * width),
        "bias": (3, 2 * width),
        "project": (3, 2 * width, width),
        "head": (width, 2),
    }

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        layers = {name: variables[name] for name in ("expand", "bias", "project")}

        def step(hidden: jax.Array, layer: Any) -> tuple[jax.Array, jax.Array]:
            wide = jax.nn.relu(hidden @ layer["expand"] + layer["bias"])
            hidden = hidden + wide @ layer["project"]
            return hidden, hidden.mean(1)

        hidden, means = lax.scan(step, tokens @ variables["embed"], layers)
        return hidden.mean(1) @ variables["head"] + means[-1] @ variables["head"]

    groups = {"bias[0]": 2, "embed[1]": width, "expand[2]": 2 * width}
    return Toy(apply, draw(7, shapes), (TOKENS,), groups, frozen="picked out by its index")


def recurrent() -> Toy:
    """A GRU cell scanned over time, backwards too."""
    shapes = {"input": (3, 12), "hidden": (4, 12), "bias": (12,), "back": (7, 4), "head": (8, 2)}

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        def cell(state: jax.Array, token: jax.Array) -> tuple[jax.Array, None]:
            projected = token @ variables["input"] + variables["bias"]
            gates = projected[:, :8] + state @ variables["hidden"][:, :8]
            reset, update = jnp.split(jax.nn.sigmoid(gates), 2, axis=-1)
            new = jnp.tanh(projected[:, 8:] + (reset * state) @ variables["hidden"][:, 8:])
            return (1 - update) * state + update * new, None

        def back(state: jax.Array, token: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = jnp.tanh(jnp.concatenate([token, state], axis=-1) @ variables["back"])
            return state, state

        times, shape = tokens.swapaxes(0, 1), (tokens.shape[0], 4)
        forward, _ = lax.scan(cell, jnp.zeros(shape), times)
        _, backward = lax.scan(back, jnp.zeros(shape), times, reverse=True)
        return jnp.concatenate([forward, backward[0]], axis=-1) @ variables["head"]

    groups = {"back[1]": 4, "input[1]": 4}
    return Toy(apply, draw(8, shapes), (TOKENS,), groups)


def loops() -> Toy:
    """while, fori and cond around dense layers (a while loop has no reverse derivative)."""
    shapes = {"embed": (3, 4), "turn": (4, 4), "left": (4, 5), "right": (4, 5), "head": (5, 2)}

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        hidden = tokens @ variables["embed"]
        turn = lambda _, state: jnp.tanh(state @ variables["turn"])  # noqa: E731
        hidden = lax.fori_loop(0, 2, turn, hidden)
        _, hidden = lax.while_loop(
            lambda state: state[0] < 3, lambda state: (state[0] + 1, jnp.sin(state[1])), (0, hidden)
        )
        hidden = lax.cond(
            tokens[0, 0, 0] > 0,
            lambda state: jax.nn.relu(state @ variables["left"]),
            lambda state: jnp.abs(state @ variables["right"]) + 1,
            hidden,
        )
        hidden = lax.switch(jnp.int32(1), [jnp.sin, jnp.cos, jnp.tanh], hidden)
        return hidden.mean(1) @ variables["head"]

    groups = {"embed[1]": 4, "left[1]": 5}
    return Toy(apply, draw(9, shapes), (TOKENS,), groups, differentiable=False)


def transformer_training() -> Toy:
    """Dropout in a transformer, whose training mode takes a key."""
    module = VisionTransformer(
        num_classes=3, width=16, depth=1, heads=2, mlp_ratio=0.375, dropout=0.3
    )
    images = rows(2, 8, 8, 3)
    variables = initial(module, images, train=False)
    apply = lambda variables, images, key: evaluation_function(module)(variables, images)  # noqa: E731
    block = "params/block0"
    groups = {
        f"{block}/attention/key/kernel[1]": 2,
        f"{block}/attention/key/kernel[2]": 8,
        f"{block}/attention/out/kernel[2]": 16,
        f"{block}/attention/value/kernel[2]": 8,
        f"{block}/mlp_expand/kernel[1]": 6,
    }
    inputs = (images, jax.random.key(3))
    return Toy(apply, variables, inputs, groups, training_function(module))


TOYS = (
    vision_transformer,
    fused_attention,
    fused_attention_reshaped,
    multi_query,
    grouped_query,
    embedding,
    gated_linear_unit,
    scanned,
    recurrent,
    loops,
    transformer_training,
)
