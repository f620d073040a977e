"""What stays frozen and why: small functions traced, and every reason that the code can give."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

import jaxcompress as jc
from docs.markdown import table
from docs.pages.reasons import reasons

__all__ = ["CASES", "page", "said"]

WIDTH = 8
VARIABLES = {
    "first": (6, WIDTH),
    "kernel": (1, 1, 3),
    "scale": (2, 4),
    "last": (WIDTH, 3),
    "half": (4, 3),
    "one": (1, 3),
    "each": (5,),
}
# What is done with `hidden`, and what can be done about the axis that freezes.
CASES: dict[str, str] = {
    "hidden": "nothing froze it: the group `first[1]`",
    "hidden * x[:, WIDE]": "the input says something of each channel, so its width decides; pass "
    "such an input as a leaf of the variables",
    "jnp.sort(hidden)": "nothing: which channel is where depends on the others",
    "jnp.cumsum(hidden, axis=1)": "nothing: what follows adds up what went before",
    "jax.lax.top_k(hidden, 4)[0]": "nothing: the fourth of fewer is another",
    "hidden * (jnp.argmax(hidden, 1) > 3)[:, None]": "nothing: a position is a number",
    "jnp.fft.fft(hidden).real": "nothing along the transformed axis; others pass",
    "hidden[:, order]": "write the order as constants of the code: known shuffles pass",
    "hidden * hidden[:, 3:4]": "nothing for that one channel; the other channels stay free",
    "jax.lax.reduce(hidden, 1.0, lambda a, b: a * b + b, (1,))": "use a sum, maximum or product, "
    "which pass",
    "jax.lax.reduce_window(hidden, 0.0, jax.lax.add, (1, 2), (1, 2), 'VALID')": "nothing: "
    "neighbours are pooled",
    "jax.lax.conv(hidden[:, None], variables['kernel'], (1,), 'SAME')[:, 0]": "nothing: positions "
    "of a window are no channels",
    "(hidden.reshape(-1, 2, 4) * variables['scale']).reshape(-1, 8)": "whole heads go, `first[1]` "
    'as 2 of 4; `trace(..., split="lanes")` removes the same lane of each instead',
    "jnp.linalg.qr(hidden.T)[0].T": "one rule for the primitive, see "
    "[Contributing](../CONTRIBUTING.md#adding-a-primitive)",
    "hidden * variables['each'][:, None]": "nothing: a number for each example",
    "mean_of(hidden)[:, None]": "take the mean outside of the custom derivative",
}
EXAMPLE = """\
def apply(variables, tokens):
    hidden = jax.nn.relu(variables["table"][tokens] @ variables["first"])
    return jnp.sort(hidden) @ variables["last"] + hidden @ variables["other"]
"""
LASTS = {"top_k": "half", "reduce_window": "half", "mean_of": "one"}


@jax.custom_jvp
def mean_of(hidden: jax.Array) -> jax.Array:
    """Average over channels, with a derivative rule of its own."""
    return hidden.mean(-1)


mean_of.defjvp(lambda primals, tangents: (mean_of(*primals), tangents[0].mean(-1)))


def _function(code: str) -> Callable[[Any, Any, Any], Any]:
    """Return a network of two kernels that does between them what the code says."""
    names = {"jax": jax, "jnp": jnp, "mean_of": mean_of, "WIDE": slice(0, WIDTH)}
    between = eval(f"lambda variables, x, hidden, order: {code}", names)
    last = next((name for part, name in LASTS.items() if part in code), "last")

    def apply(variables: Any, x: Any, order: Any) -> Any:
        made = between(variables, x, x[:, :6] @ variables["first"], order)
        return made @ variables[last] if made.ndim == 2 else made[:, None] @ variables["one"]

    return apply


@cache
def said(code: str) -> list[str]:
    """Return why `first[1]` loses no channels, or only some; empty where nothing freezes it.

    Example:
        >>> said("jnp.sort(hidden)")
        ['it is sorted']
    """
    variables = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in VARIABLES.items()}
    x = jax.ShapeDtypeStruct((5, WIDTH), jnp.float32)
    order = jax.ShapeDtypeStruct((WIDTH,), jnp.int32)
    graph = jc.trace(_function(code), variables, x, order)
    looked = ("scale", 1) if "scale" in code else ("each", 0) if "each" in code else ("first", 1)
    return [entry.reason for entry in graph.frozen if (entry.path, entry.axis) == looked]


def _cell(code: str) -> str:
    shown = code.replace("WIDE", f":{WIDTH}")
    return f"`{shown}`"


def _example() -> str:
    names: dict[str, Any] = {"jax": jax, "jnp": jnp}
    exec(compile(EXAMPLE, "network.py", "exec"), names)
    shapes = {"table": (100, 16), "first": (16, 8), "last": (8, 2), "other": (8, 2)}
    variables = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}
    return str(jc.trace(names["apply"], variables, jax.ShapeDtypeStruct((4,), jnp.int32)))


def page() -> str:
    """Return the page."""
    rows = [[_cell(code), "; ".join(said(code)) or "–", advice] for code, advice in CASES.items()]
    every = [
        [f"{reason.text}", reason.what, f"[`{reason.file}`](../{reason.file})"]
        for reason in reasons()
    ]
    return PAGE.format(
        code=EXAMPLE,
        example=_example(),
        cases=table(["what is done with `hidden`", "`print(graph)` says", "what helps"], rows),
        every=table(["reason", "what the rule does", "where"], every),
    )


PAGE = """# What stays frozen, and why

`trace` reads the jaxpr. Every index of every axis carries a label, and one small rule a primitive
says which labels belong together. An axis loses channels only where every rule on its way vouches
that removing equals masking. Everything else is frozen, and `print(graph)` gives the reason, with
the line of code. Nothing is guessed, so a frozen axis is never a silent error.

An embedding, a layer whose channels are sorted, and a second head:

```python
{code}```

```text
{example}
```

The width of the embedding is a group. Its vocabulary is looked up by numbers that are known only
when it runs. The sorted layer cannot lose channels. Outputs keep their shape, unless `output=` says
that some of them need not, or `state=` that they replace a leaf.

## What freezes a layer

Between `hidden = x[:, :6] @ variables["first"]`, 8 channels wide, and the next kernel stands what
the first column shows. The second is what the library says now, traced when this page was written:

{cases}

Sums freeze nothing. A sum over channels is a contraction with ones, so LayerNorm, RMSNorm,
GroupNorm, attention and softmax let their channels go, exactly. A mean divides by what is left, or,
with `trace(..., means="all")`, by what there was.

## Frozen, but it need not be

- **It is an output of training only.** Trace evaluation; training functions are rewritten by the
  same `Compression`. `also=` adds functions that read further leaves.
- **It is a carry or a cache** that comes in and goes out again: `state=` says which input or leaf
  an output replaces.
- **A kernel is computed** from variables (scaled, dequantised, LoRA): `jc.fold` stores it first.
- **Heads or lanes**: an axis that is split loses one factor; `split=` says which.
- **A primitive without a rule**: a rule is one entry, two functions of a few lines.

`recipes.prune` leaves residual streams whole on top of that unless asked: `groups="all"`.

## Every reason in the code

Collected from the rules; `...` stands for names and numbers.

{every}
"""
