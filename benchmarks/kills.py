"""`limited_resources digits`, killed at random moments again and again, ends with the same bits.

    python -m benchmarks.kills

One run is left alone. Another is killed (SIGKILL) after a random time and started again, as often
as `kills`, and then left to end. Training keeps its state after every few steps here, so that
epochs of a second are cut as well. The artifacts of both must be equal, file by file.
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
        kills: of one run.
        epochs: of the teacher, and of the student.
        seed: of the moments.
        output: what is written.
    """

    kills: int = 20
    epochs: int = 8
    seed: int = 0
    output: Path = Path("benchmarks/results/kills.json")


def main(config: Config) -> None:
    """Run both, compare them, and write what came of it."""
    environment.prepare()
    with tempfile.TemporaryDirectory() as root:
        watch = Stopwatch()
        _started(Path(root, "alone"), config).wait()
        alone = watch.seconds
        print(f"left alone: {alone:.0f} s", flush=True)
        seconds, steps = _killed(Path(root, "killed"), config, alone)
        digests = {name: _artifacts(Path(root, name)) for name in ("alone", "killed")}
    is_equal = digests["alone"] == digests["killed"] and bool(digests["alone"])
    print(f"{len(digests['alone'])} artifacts, equal: {is_equal}")
    result: dict[str, Json] = {
        "kills": seconds,
        "killed_in": steps,
        "seconds_alone": alone,
        "artifacts": sorted(digests["alone"]),
        "equal": is_equal,
        "environment": environment.describe(),
    }
    config.output.write_text(json.dumps(result, indent=2) + "\n")
    if not is_equal:
        raise SystemExit(f"the artifacts differ: {digests}")


def _started(folder: Path, config: Config) -> subprocess.Popen[bytes]:
    epochs = str(config.epochs)
    arguments = ["digits", "--workdir", str(folder), "--teacher-epochs", epochs]
    arguments += ["--student-epochs", epochs]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.DEVNULL)


def _killed(folder: Path, config: Config, alone: float) -> tuple[list[float], list[str]]:
    """Start and kill until it was killed often enough, then let it end.

    Returns:
        After how many seconds it was killed, and the newest thing in its folder then.
    """
    moments = random.Random(config.seed)
    seconds: list[float] = []
    newest: list[str] = []
    while len(seconds) < config.kills:
        after = moments.uniform(0.1, 0.3) * alone
        run = _started(folder, config)
        try:
            run.wait(after)
            break  # it ended: nothing is left to kill
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
        seconds.append(round(after, 2))
        newest.append(_newest(folder))
        print(f"killed after {after:.1f} s, at {newest[-1]}", flush=True)
    if _started(folder, config).wait():
        raise SystemExit("the last run failed; its own error stands above")
    return seconds, newest


def _newest(folder: Path) -> str:
    """Name the state of training, or the stage, that was written last."""
    steps = [path for path in folder.glob("*-state/[0-9]*") if path.is_dir()]
    files = [*steps, *folder.glob("stage-*.json")]
    last = max(files, key=lambda path: path.stat().st_mtime, default=None)
    return "nothing yet" if last is None else str(last.relative_to(folder))


def _artifacts(folder: Path) -> dict[str, str | None]:
    """Return the digest of each artifact."""
    return {path.name: path_digest(path) for path in sorted(folder.glob("artifacts/*"))}


if __name__ == "__main__":
    Command("benchmarks.kills", __doc__, main, Config)()
