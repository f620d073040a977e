"""Every command line is of one kind: usage, text with an example, one name for one setting."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.common.command import Command
from experiments.common.limits import REALS, number_problems

ROOT = Path(__file__).parents[2]
# One name for one setting: what stands on the left is called as on the right.
OTHER_NAMES = {
    "model": "network",
    "models": "networks",
    "teacher": "network",
    "batch": "batch_size",
    "images": "batch_size, or for example choice_images",
    "data": "data_dir",
    "folder": "workdir",
    "out": "output",
    "finished": "only_finished",
    "lr": "rate",
    "learning_rate": "rate",
    "config": "its fields",
}
# What has a few values of which a type could tell, but is a name of another package's registry.
OPEN_CHOICES = {
    "network",
    "dataset",
    "features",
    "before_features",
    "rows",
    "names",
    "python",
    "protect",
}
# What is one's own, a function or a file, where other commands take a name or a folder.
OWN = {"experiments.compress": {"model", "data", "budget"}}


def modules() -> list[str]:
    """Name every module of the experiments and benchmarks, by its file."""
    files = (
        file for folder in ("experiments", "benchmarks") for file in (ROOT / folder).rglob("*.py")
    )
    return sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)


def commands() -> dict[str, Command]:
    """Return the commands by what stands after `python -m`."""
    by_name = {}
    for name in modules():
        text = (ROOT / name.replace(".", "/")).with_suffix(".py").read_text()
        if "\nCOMMAND = " in text:
            by_name[name.removesuffix(".__main__")] = importlib.import_module(name).COMMAND
    return by_name


COMMANDS = commands()


def settings_of(command: Command) -> Any:
    """Return the settings as their class, whatever preset was chosen."""
    if isinstance(command.settings, Mapping):
        return type(next(iter(command.settings.values()))[1])
    return command.settings


def help_of(command: Command, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        command.parse([*arguments, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_every_experiment_and_benchmark_is_a_command() -> None:
    folders = {"common", "results", "__pycache__"}
    wanted = {
        f"experiments.{folder.name}"
        for folder in (ROOT / "experiments").iterdir()
        if folder.is_dir()
    }
    wanted |= {
        f"benchmarks.{folder.name}" for folder in (ROOT / "benchmarks").iterdir() if folder.is_dir()
    }
    wanted = {name for name in wanted if name.split(".")[1] not in folders}
    assert len(wanted) >= 10 and wanted <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_how_the_command_is_called(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = help_of(COMMANDS[name], capsys)
    assert shown.startswith(f"usage: python -m {name} "), shown.splitlines()[0]
    text = COMMANDS[name].text or ""
    assert text.splitlines()[0].split(":")[0] in shown
    assert f"python -m {name}" in shown.split("\n", 1)[1], "no example in the help"


@pytest.mark.parametrize("name", COMMANDS)
def test_settings_are_named_alike(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(settings_of(COMMANDS[name]))}
    fields -= OWN.get(name, set())
    wrong = {field: OTHER_NAMES[field] for field in fields & OTHER_NAMES.keys()}
    assert not wrong, f"{name} names settings otherwise than the other commands: {wrong}"


@pytest.mark.parametrize("name", COMMANDS)
def test_choices_are_spelled_out(name: str) -> None:
    """A word that is chosen from a few is a Literal, so that the help lists them."""
    free = {
        field.name
        for field in dataclasses.fields(settings_of(COMMANDS[name]))
        if field.type in ("str", "tuple[str, ...]", "str | None")
    }
    free -= OPEN_CHOICES | OWN.get(name, set())
    assert not free, f"{name}: give {free} a Literal type"


IMPORTS = """
import os, sys, importlib
import jax
before = dict(os.environ), dict(jax.config.values)
for name in sys.argv[1:]:
    importlib.import_module(name)
    after = dict(os.environ), dict(jax.config.values)
    assert after == before, name
"""


def test_importing_changes_nothing() -> None:
    """Neither JAX's settings nor the environment: whoever imports goes on as before.

    On a platform that does not exist, so that whatever starts a backend fails.
    """
    # These need packages that benchmarks alone install.
    needs_torch = {"networks", "pytorch", "torch_pruning"}
    names = [name for name in modules() if name.rsplit(".", 1)[1] not in needs_torch]
    program = [sys.executable, "-c", IMPORTS, *names]
    subprocess.run(program, check=True, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "nowhere"})


def test_no_import_stands_after_a_statement() -> None:
    offences = [
        f"{name}: has an import after a statement; call environment.prepare() in main"
        for name in modules()
        if "E402" in (ROOT / name.replace(".", "/")).with_suffix(".py").read_text()
    ]
    assert not offences, "\n".join(offences)


def configs(name: str) -> list[Any]:
    settings = COMMANDS[name].settings
    if isinstance(settings, Mapping):
        return [config for _, config in settings.values()]
    needed = {field.name: Path() for field in dataclasses.fields(settings) if is_needed(field)}
    return [settings(**needed)]


def is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@pytest.mark.parametrize("name", COMMANDS)
def test_numbers_out_of_range_are_refused_before_anything_is_done(name: str) -> None:
    for config in configs(name):
        assert number_problems(config) == []
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if type(value) in (int, float):
                wrong = dataclasses.replace(config, **{field.name: -1})
                assert [line.split()[0] for line in number_problems(wrong)] == [field.name]
            if type(value) is float:
                assert field.name in REALS, f"{name}: {field.name} has no limit"
                assert number_problems(dataclasses.replace(config, **{field.name: float("nan")}))


def test_a_command_refuses_numbers_before_it_begins() -> None:
    command = COMMANDS["experiments.quickstart"]._replace(main=lambda config: pytest.fail("begun"))
    with pytest.raises(ValueError, match=r"(?s)flops must be .* 1\.5.*batch_size must be .* 0"):
        command(["--flops", "1.5", "--batch-size", "0"])
