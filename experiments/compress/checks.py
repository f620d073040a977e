"""Settings that are refused before anything is read or computed, all at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from experiments.common.limits import number_problems
from experiments.common.runtimes import missing
from experiments.compress.budget import budget_problems, parsed, structural
from experiments.compress.nearest import nearest
from experiments.compress.settings import STRUCTURAL, Config, Export, Stage
from experiments.compress.timed import table_problems
from jaxcompress.models import NETWORKS

__all__ = ["check"]


def check(config: Config) -> None:
    """Raise if a setting cannot be meant, whatever the model and the data are.

    Raises:
        ValueError: naming every such setting.

    Example:
        >>> check(Config(batch_size=0, budget=("flops=1.5",)))
        Traceback (most recent call last):
            ...
        ValueError: these settings cannot be meant:
        - batch_size must be a whole number of at least 1, but is 0
        - budget: a share is a number in (0, 1], but 'flops=1.5'; say for example flops=0.5
    """
    problems = [
        *number_problems(config),
        *_epochs(config),
        *budget_problems(config.budget),
        *_stages(config),
    ]
    problems += [] if problems else _together(config)
    problems += table_problems(config.latency_table)
    problems += [*_model(config), *_pixels(config), *_exports(config)]
    if problems:
        raise ValueError("these settings cannot be meant:\n- " + "\n- ".join(problems))


def _epochs(config: Config) -> list[str]:
    if config.epochs:
        return []
    return [
        "epochs must be a whole number of at least 1, but is 0; leave the stage distil out where "
        "nothing is to be learned"
    ]


def _unknown(setting: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    return [
        f"{setting}: there is no {name!r}; {nearest(name, known)}"
        for name in given
        if name not in known
    ]


def _stages(config: Config) -> list[str]:
    problems = _unknown("stages", config.stages, get_args(Stage))
    twice = sorted({s for s in config.stages if config.stages.count(s) > 1})
    problems += [f"stages: {stage} is done once, but is named twice" for stage in twice]
    problems += _integers(config)
    return problems if config.stages else ["stages: none is named; say for example prune distil"]


def _integers(config: Config) -> list[str]:
    """Say what follows integers that cannot, and what they need."""
    if "quantize" not in config.stages:
        return []
    after = [s for s in config.stages[config.stages.index("quantize") + 1 :] if s != "distil"]
    problems = [
        f"stages: {stage} takes floats, but comes after quantize; name quantize behind it"
        for stage in after
    ]
    if importlib.util.find_spec("qwix") is None:
        problems.append(
            "stages: quantize needs qwix, which is not installed; install the extra `quantize`"
        )
    return problems


def _together(config: Config) -> list[str]:
    """Say which parts of the budget no stage is there for, and which stages have none."""
    shares, is_sparse = parsed(config.budget), "sparse" in config.stages
    asked = {kind for kind, share in structural(shares, is_sparse).items() if share < 1}
    removing = [stage for stage in config.stages if stage in STRUCTURAL]
    problems = []
    if asked and not removing:
        kinds = ", ".join(f"{kind}={shares.get(kind, shares.get('bytes'))}" for kind in asked)
        problems.append(
            f"stages: prune or low_rank has to meet {kinds}, but the stages are "
            f"{' '.join(config.stages)}; add one of them"
        )
    if "latency" in shares and ("prune" not in removing or len(removing) > 1):
        problems.append(
            "budget: latency is met by the stage prune alone, since ranks are not timed, but the "
            f"stages are {' '.join(config.stages)}; say --stages prune distil"
        )
    if config.latency_table is not None and "latency" not in shares:
        problems.append(
            "latency_table: times limit nothing without a budget of them; add for example "
            "latency=0.5 to the budget"
        )
    if is_sparse and not config.sparsity and "bytes" not in shares:
        problems.append(
            "sparsity: the stage sparse has no share of zeros, but no budget of bytes to find it "
            "by either; say for example --sparsity 0.5, or add bytes=0.1 to the budget"
        )
    return problems


def _model(config: Config) -> list[str]:
    problems = []
    if config.labels == "test" and config.weights is None and ":" not in config.model:
        problems.append(
            "labels: a shipped network without weights is trained by labels first, but labels=test "
            "keeps them for judging; pass --weights"
        )
    is_reference = ":" in config.model
    if not is_reference and config.model not in NETWORKS:
        problems.append(
            f"model: {config.model!r} is neither module:function nor a shipped network; "
            + nearest(config.model, NETWORKS)
        )
    if is_reference and config.weights is not None:
        problems.append(
            "weights: a function of one's own returns its variables, but --weights is given; "
            "leave it out"
        )
    if config.weights is not None and not Path(config.weights).exists():
        problems.append(
            f"weights: there is nothing at {config.weights}; pass a file or an artifact"
        )
    return problems


def _pixels(config: Config) -> list[str]:
    if not (config.mean and config.std) or len(config.mean) == len(config.std):
        return []
    return [f"mean and std have one number per channel, but are {config.mean} and {config.std}"]


def _exports(config: Config) -> list[str]:
    absent = {name: missing(name) for name in config.exports}
    return _unknown("exports", config.exports, get_args(Export)) + [
        f"exports: {name} needs {', '.join(modules)}, which are not installed; install "
        "requirements-exports.txt, as CONTRIBUTING.md says"
        for name, modules in absent.items()
        if modules
    ]
