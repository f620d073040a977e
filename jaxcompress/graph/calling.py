"""What a function is called with while it is traced, for the error if it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxcompress.annotations import Array, Function

__all__ = ["told"]


def told(function: Function, inputs: Sequence[Array]) -> Function:
    """Say with what a function that fails was called: the commonest reason is a missing axis.

    Example:
        >>> import jax.numpy as jnp
        >>> told(lambda x: x + 1, [jnp.ones((1, 3))])(2)
        3
    """

    def run(*args: Any, **names: Any) -> Any:
        try:
            return function(*args, **names)
        except Exception as error:
            if not inputs:
                raise
            shapes = ", ".join(str(list(leaf.shape)) for leaf in inputs)
            error.add_note(
                f"the function was traced with inputs of shapes {shapes}, examples first: one is "
                "images[:1], not images[0]"
            )
            raise

    return run
