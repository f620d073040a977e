"""Two hundred digits, and settings under which nothing takes long."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.common import data
from experiments.compress.settings import Config, Scoring

HERE = Path(__file__).parent
collect_ignore = [] if importlib.util.find_spec("torch") else ["own_torch.py"]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an `.npz` of pixels and labels."""
    file = tmp_path_factory.mktemp("digits") / "digits.npz"
    whole = data.load("digits")
    np.savez(file, images=whole.train_images[:200], labels=whole.train_labels[:200])
    return file


def quick(workdir: Path, **changes: Any) -> Config:
    """Return settings of few steps."""
    scoring = Scoring(rounds=1, steps=0, examples=16, looked_at=64)
    settings = {"workdir": workdir, "epochs": 1, "batch_size": 32, "scoring": scoring, **changes}
    return Config(**settings)
