"""Data sets: shapes, a fixed split, exact statistics, shuffles that are functions of the epoch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.common import data
from experiments.common.data import Normalize, epoch_indices, load, preprocess

KEY = jax.random.key(0)


def test_digits_are_split_in_proportion() -> None:
    digits = load("digits")
    assert digits.train_images.shape == (1437, 8, 8, 1)
    assert digits.test_images.shape == (360, 8, 8, 1)
    assert digits.train_images.dtype == np.uint8 and digits.train_labels.dtype == np.int32
    assert digits.train_images.max() == 255
    shares = [
        np.bincount(labels, minlength=10) / len(labels)
        for labels in (digits.train_labels, digits.test_labels)
    ]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.003)
    np.testing.assert_array_equal(load("digits").test_images, digits.test_images)


def test_preprocess_standardises_the_training_images() -> None:
    digits = load("digits")
    normalized = np.asarray(preprocess(digits)(digits.train_images))
    assert abs(normalized.mean()) < 1e-4 and abs(normalized.std() - 1) < 1e-4
    assert preprocess(digits) == Normalize(digits.mean, digits.std)
    assert hash(preprocess(digits)) == hash(preprocess(digits))


def test_an_epoch_takes_each_example_at_most_once() -> None:
    shuffle = jax.jit(epoch_indices, static_argnums=(2, 3))
    first = np.asarray(shuffle(KEY, 0, 50, 8))
    assert first.shape == (6, 8) and len(set(first.ravel())) == 48
    np.testing.assert_array_equal(first, epoch_indices(KEY, 0, 50, 8))
    assert (first != np.asarray(shuffle(KEY, 1, 50, 8))).any()
    with pytest.raises(ValueError, match="5 examples are fewer than batch_size=8"):
        epoch_indices(KEY, 0, 5, 8)


def test_absent_data_says_how_to_prepare_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="tfds build cifar10 --file_format=array_record"):
        load("cifar10", tmp_path)


def few_of_cifar10(shared: Path, folder: Path) -> Path:
    """Prepare a data set of the first 40 and 20 records of CIFAR-10; return its folder."""
    records = pytest.importorskip("array_record.python.array_record_module")
    whole, few = shared / "tensorflow_datasets/cifar10/3.0.2", folder / "cifar10/3.0.2"
    few.mkdir(parents=True)
    for name in ("features.json", "label.labels.txt"):
        shutil.copy(whole / name, few)
    info = json.loads((whole / "dataset_info.json").read_text())
    for split, count in zip(info["splits"], (40, 20), strict=True):
        shard = f"cifar10-{split['name']}.array_record-00000-of-"
        reader = records.ArrayRecordReader(str(whole / f"{shard}00004"))
        writer = records.ArrayRecordWriter(str(few / f"{shard}00001"), "group_size:1")
        for record in reader.read(list(range(count))):
            writer.write(record)
        writer.close()
        split["shardLengths"] = [str(count)]
    (few / "dataset_info.json").write_text(json.dumps(info))
    return folder


READ = """
import sys
from experiments.common.data import load
for _ in range(2):
    data = load("cifar10", sys.argv[1])
    print(data.train_images.shape, data.test_images.shape, int(data.train_images[7].sum()))
print(data.num_classes, "tensorflow" in sys.modules)
"""


def test_cifar10_is_read_without_tensorflow_and_cached(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = [sys.executable, "-c", READ, str(few_of_cifar10(shared, tmp_path / "prepared"))]
    root = Path(__file__).parents[3]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    decoded, cached, last = result.stdout.splitlines()
    assert decoded == cached and decoded.startswith("(40, 32, 32, 3) (20, 32, 32, 3)")
    assert last == "10 False"
    (cache,) = (tmp_path / "jaxcompress/data").iterdir()
    assert re.fullmatch(r"cifar10-3\.0\.2-[0-9a-f]{12}\.npz", cache.name)


def test_prepared_folders_of_one_version_have_caches_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = []
    for value in (1, 2):
        folder = tmp_path / str(value) / "toy" / "1.0.0"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text(f'{{"description": "{value}"}}')
        images, labels = np.full((3, 2, 2, 1), value, np.uint8), np.zeros(3, np.int32)
        arrays = data.Arrays(images, labels, images, labels)
        monkeypatch.setattr(data, "decode", lambda _, decoded=arrays: (decoded, 1))
        loaded.append(load("toy", tmp_path / str(value)))
    assert [int(dataset.train_images[0, 0, 0, 0]) for dataset in loaded] == [1, 2]
    monkeypatch.setattr(data, "decode", lambda _: pytest.fail("this was decoded before"))
    again = load("toy", tmp_path / "1")
    assert data.identity(again) == data.identity(loaded[0]) != data.identity(loaded[1])
    for cache in (tmp_path / "cache/jaxcompress/data").iterdir():
        cache.write_bytes(cache.read_bytes()[:-9])
    with pytest.raises(ValueError, match="npz is damaged .*delete it to make it anew"):
        load("toy", tmp_path / "1")
