"""The folder of an experiment's stages: held by one run, for one choice of settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from experiments.common.stage_files import differences, read_object
from jaxcompress.annotations import Json
from jaxcompress.files import locked, write_json

__all__ = ["claimed"]


@contextlib.contextmanager
def claimed(workdir: Path, settings: dict[str, Json]) -> Iterator[None]:
    """Hold a folder, made where there is none, for these settings.

    Args:
        workdir: the folder.
        settings: as their file holds them.

    Raises:
        BlockingIOError: if another run holds the folder; it is named.
        ValueError: if the folder has other settings, each difference is named, or is damaged.

    Example:
        >>> import tempfile
        >>> with claimed(Path(tempfile.mkdtemp()), {"epochs": 2}):
        ...     pass
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        _remove_partial(workdir)
        _check_settings(workdir, settings)
        yield


def _remove_partial(workdir: Path) -> None:
    """Remove what a killed run, the folder's owner before this one, was writing."""
    for pattern in (".stage-*.partial", ".settings.json.*.partial", "stage-*.reserve", ".shared.*"):
        for file in workdir.glob(pattern):
            file.unlink(missing_ok=True)


def _check_settings(workdir: Path, content: dict[str, Json]) -> None:
    """Write the settings where there are none; refuse the folder where there are others."""
    file = workdir / "settings.json"
    if not file.exists():
        return write_json(file, content)
    remedy = "choose another workdir"
    offences = differences(read_object(file, remedy), content)
    if offences:
        raise ValueError(
            f"a folder holds the stages of one experiment, but {workdir} was made with other "
            f"settings ({'; '.join(offences)}); {remedy}"
        )
