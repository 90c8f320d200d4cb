"""What thresholds cost: counted by brute force; suggested values do what is said of them."""

import numpy as np
import polars as pl
import pytest

from character_curator.analysis.face_validation import FaceThresholds
from character_curator.analysis.threshold_costs import TARGETS, costs_of, threshold_costs
from character_curator.imageset import ImageSet
from character_curator.rejection_reasons import Rejection

LIMITS = FaceThresholds(confidence=0.85, share=0.01, side=40.0, identity=0.4)
QUALITY = 0.74


@pytest.fixture
def images():
    rng = np.random.default_rng(3)
    count = 180
    side = rng.uniform(20, 200, count)
    table = pl.DataFrame(
        {
            "face_count": pl.Series([0] * 10 + [2] * 5 + [1] * (count - 15), dtype=pl.Int32),
            "quality": rng.uniform(0.3, 1, count),
            "face_confidence": rng.uniform(0.6, 1, count),
            "face_share": rng.uniform(0, 0.1, count),
            "face_box": [[0.0, 0.0, s, s + 10] for s in side],
            "identity_similarity": [None if i % 9 == 0 else x
                                    for i, x in enumerate(rng.uniform(0, 1, count))],
        }
    )  # fmt: skip
    found = ImageSet.from_rows([{"path": f"{i}.png"} for i in range(count)], "/nowhere")
    found = ImageSet(pl.concat([found.table, table], how="horizontal"), found.root)
    found = found.reject(found.table["face_count"] == 0, Rejection.NO_FACE)
    return found.reject(~pl.Series(passing(found.table, thresholds())), Rejection.LOW_QUALITY)


def thresholds(**changed):
    return {
        "--min-quality": QUALITY, "--min-confidence": 0.85, "--min-share": 0.01,
        "--min-side": 40.0, "--min-identity": 0.4, **changed,
    }  # fmt: skip


def each(table, least):
    identity = table["identity_similarity"].fill_null(9.0).to_numpy()
    side = np.array([min(b[2] - b[0], b[3] - b[1]) for b in table["face_box"]])
    return {
        "--min-quality": table["quality"].to_numpy() >= least["--min-quality"],
        "--min-confidence": table["face_confidence"].to_numpy() >= least["--min-confidence"],
        "--min-share": table["face_share"].to_numpy() >= least["--min-share"],
        "--min-side": side >= least["--min-side"],
        "--min-identity": identity >= least["--min-identity"],
    }


def passing(table, least):
    one = (table["face_count"] == 1).to_numpy()
    return one & np.all(list(each(table, least).values()), axis=0)


def test_costs_are_counted(images):
    costs = threshold_costs(images, LIMITS, QUALITY)
    one = (images.table["face_count"] == 1).to_numpy()
    passes = each(images.table, thresholds())
    assert (costs.images, costs.measured) == (180, 165)
    assert costs.passing == passing(images.table, thresholds()).sum()
    assert costs.others == {"no_face": 10}
    assert [cost.option for cost in costs.costs] == list(passes)
    for cost in costs.costs:
        rest = np.all([p for name, p in passes.items() if name != cost.option], axis=0)
        assert cost.fails == (one & ~passes[cost.option]).sum()
        assert cost.fails_alone == (one & ~passes[cost.option] & rest).sum()


def test_every_suggested_value_lets_so_many_pass(images):
    costs = threshold_costs(images, LIMITS, QUALITY)
    assert 0 < costs.passing < 100
    suggested = [
        (count, {cost.option: value}) for cost in costs.costs for count, value in cost.lets.items()
    ]
    assert {count for count, _ in suggested} & set(TARGETS)
    assert set(costs.together) == {count for count in TARGETS if count > costs.passing}
    for count, values in [*suggested, *costs.together.items()]:
        assert passing(images.table, thresholds(**values)).sum() >= count
        assert all(values[option] < thresholds()[option] for option in values)
    # As evenly as possible: no more is given up than the nearest of those images need.
    for count, values in costs.together.items():
        assert passing(images.table, thresholds(**values)).sum() <= 2.5 * count


def test_the_best_of_the_rejected_come_nearest(images):
    costs = threshold_costs(images, LIMITS, QUALITY)
    assert len(costs.best) == 10
    rejected = images.table["rejection"].is_not_null().to_numpy()
    assert rejected[list(costs.best)].all()
    short = [
        max(1 - min(row["quality"] / QUALITY, row["face_confidence"] / 0.85), 0)
        for row in images.table[list(costs.best)].iter_rows(named=True)
    ]
    assert max(short) < 0.35
    text = "\n".join(costs.sentences("options"))
    assert "minimum quality 0.74 (--min-quality)" in text
    assert "no face 10" in text
    assert "100 pass with: --min-" in text


def test_a_threshold_that_costs_nothing_has_no_line_of_its_own(images):
    lax = FaceThresholds(confidence=0.0, share=0.0, side=0.0, identity=0.5)
    nobody = images.with_columns(pl.lit(None, pl.Float64).alias("identity_similarity"))
    said = threshold_costs(nobody, lax, QUALITY).sentences()
    assert "nan" not in "\n".join(said)
    assert (
        "None of them is below minimum confidence 0, minimum share 0, minimum side 0, "
        "minimum identity 0.5." in said
    )
    assert sum(" below it, " in line for line in said) == 1


def test_nobody_at_all():
    empty = ImageSet.from_rows([{"path": "a.png"}], "/nowhere").with_columns(
        pl.lit(None, pl.Int32).alias("face_count"),
        *(pl.lit(None, pl.Float64).alias(n) for n in ("quality", "face_confidence", "face_share")),
        pl.lit(None, pl.List(pl.Float32)).alias("face_box"),
        pl.lit(None, pl.Float64).alias("identity_similarity"),
    )
    costs = threshold_costs(empty, LIMITS, QUALITY)
    assert (costs.measured, costs.passing, costs.best, costs.together) == (0, 0, (), {})
    assert costs.sentences()


def test_a_set_knows_the_thresholds_that_it_went_through(images):
    assert costs_of(images) is None
    after = images.limited(LIMITS.by_key).limited({"quality.minimum": QUALITY})
    assert costs_of(after) == threshold_costs(images, LIMITS, QUALITY)
    # A later stage moves its own threshold, and one without a reference has none of identity.
    free = after.limited({"faces.minimum_identity": None, "quality.minimum": 0.5}).accepted
    assert costs_of(free) == threshold_costs(
        images.accepted, FaceThresholds(confidence=0.85, share=0.01, side=40.0), 0.5
    )


def test_in_a_graph_thresholds_are_named_in_words(images):
    costs = threshold_costs(images, LIMITS, 0.99)
    said = "\n".join(costs.sentences("words"))
    assert "--" not in said
    assert "minimum quality 0.99: " in said
    assert "20 pass with: minimum quality of 0." in said
    assert "20 pass with: --min-quality 0." in "\n".join(costs.sentences("options"))


def test_in_a_project_thresholds_are_named_by_their_keys(images):
    said = "\n".join(threshold_costs(images, LIMITS, 0.99).sentences())
    assert "--" not in said
    assert "minimum quality 0.99 (quality.minimum): " in said
    assert "20 pass with: quality.minimum = 0." in said


def test_no_value_is_suggested_that_lets_other_people_in(images):
    below = images.table["identity_similarity"].fill_null(9.0) < 0.4
    free = images.with_columns(pl.lit(None, pl.String).alias("rejection"))
    other = free.reject(below, Rejection.IDENTITY_MISMATCH).with_columns(
        pl.lit("references").alias("identity_reference"), pl.lit("real").alias("kind")
    )
    strict = FaceThresholds(confidence=0.97, share=0.05, side=100.0, identity=0.4)
    costs = threshold_costs(other, strict, 0.9)
    assert costs.together
    assert not any("--min-identity" in values for values in costs.together.values())
    identity = costs.costs[-1]
    assert (identity.others_in, identity.lets) == (True, {})
    assert "a lower one takes other people" in "\n".join(costs.sentences())
    for count, values in costs.together.items():
        looser = thresholds(**{
            "--min-quality": 0.9, "--min-confidence": 0.97, "--min-share": 0.05,
            "--min-side": 100.0, **values,
        })  # fmt: skip
        assert passing(other.table, looser).sum() >= count
    # Of generated images, which are to become the person, a lower one may do.
    made = other.with_columns(pl.lit("scenario").alias("kind"))
    assert any(
        "--min-identity" in values
        for values in threshold_costs(made, strict, 0.9).together.values()
    )
