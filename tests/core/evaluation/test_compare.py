"""Checkpoints side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from character_curator.evaluation.compare import (
    best_by_evaluation,
    best_by_validation,
    figures_table,
)
from character_curator.evaluation.result import Evaluation
from character_curator.evaluation.summary import Measured, Summary, judged, summarise
from character_curator.evaluation.threshold import IdentityThreshold


def figures(similar, of=4):
    rows = pl.DataFrame(
        {
            "one_face": [True] * of,
            "identity_similarity": [0.9] * similar + [0.1] * (of - similar),
            "adherence": [0.3] * of,
            "artefact": [False] * of,
            "nearest_distance": [0.3] * of,
            "quality": [None] * of,
        }
    )
    return summarise(Measured(judged(rows, 0.5, 0.2), np.eye(of, dtype=np.float32)))


def evaluation(name, good, leaking=0, loss=None):
    summary = Summary(figures(good), figures(leaking), figures(1), figures(0))
    metadata = {} if loss is None else {"character_curator.validation_loss": str(loss)}
    threshold = IdentityThreshold(0.5, "given", "as given")
    return Evaluation(Path(f"{name}.safetensors"), summary, threshold, (), pl.DataFrame(),
                      Path(), metadata)  # fmt: skip


def test_the_best_by_evaluation_need_not_be_the_best_by_validation():
    early, late, loud = (
        evaluation("early", 3, loss=0.10),
        evaluation("late", 4, loss=0.11),
        evaluation("loud", 4, leaking=2, loss=0.2),
    )
    every = [loud, early, late]
    assert best_by_evaluation(every) is late
    assert best_by_validation(every) is early
    assert best_by_validation([evaluation("a", 1)]) is None
    assert best_by_evaluation([evaluation("x", 4), late]).name == "x"


def test_the_table_has_a_row_a_checkpoint_and_one_of_the_base_model():
    table = figures_table([evaluation("a", 3, 1, loss=0.1), evaluation("b", 4)])
    assert table["name"].to_list() == ["a", "b", "base model"]
    assert table["consistency"].to_list() == [0.75, 1.0, 0.25]
    assert table["adherence_loss"].to_list() == [0.0, 0.0, None]
    assert table["leakage"].to_list() == [0.25, 0.0, 0.0]
    assert table["validation_loss"].to_list() == [0.1, None, None]
    assert table["score"].to_list() == [pytest.approx(0.75 * 0.75), 1.0, None]
    assert table["quality"].null_count() == 3


def test_the_sentence_for_people_tells_no_validation_loss():
    told = evaluation("told", 4)
    comment = {"ss_training_comment": "epoch 7 of 20, validation loss 0.0812, converged at epoch 5"}
    told = replace(told, metadata=comment)
    assert best_by_validation([told]) is None
    assert figures_table([told])["validation_loss"].to_list() == [None, None]
