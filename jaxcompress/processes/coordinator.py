"""The words that processes leave at JAX's coordinator: the only use of its client, which JAX keeps
private. What is public, `multihost_utils`, runs on devices and waits without an end."""

from __future__ import annotations

from jax._src import distributed

__all__ = ["drop", "post", "posted"]


def post(key: str, text: str) -> None:
    """Leave a text for all; a key is used once.

    Raises:
        RuntimeError: if `jax.distributed.initialize` was not called.
    """
    _client().key_value_set_bytes(key, text.encode())


def posted(folder: str) -> dict[str, str]:
    """Return all texts below a folder, which ends with a slash, by the rest of their keys."""
    pairs = _client().key_value_dir_get_bytes(folder)
    return {key.rpartition("/")[2]: value.decode() for key, value in pairs}


def drop(key: str) -> None:
    """Remove a text that all have read."""
    _client().key_value_delete(key)


def _client() -> distributed._jax.DistributedRuntimeClient:
    client = distributed.global_state.client
    if client is None:
        raise RuntimeError(
            "several processes meet at JAX's coordinator, but jax.distributed.initialize() was not "
            "called; call it before anything else"
        )
    return client
