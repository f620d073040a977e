"""Folders of images as people have them: what cannot be read is counted, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.compress.data import load
from experiments.compress.images import folder_of_images
from experiments.compress.settings import Config


def write(file: Path, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size[::-1], *{"L": (), "RGBA": (4,), "RGB": (3,)}[mode])
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    Image.fromarray(pixels).save(file, format="JPEG" if file.suffix == ".jpg" else "PNG")


def test_odd_images_are_made_alike_or_skipped_with_a_count(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.PNG"):
        write(tmp_path / "cat" / name)
    write(tmp_path / "dog" / "grey.png", "L")
    write(tmp_path / "dog" / "clear.png", "RGBA", (30, 20))
    write(tmp_path / "dog" / "dot.png", size=(1, 1))
    (tmp_path / "dog" / "broken.png").write_bytes(b"no image")
    whole = (tmp_path / "cat" / "a.png").read_bytes()
    (tmp_path / "dog" / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog" / "misnamed.jpeg").write_bytes(whole)
    (tmp_path / "dog" / "notes.txt").write_text("not ours")
    (tmp_path / "fox").mkdir()
    arrays, test, notes = folder_of_images(tmp_path, None)
    assert test is None and arrays["image"].shape == (6, 10, 10, 3)
    assert arrays["label"].tolist() == [0, 0, 0, 1, 1, 1]
    said = "\n".join(notes)
    assert "3 of 9 files skipped" in said and "dot.png: 1 x 1 pixels" in said
    assert "1 images lost their transparency" in said and "1 images of mode" not in said
    assert "1 files are called otherwise" in said
    assert "1 classes have no images, but keep their numbers: fox" in said


def test_splits_lie_apart_and_grey_ones_have_one_channel(tmp_path: Path) -> None:
    for split, count in {"train": 3, "test": 2}.items():
        for number in range(count):
            for name in ("cat", "dog"):
                write(tmp_path / split / name / f"{number}.png", "L")
    train, test, _ = folder_of_images(tmp_path, 8)
    assert test is not None
    assert train["image"].shape == (6, 8, 8, 1) and test["image"].shape == (4, 8, 8, 1)


def test_a_few_images_are_of_all_classes(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number in range(40):
            write(tmp_path / split / ("cat" if number < 20 else "dog") / f"{number}.png", "L")
    few = load(Config(data=str(tmp_path), train_images=12, test_images=12), None)
    for part in (few.train, few.test):
        assert len(part["image"]) == 12 and set(part["label"].tolist()) == {0, 1}


def test_classes_go_by_their_list(tmp_path: Path) -> None:
    write(tmp_path / "dog" / "a.png")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert folder_of_images(tmp_path, None).train["label"].tolist() == [1]
    (tmp_path / "classes.txt").write_text("cat\nfox\n")
    with pytest.raises(ValueError, match=r"lacks \['dog'\]"):
        folder_of_images(tmp_path, None)


def test_folders_without_classes_or_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    with pytest.raises(ValueError, match="one folder for each class"):
        folder_of_images(tmp_path, None)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"of 2 in .* 0 could be read"):
        folder_of_images(tmp_path, None)
