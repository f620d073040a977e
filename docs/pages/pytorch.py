"""How a PyTorch module is compressed, and how far that goes on public architectures."""

from __future__ import annotations

from collections.abc import Sequence

from docs.markdown import Result, command, load, percent, source, table

__all__ = ["EXAMPLE", "page"]

FILE = "benchmarks/results/torch_architectures.json"
EXAMPLE = """\
import jax
import jaxcompress as jc

apply, variables = jc.adapters.from_torch(module)  # {"params": ..., "buffers": ...}, by their names
train_apply, _ = jc.adapters.from_torch(module, train=True)
graph = jc.trace(apply, variables, images)  # as the module takes them: [batch, channels, ...]
keep = jc.select(graph, jc.importance.magnitude(graph, variables), jc.Budget(flops=0.5))
prune = jc.shrink(graph, keep)
small, statistics = prune.variables(variables), jc.adapters.torch_statistics(module)
small = jc.training.reestimate(
    prune.function(train_apply), small, batches, key=jax.random.key(0), statistics=statistics
)
smaller = jc.adapters.to_torch(module, prune.function(apply), small, images)
"""
"""What the page shows; a test runs it."""


def _rows(rows: Sequence[Result]) -> list[list[str]]:
    return [
        [f"`{row['name']}`", f"{row['parameters']:,}", str(row["groups"])]
        + [percent(row["params"], 1), f"{row['trace_cpu_seconds']:.2f}"]
        + [f"{row['outputs']:.0e}", f"{row['law']:.0e}", "no" if row["refused"] else "yes"]
        for row in rows
    ]


INTRODUCTION = """# PyTorch modules

With the extra `torch` installed, `module` a `torch.nn.Module`, `images` a batch and `batches`
several, `[steps, batch, ...]`:

```python
{example}
```

`smaller` is a copy of the module with smaller tensors, which PyTorch trains, saves and runs as
any other; it is given away only after its outputs were compared. Everything else of the library
takes `apply`, `train_apply` and their variables as it takes those of JAX models: other scores,
ranks, masks, distillation, training in JAX. Factors go back multiplied out
(`low_rank.multiplied_out`); weights of masks go back as zeros.

A module whose code has stored sizes (a number of heads, a split size) cannot run with fewer of
them: `to_torch` refuses and names the part, and `prune.function(apply)` stays right. Channels that
such parts hold may be left out of `keep`, for the rest goes back.

What does not carry over: the backward of a `torch.autograd.Function` (JAX differentiates its
forward), a batch whose size is symbolic, BatchNorm with `momentum=None` in training, running
statistics of InstanceNorm, and operators that torchax has no lowering for, which are refused by
name. After the first call PyTorch's spare device name is `jax`; nothing else of PyTorch changes."""
"""How a module is adapted, what goes back, and what does not carry over."""


def page() -> str:
    """Return the page."""
    result = load(FILE)
    adapted = [row for row in result["rows"] if "error" not in row]
    others = [row for row in result["rows"] if "error" in row]
    back = [row for row in adapted if not row["refused"]]
    versions = result["environment"]["versions"]
    head = ["architecture", "parameters", "groups", "parameters that go", "CPU seconds to trace"]
    head += ["outputs", "law", "runs in the module"]
    errors = "\n".join(f"- `{row['name']}`: {row['error']}" for row in others)
    introduction = INTRODUCTION.format(example=EXAMPLE.rstrip())
    return f"""{introduction}

## Public architectures

{len(result["rows"])} architectures of `transformers` {versions["transformers"]} with small sizes
and random weights, on torchax {versions["torchax"]}. {len(adapted)} of them trace, and removing
half of every group equals masking it in all of these; {len(back)} of the modules run with the
smaller arrays as their code stands. `outputs` is the largest difference from PyTorch's outputs and
`law` that of removing from masking, relative to the largest output. {source(FILE)}

{table(head, _rows(adapted))}

Not adapted:

{errors}

{command("python -m benchmarks.torch_architectures")}
"""
