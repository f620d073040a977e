"""Several processes that run one experiment: joined before JAX starts, by the words of the command.

`--distributed`, or the variable `JAXCOMPRESS_PROCESSES`, is `auto` where the machines tell JAX of
each other (TPU pods, SLURM, Open MPI, Kubernetes), or says which of how many processes this is, and
where the first one listens: `0/2@host:1234`. Without it an experiment is one process, whatever the
machine is part of. All other variables that JAX reads hold: `JAX_COORDINATOR_ADDRESS` or
`JAX_COORDINATOR_PORT` and `JAX_COORDINATOR_BIND_ADDRESS`, `JAX_LOCAL_DEVICE_IDS`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import jax

__all__ = ["FLAG", "VARIABLE", "asked_for", "join", "without_flag"]

FLAG, VARIABLE = "--distributed", "JAXCOMPRESS_PROCESSES"
FORM = r"(?P<number>\d+)/(?P<count>[1-9]\d*)@(?P<address>.+:\d+)"
SHUTDOWN_SECONDS = 60
"""How long a process that ends, e.g. by an error, waits for the others, which JAX then ends too."""


def without_flag(
    arguments: Sequence[str] | None, variables: MutableMapping[str, str]
) -> list[str] | None:
    """Return the arguments without `--distributed WORD`, which goes into the environment.

    Args:
        arguments: of a command; None for those of the shell.
        variables: of the environment.

    Raises:
        ValueError: if the flag has no word behind it.

    Example:
        >>> without_flag(["--seed", "3", "--distributed", "auto"], variables := {}), variables
        (['--seed', '3'], {'JAXCOMPRESS_PROCESSES': 'auto'})
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What stands before the word of a flag, apart or with an equals sign.
    places = [i for i, word in enumerate(given) if word.partition("=")[0] == FLAG]
    if not places:
        return None if arguments is None else given
    place = places[-1]
    _, sign, word = given[place].partition("=")
    length = 1 if sign else 2
    word = word if sign else "".join(given[place + 1 : place + 2])
    if not word or len(places) > 1:
        raise ValueError(
            f"{FLAG} stands once and has one word behind it, but got {' '.join(given)}; say "
            f"{FLAG} auto, or {FLAG} 0/2@host:1234 for the first of two processes"
        )
    variables[VARIABLE] = word
    return given[:place] + given[place + length :]


def asked_for(variables: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the arguments of `jax.distributed.initialize`; None for one process.

    Raises:
        ValueError: if the variable is of neither form.

    Example:
        >>> asked_for({}), asked_for({"JAXCOMPRESS_PROCESSES": "auto"})
        (None, {})
        >>> asked_for({"JAXCOMPRESS_PROCESSES": "1/2@host:1234"})["process_id"]
        1
    """
    text = variables.get(VARIABLE, "")
    if not text:
        return None
    if text == "auto":
        return {}
    match = re.fullmatch(FORM, text)
    if match is None or int(match["number"]) >= int(match["count"]):
        raise ValueError(
            f"{VARIABLE} and {FLAG} are auto, or the number of this process from 0, how many there "
            f"are, and where the first listens, but got {text!r}; say for example 0/2@host:1234 in "
            "the first and 1/2@host:1234 in the second"
        )
    count, number = int(match["count"]), int(match["number"])
    return {"coordinator_address": match["address"], "num_processes": count, "process_id": number}


def join(*, several: bool) -> None:
    """Join the processes of this run, if the environment says that there are others.

    What all but the first would print is dropped from then on; their errors are shown.

    Args:
        several: whether what follows runs in several processes.

    Raises:
        ValueError: if it does not, or the variable is of no known form.
        RuntimeError: if JAX has started already, or does not find the others; it says how.

    Example:
        >>> join(several=True)
    """
    asked = asked_for(os.environ)
    if asked is None or jax.distributed.is_initialized():
        return
    if not several:
        raise ValueError(
            f"this command runs in one process, but {FLAG} or {VARIABLE} asks for several; start "
            "it once, on one machine, without them"
        )
    # It would take the signal that ends a process for a notice, which no experiment asks for.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**asked, shutdown_timeout_seconds=SHUTDOWN_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(
            "several processes join before JAX starts a device, and find the first one, but with "
            f"{VARIABLE}={os.environ[VARIABLE]} that failed ({error}); name where the first one "
            "listens as 0/2@host:1234, or start a single process without it"
        ) from error
    if jax.process_index():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
