"""Command lines: settings as options, and a module's docstring, with its examples, as the help."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import tyro

from experiments.common.joining import FLAG, VARIABLE, without_flag
from experiments.common.limits import check
from jaxcompress.processes import give_up

__all__ = ["Command"]

SEVERAL = (
    f"In several processes, where the command can: {FLAG} auto (TPU pods, SLURM, Open MPI) or, in "
    f"the first of two, {FLAG} 0/2@host:1234; or the same words in {VARIABLE}."
)


class Command(NamedTuple):
    """How a module is started with ``python -m``.

    Attributes:
        module: its full name, as the usage line shows it.
        text: its docstring, which says what it does and shows examples.
        main: does it, given the settings.
        settings: a dataclass, each field an option; or presets, by the name that is given first:
            what it is, and its settings, which options change.

    Example:
        >>> import dataclasses
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     seed: int = 0
        >>> Command("experiments.demo", "Show a seed.", print, Config)(["--seed", "3"])
        Config(seed=3)
    """

    module: str
    text: str | None
    main: Callable[[Any], object]
    settings: type | Mapping[str, tuple[str, Any]]

    def __call__(self, arguments: Sequence[str] | None = None) -> None:
        """Run with the settings that the arguments give; by default those of the shell.

        Among them may stand `--distributed`, see `experiments.common.joining`. Where the command
        fails in one of several processes, the others learn of it and end too.

        Raises:
            ValueError: if numbers among them are out of their ranges; before anything is done.
        """
        settings = self.parse(without_flag(arguments, os.environ))
        check(settings)
        try:
            self.main(settings)
        except BaseException as error:
            if jax.distributed.is_initialized():
                give_up(f"python -m {self.module}", error)
            raise

    def parse(self, arguments: Sequence[str] | None = None) -> Any:
        """Return the settings that the arguments give, or show the help and exit."""
        program = f"python -m {self.module}"
        parse: Callable[..., Any] = tyro.cli
        if isinstance(self.settings, Mapping):
            parse = tyro.extras.overridable_config_cli
        text = f"{self.text or ''}\n\n{SEVERAL}"
        return parse(self.settings, prog=program, description=text, args=arguments)
