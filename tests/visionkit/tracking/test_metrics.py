"""Metrics of tracks equal the field's two tools, on random tracks and where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.visionkit.tracking.references import by_motmetrics, by_trackeval, random_tracks, rows
from visionkit.errors import DataError
from visionkit.tracking.metrics import TrackPair, combine, measure
from visionkit.tracking.rows import TrackRows

NOTHING = rows([], "nothing")
TWO = rows([(1, 5, 0, 0, 10, 10), (2, 5, 1, 0, 11, 10), (4, 5, 2, 0, 12, 10), (4, 6, 50, 50, 60, 60)], "two")


def assert_equal(ours: dict[str, float], theirs: dict[str, float]) -> None:
    shared = ours.keys() & theirs.keys()
    assert {"mota", "motp", "idf1", "idp", "idr", "fp", "fn", "ids", "fm", "mt", "pt", "ml"} <= shared
    for name in shared:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9, nan_ok=True), name


def check(truth: TrackRows, predicted: TrackRows) -> None:
    pair = TrackPair.of(truth, predicted)
    assert_equal(measure(pair).values(), by_trackeval(pair))
    assert_equal(measure(pair, "motmetrics").values(), by_motmetrics(truth, predicted))


@pytest.mark.parametrize("seed", range(20))
def test_equal_to_both_tools(seed: int) -> None:
    check(*random_tracks(seed))


@pytest.mark.slow
def test_equal_to_both_tools_on_a_thousand() -> None:
    for seed in range(20, 1020):
        check(*random_tracks(seed))


@pytest.mark.parametrize(("truth", "predicted"), [(TWO, NOTHING), (NOTHING, TWO), (NOTHING, NOTHING), (TWO, TWO)])
def test_nothing_is_what_the_tools_define(truth: TrackRows, predicted: TrackRows) -> None:
    check(truth, predicted)


def test_by_hand() -> None:
    """One object in four frames: matched to track 1 twice, then missed, then matched to track 2."""
    truth = rows([(t, 1, 0, 0, 10, 10) for t in (1, 2, 3, 4)], "truth")
    found = rows([(1, 1, 0, 0, 10, 10), (2, 1, 0, 0, 10, 10), (3, 1, 50, 0, 60, 10), (4, 2, 0, 0, 10, 5)], "found")
    values = measure(TrackPair.of(truth, found)).values()
    assert (values["fp"], values["fn"], values["ids"], values["fm"]) == (1, 1, 1, 1)
    assert values["mota"] == 1 - 3 / 4
    assert values["motp"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert values["idf1"] == pytest.approx(2 * 2 / (4 + 4))
    assert (values["mt"], values["pt"], values["ml"]) == (0, 1, 0)


# What trackeval gave for `random_tracks` of two seeds.
BY_TRACKEVAL = {
    5: {
        "hota": 0.30261268378666467,
        "deta": 0.36982951873715636,
        "assa": 0.2491426978585963,
        "loca": 0.761256728657505,
        "mota": 0.37037037037037035,
        "idf1": 0.46689895470383275,
    },
    8: {
        "hota": 0.29536768961583953,
        "deta": 0.42229844620714,
        "assa": 0.20851678336515256,
        "loca": 0.8013955447919948,
        "mota": 0.2692307692307692,
        "idf1": 0.3333333333333333,
    },
}


@pytest.mark.parametrize("seed", BY_TRACKEVAL)
def test_numbers_of_trackeval(seed: int) -> None:
    values = measure(TrackPair.of(*random_tracks(seed))).values()
    assert {name: values[name] for name in BY_TRACKEVAL[seed]} == pytest.approx(BY_TRACKEVAL[seed], abs=1e-9)


@pytest.mark.parametrize("where", ["truth", "predicted"])
def test_a_duplicate_id_is_an_error(where: str) -> None:
    twice = rows([(3, 4, 0, 0, 10, 10), (3, 5, 0, 0, 10, 10), (3, 4, 30, 0, 40, 10)], "res.txt")
    given = (twice, TWO) if where == "truth" else (TWO, twice)
    with pytest.raises(DataError, match=r"res\.txt: duplicate id 4 in frame 3"):
        TrackPair.of(*given)


def test_sequences_are_added_up() -> None:
    """Two sequences together equal one in which the second follows the first with other ids."""
    parts = [random_tracks(seed) for seed in (3, 4)]
    together = combine([measure(TrackPair.of(*part)) for part in parts]).values()
    joined = [
        TrackRows(
            np.concatenate([parts[0][k].frames, parts[1][k].frames + 100]),
            np.concatenate([parts[0][k].ids, parts[1][k].ids + 10_000]),
            np.concatenate([parts[0][k].boxes, parts[1][k].boxes]),
        )
        for k in (0, 1)
    ]
    assert together == pytest.approx(measure(TrackPair.of(*joined)).values(), abs=1e-9)
