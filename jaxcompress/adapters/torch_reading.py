"""Back to PyTorch: smaller variables as a state dict, and in a copy of the module.

A module whose layers have other widths is right only where its code reads widths off its tensors;
a copy is given away only after its outputs were compared with those of the smaller function.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxcompress.adapters.torch_sizes import fit_sizes, reads_groups_off_inputs, stored_sizes
from jaxcompress.adapters.torch_tensors import Module, as_array, as_tensor, held
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.arguments import real, require
from jaxcompress.paths import flatten_with_paths

__all__ = ["to_torch", "torch_state"]


def torch_state(module: Module, variables: PyTree) -> dict[str, Any]:
    """Return variables as a PyTorch state dict, under all names that the module's has.

    Args:
        module: what `from_torch` was given; it says which names share a tensor.
        variables: of `from_torch`, or smaller ones of the same names.

    Raises:
        ValueError: if tensors of the module have no leaf, or leaves no tensor.

    Example:
        >>> import torch
        >>> from jaxcompress.adapters import from_torch
        >>> module = torch.nn.Linear(3, 2)
        >>> _, variables = from_torch(module)
        >>> variables["params"]["weight"] = variables["params"]["weight"][:, :2]
        >>> {name: tuple(x.shape) for name, x in torch_state(module, variables).items()}
        {'weight': (2, 2), 'bias': (2,)}
    """
    return _smaller(module, variables).state_dict()


def to_torch(
    module: Module,
    function: Function,
    variables: PyTree,
    *inputs: PyTree,
    tolerance: float = 1e-3,
    **keywords: Any,
) -> Module:
    """Return a copy of a module that holds smaller variables and computes what the function does.

    Of PyTorch's own layers the sizes that they declare are set anew (features, channels, groups,
    normalized shapes). Nothing else of the module is changed, its mode neither.

    Args:
        module: what `from_torch` was given.
        function: `compression.function(apply)`, in evaluation mode.
        variables: `compression.variables(variables)`, trained since or not. Kernels in two factors
            are multiplied out before: `low_rank.multiplied_out`.
        *inputs: of the function, for the comparison.
        tolerance: the largest difference of two outputs, relative to the largest entry.
        **keywords: of the function.

    Raises:
        ValueError: if tensors and leaves have no counterpart; if the smaller module cannot run, or
            computes something else, because its code goes by sizes that it has stored.

    Example:
        >>> import torch
        >>> import jaxcompress as jc
        >>> module = torch.nn.Sequential(
        ...     torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
        ... )
        >>> apply, variables = jc.adapters.from_torch(module)
        >>> x = np.ones((4, 3), np.float32)
        >>> graph = jc.trace(apply, variables, x)
        >>> keep = jc.select(graph, jc.importance.magnitude(graph, variables), jc.Budget(flops=0.5))
        >>> prune = jc.shrink(graph, keep)
        >>> small = prune.variables(variables)
        >>> to_torch(module, prune.function(apply), small, x)[0]
        Linear(in_features=3, out_features=4, bias=True)
    """
    require(tolerance=real(tolerance, least=0))
    made = _smaller(module, variables)
    expected, _ = flatten_with_paths(function(variables, *inputs, **keywords))
    problems = []
    # Where groups of normalised channels shrank, whole groups are gone or lanes of every one.
    for whole_groups in (True, False):
        fit_sizes(made, module, whole_groups)
        problem = _difference(made, expected, inputs, keywords, tolerance)
        if problem is None:
            return made
        problems.append(problem)
    stored = stored_sizes(made, module)
    raise ValueError(
        "a smaller module must read its sizes off its tensors, but as it stands "
        f"{problems[0]}{f'; sizes are stored in {stored}' if stored else ''}; keep the channels of "
        "these parts, or stay with compression.function, which is always right"
    )


def _smaller(module: Module, variables: PyTree) -> Module:
    """Copy the module around the variables, as parameters and buffers."""
    import torch

    kinds = held(module)
    leaves, _ = flatten_with_paths(variables)
    names = {f"{kind}/{name}" for kind in ("params", "buffers") for name in kinds[kind]}
    if leaves.keys() != names:
        raise ValueError(
            "a module holds one tensor for each leaf of its variables, but without a leaf are "
            f"{sorted(names - leaves.keys())} and without a tensor "
            f"{sorted(leaves.keys() - names)}; multiply factors out by low_rank.multiplied_out"
        )
    memo = {}
    for kind in ("params", "buffers"):
        for name, old in kinds[kind].items():
            new = as_tensor(leaves[f"{kind}/{name}"], old).to(old.device)
            is_param = isinstance(old, torch.nn.Parameter)
            memo[id(old)] = torch.nn.Parameter(new, old.requires_grad) if is_param else new
    return copy.deepcopy(module, memo)


def _difference(
    made: Module,
    expected: Mapping[str, Array],
    inputs: PyTree,
    keywords: PyTree,
    tolerance: float,
) -> str | None:
    """Say how a module's outputs differ from what is expected; None where they do not."""
    from jaxcompress.adapters.torchax_running import innermost_module

    modes = {name: part.training for name, part in made.named_modules()}
    try:
        outputs = _outputs(made.eval(), inputs, keywords)
    except Exception as error:  # whatever a forward raises at sizes that do not fit
        return f"{innermost_module(error, made)} failed with {str(error).splitlines()[0]!r}"
    finally:
        for name, part in made.named_modules():
            part.training = modes[name]
    for path, right in expected.items():
        left, right = np.asarray(outputs[path], np.float64), np.asarray(right, np.float64)
        if left.shape != right.shape:
            return f"output {path or 0} is {left.shape} instead of {right.shape}"
        scale = np.abs(right).max(initial=1e-30)
        gap = np.abs(left - right).max(initial=0) / scale
        if not gap <= tolerance:
            return f"output {path or 0} differs by {gap:.1e} of its largest entry"
    return None


def _outputs(made: Module, inputs: PyTree, keywords: PyTree) -> dict[str, Array]:
    """Run a module in PyTorch; return its outputs by the paths that the function's have."""
    import torch

    from jaxcompress.adapters.torchax_running import to_arrays

    def tensors(tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: torch.from_numpy(np.array(leaf)) if hasattr(leaf, "dtype") else leaf, tree
        )

    with torch.no_grad(), reads_groups_off_inputs(made):
        result = made(*tensors(inputs), **tensors(keywords))
    return flatten_with_paths(to_arrays(result, as_array))[0]
