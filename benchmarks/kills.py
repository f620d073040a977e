"""`limited_resources digits`, killed at random moments again and again, ends with the same bits.

    python -m benchmarks.kills

One run is left alone. Others are killed (SIGKILL) after a random time and started again until they
end, one after the other, until there were so many `kills`. Training keeps its state after every few
steps here, so that epochs of a second are cut as well. All artifacts must be equal, file by file.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from experiments.common import environment
from experiments.common.command import Command
from experiments.common.stage_files import path_digest
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Json

__all__ = ["Config", "main"]

CHILD = """
import sys
from experiments.common import steps, stopping
from experiments.limited_resources.__main__ import COMMAND
stopping.SECONDS, steps.STEPS_PER_LOOK = 0.0, 3
COMMAND(sys.argv[1:])
"""


@dataclass(frozen=True)
class Config:
    """How often it is killed.

    Attributes:
        kills: of all runs together.
        soonest: seconds after which a run is killed, at least.
        latest: likewise, at most; the longer, the fewer kills of one run.
        epochs: of the teacher, and of the student.
        seed: of the moments.
        output: what is written.
    """

    kills: int = 20
    soonest: int = 8
    latest: int = 60
    epochs: int = 3
    seed: int = 0
    output: Path = Path("benchmarks/results/kills.json")


def main(config: Config) -> None:
    """Run both, compare them, and write what came of it."""
    environment.prepare()
    with tempfile.TemporaryDirectory() as root:
        watch = Stopwatch()
        if _started(Path(root, "alone"), config).wait():
            raise SystemExit("the run that was left alone failed; its own error stands above")
        alone = watch.seconds
        print(f"left alone: {alone:.0f} s", flush=True)
        expected = _artifacts(Path(root, "alone"))
        if not expected:
            raise SystemExit("the run that was left alone has left no artifact to compare with")
        kills: list[dict[str, Json]] = []
        runs: list[bool] = []
        moments = random.Random(config.seed)
        while len(kills) < config.kills:
            folder = Path(root, f"killed-{len(runs)}")
            kills += _killed(folder, moments, config)
            runs.append(_artifacts(folder) == expected)
            print(f"run {len(runs)} ended, {len(kills)} kills, equal: {runs[-1]}", flush=True)
    is_equal = all(runs)
    result: dict[str, Json] = {
        "kills": kills,
        "runs": len(runs),
        "seconds_alone": round(alone, 1),
        "artifacts": sorted(expected),
        "equal": is_equal,
        "environment": environment.describe(),
    }
    config.output.write_text(json.dumps(result, indent=2) + "\n")
    if not is_equal:
        raise SystemExit("the artifacts differ")


def _started(folder: Path, config: Config) -> subprocess.Popen[bytes]:
    epochs = str(config.epochs)
    arguments = ["digits", "--workdir", str(folder), "--teacher-epochs", epochs]
    arguments += ["--student-epochs", epochs, "--network", "resnet8"]
    arguments += ["--features", "stage3_block0", "--importance", "fisher"]
    arguments += ["--batch-size", "32"]  # more steps, in which it may be killed
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.DEVNULL)


def _killed(folder: Path, moments: random.Random, config: Config) -> list[dict[str, Json]]:
    """Start and kill until the run ends.

    Returns:
        Of each kill after how many `seconds` it came, and what was the `newest` in the folder.
    """
    kills: list[dict[str, Json]] = []
    while True:
        seconds = moments.uniform(config.soonest, config.latest)
        run = _started(folder, config)
        try:
            if run.wait(seconds):
                raise SystemExit("a run failed; its own error stands above")
            return kills
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
        kills.append({"seconds": round(seconds, 2), "newest": _newest(folder)})
        print(kills[-1], flush=True)


def _newest(folder: Path) -> str:
    """Name the state of training, or the stage, that was written last."""
    steps = [path for path in folder.glob("*-state/[0-9]*") if path.is_dir()]
    files = [*steps, *folder.glob("stage-*.json")]
    last = max(files, key=lambda path: path.stat().st_mtime, default=None)
    return "nothing yet" if last is None else str(last.relative_to(folder))


def _artifacts(folder: Path) -> dict[str, str | None]:
    """Return the digest of each artifact."""
    folders = sorted(path.parent for path in folder.rglob("structure.json"))
    return {str(path.relative_to(folder)): path_digest(path) for path in folders}


if __name__ == "__main__":
    Command("benchmarks.kills", __doc__, main, Config)()
