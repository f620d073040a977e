"""Stages: the steps of a long experiment, each done once and timed, whoever is interrupted when.

A stage leaves a JSON file of what it found beside the files it made, of which it keeps digests. Run
again with the same settings and code, the experiment skips every stage that has one; what a later
stage reads is then what the earlier one left, or an error.

Several processes go through the stages together, in one folder that all see: the first alone holds
it, writes, and says what is done; before a stage all compare settings and what earlier stages left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from experiments.common.environment import code_digest
from experiments.common.stage_files import differences, path_digest, read_stage
from experiments.common.stage_folder import claimed
from experiments.common.timing import spent_with
from jaxcompress.annotations import Array, Json
from jaxcompress.files import atomic_file, write_json
from jaxcompress.processes import agree, by_first, check_shared, is_first, together

__all__ = ["Stages"]

RESERVE = 1 << 16


@dataclasses.dataclass(eq=False)
class Stages:
    """The stages of one experiment in one folder, which is this run's until `close`.

    Attributes:
        workdir: where the files of the stages lie.
        settings: of the experiment, as JSON can hold; other settings need another folder.
        console: where progress is shown.

    Raises:
        BlockingIOError: if another run holds the folder; it is named.
        RuntimeError: in all other processes, if the first raises one of these.
        ValueError: if the folder holds stages of other settings or other code, each difference is
            named, or is damaged, or `settings` are no JSON.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Stages(folder, {"epochs": 2}, Console(quiet=True)) as stages:
        ...     stages.run("count", lambda: {"images": 8})["images"]
        8
    """

    workdir: Path
    settings: dict[str, Json]
    console: Console
    _release: Callable[[], object] = dataclasses.field(init=False, repr=False)
    _settings: dict[str, Json] = dataclasses.field(init=False, repr=False)
    _left: dict[str, str] = dataclasses.field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Claim the folder for these settings."""
        self._settings = _as_json(self.settings)
        agree("the settings of an experiment", self._settings)
        with contextlib.ExitStack() as stack:
            by_first("claiming the folder of an experiment", lambda: self._claim(stack))
            check_shared(self.workdir)
            # Whoever drops the stages without closing them lets go of the folder as well.
            self._release = weakref.finalize(self, stack.pop_all().close)

    def _claim(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(claimed(self.workdir, self._settings))

    def __enter__(self) -> Stages:
        """Hold the folder until the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the folder."""
        self.close()

    def close(self) -> None:
        """Let go of the folder, so that another run may have it."""
        self._release()

    def done(self, name: str) -> bool:
        """Whether a stage has finished.

        Raises:
            ValueError: if its file is damaged.
        """
        known = by_first(f"stage {name}", lambda: read_stage(self._file(name)))
        return bool(known.get("done"))

    def _file(self, name: str) -> Path:
        if not name or "/" in name or os.sep in name:
            raise ValueError(
                f"a stage's name is part of a file's name, but {name!r} is empty or holds a slash; "
                "choose another"
            )
        return self.workdir / f"stage-{name}.json"

    def run(
        self, name: str, work: Callable[[], dict[str, Any]], files: Sequence[str] = ()
    ) -> dict[str, Json]:
        """Do a stage, or return what it found when it was done.

        Args:
            name: of the stage and its file.
            work: does it and returns facts for the report, as JSON can hold.
            files: names, in `workdir`, of the files and folders it makes and later stages read.

        Returns:
            The facts; the digests of `files`, and of those of the stages before as `read`; and of
            all attempts that were not killed `seconds`, `device_hours` and, for machines that
            others share, `cpu_seconds` of this process.

        Raises:
            ValueError: if the stage's file is damaged, the facts are no JSON, or a file of this
                stage or one before is not what it was when the stage finished.
            OSError: if the disk is full, before the work starts; its files could not be written.
        """
        about = f"stage {name}"
        if jax.process_count() > 1:
            seen = {file: path_digest(self.workdir / file) for file in self._left}
            agree(about, {**self._settings, **seen})
        known = by_first(about, lambda: self._begin(name, files))
        if known.get("done"):
            self._left |= known["files"]
            self.console.print(f"[bold]{name}[/bold]: done before, {known['seconds']:.0f} s")
            return dict(known)
        self.console.print(f"[bold]{name}[/bold]")
        spent = spent_with(known)
        try:
            result = together(about, work)
            facts = by_first(about, lambda: self._facts(name, result, files))
        except BaseException as error:
            if is_first():
                self._keep_time(name, spent(), error)
            raise
        facts = by_first(about, lambda: self._finish(name, {**facts, **spent()}))
        self._left |= facts["files"]
        return facts

    def _begin(self, name: str, files: Sequence[str]) -> dict[str, Json]:
        """Return what is known of a stage, checked if it is done; make room for it if not."""
        known = read_stage(self._file(name))
        if known.get("done"):
            self._check(name, known, files)
        else:
            self._reserve(name)
        return known

    def _facts(self, name: str, result: dict[str, Array], files: Sequence[str]) -> dict[str, Json]:
        try:
            facts = json.loads(json.dumps(result, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"what a stage finds is JSON without NaN, but stage {name} found {result} ({error}"
                "); return numbers, strings, lists and dicts"
            ) from error
        made = {file: path_digest(self.workdir / file) for file in files}
        missing = sorted(file for file, digest in made.items() if digest is None)
        if missing:
            raise ValueError(
                f"a stage makes the files it is asked for, but stage {name} left no {missing}"
            )
        return {**facts, "done": True, "files": made, "read": dict(self._left)}

    def _check(self, name: str, known: dict[str, Array], files: Sequence[str]) -> None:
        """Refuse a finished stage whose files, or those it was made from, are others now."""
        now = {file: path_digest(self.workdir / file) for file in {*files, *known["files"]}}
        earlier = {file: d for file, d in known["read"].items() if file in self._left}
        offences = differences(known["files"], now)
        offences += differences(earlier, {file: self._left[file] for file in earlier})
        if offences:
            raise ValueError(
                "what a finished stage left or read stays as it was, but in "
                f"{self.workdir} {'; '.join(offences)} since stage {name}; put them back, or "
                f"delete {self._file(name).name} and the files of all stages after it to do them "
                "again"
            )

    def _reserve(self, name: str) -> None:
        """Take the room that the stage's file will need, before the work starts."""
        try:
            # Random, because some file systems store zeros in no room at all.
            with atomic_file(self._reserved(name)) as stream:
                stream.write(os.urandom(RESERVE))
        except OSError as error:
            raise OSError(
                error.errno,
                f"a stage needs room for what it finds, but writing to {self.workdir} failed "
                f"({error.strerror}); make room and run again",
            ) from error

    def _reserved(self, name: str) -> Path:
        return self.workdir / f"stage-{name}.reserve"

    def _finish(self, name: str, facts: dict[str, Array]) -> dict[str, Json]:
        try:
            self._reserved(name).unlink(missing_ok=True)
            write_json(self._file(name), facts)
        except OSError as error:
            raise OSError(
                error.errno,
                f"a stage is done when its file is written, but writing {self._file(name)} failed "
                f"({error.strerror}); make room and run again. It found {facts}",
            ) from error
        return facts

    def _keep_time(self, name: str, times: dict[str, float], error: BaseException) -> None:
        """Write how long a failed attempt took; the error itself must stay the one that is seen."""
        try:
            self._reserved(name).unlink(missing_ok=True)
            write_json(self._file(name), times)
        except OSError as second:
            error.add_note(f"the time that stage {name} took could not be written: {second}")


def _as_json(settings: dict[str, Json]) -> dict[str, Json]:
    """Return the settings as their file holds them, with the digest of the code."""
    try:
        return json.loads(json.dumps({**settings, "code": code_digest()}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"settings of an experiment are JSON without NaN, but {settings} are not ({error})"
        ) from error
