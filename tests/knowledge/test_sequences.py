"""Sequences are padded as they are, or refused by example; labels are what follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jaxcompress.knowledge import next_tokens, pad_sequences


def test_sequences_are_padded() -> None:
    padded = pad_sequences([[5, 6, 7], np.array([], int), [0]], vocabulary=8, length=4)
    assert padded["tokens"].tolist() == [[5, 6, 7, 0], [0] * 4, [0] * 4]
    assert padded["mask"].tolist() == [[True] * 3 + [False], [False] * 4, [True] + [False] * 3]
    assert padded["tokens"].dtype == np.int32 and padded["mask"].dtype == bool
    assert pad_sequences([[1], []], vocabulary=2)["tokens"].tolist() == [[1], [0]]


REFUSED: list[tuple[list[Any], str]] = [
    ([[1, 2], [3, 8]], r"from 0 to 7, .*1 examples are not: {1: \[3, 8\]}"),
    ([[-1]], r"{0: \[-1\]}"),
    ([[0.5, 1.0]], r"{0: 'float64\[2\]'}"),
    ([[[1, 2]]], r"{0: 'int64\[1, 2\]'}"),
    ([[1] * 5], r"0 to 4 tokens.*examples \[0\] .*have \[5\]"),
    ([], "at least one sequence"),
]


@pytest.mark.parametrize(("sequences", "words"), REFUSED)
def test_other_sequences_are_refused(sequences: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pad_sequences(sequences, vocabulary=8, length=4)


def test_labels_are_the_tokens_that_follow() -> None:
    tokens = np.array([[5, 6, 7, 9], [3, 9, 9, 9], [9, 9, 9, 9]])
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    assert next_tokens(tokens, mask).tolist() == [[6, 7, -1, -1], [-1] * 4, [-1] * 4]
    assert next_tokens(tokens[:1]).tolist() == [[6, 7, 9, -1]]
    with pytest.raises(ValueError, match=r"\[3, 4\] and the mask \[3, 2\]"):
        next_tokens(tokens, mask[:, :2])
