"""The laws of putting forecasts together, on arrays."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore import ensemble
from forecastcore.ensemble import ROUNDS, Blend, Evidence, merge
from forecastcore.guard import Answer

METHODS = ("mean", "median", "greedy", "per-series")


def evidence(seed=0, *, members=3, folds=3, series=4, horizon=5, spread=None, power=1):
    """Members that are right but for noise, of a size of their own in each series."""
    rng = np.random.default_rng(seed)
    fold, which, _ = (a.ravel() for a in np.meshgrid(*map(np.arange, (folds, series, horizon)), indexing="ij"))
    y = rng.normal(100, 10, len(fold))
    size = np.asarray(spread if spread is not None else rng.uniform(0.5, 5, (members, series)))
    forecasts = y + rng.normal(size=(members, len(y))) * size[:, which]
    scale = rng.uniform(1, 3, folds * series)
    ids = [f"s{n}" for n in range(series)]
    group = fold * series + which
    return Evidence(y=y, forecasts=forecasts, fold=fold, series=which, ids=ids, group=group, scale=scale, power=power)


def some(rows, low, high):
    """The rows of some series, these numbered anew."""
    count, hit = len(rows.ids), (rows.series >= low) & (rows.series < high)
    part, folds = rows.take(hit), len(rows.scale) // count
    return replace(
        part,
        series=part.series - low,
        ids=rows.ids[low:high],
        group=part.fold * (high - low) + part.series - low,
        scale=rows.scale.reshape(folds, count)[:, low:high].ravel(),
    )


def cuts(rows):
    """In two parts, where there are two series."""
    half = len(rows.ids) // 2
    return [(0, half), (half, len(rows.ids))] if half else [(0, 1)]


def learn(method, rows):
    """What is learned from all rows at once, which is what is learned from them some at a time."""
    blend = ensemble.learn(method, lambda: iter([rows]))
    parts = ensemble.learn(method, lambda: (some(rows, *cut) for cut in cuts(rows)))
    np.testing.assert_allclose(parts.weights, blend.weights, rtol=1e-9)
    assert parts.choices == blend.choices
    return blend


def out_of_fold(method, rows, values):
    """The same for rows that are put together."""
    (whole,), blend = ensemble.out_of_fold(method, lambda: iter([rows]), lambda: iter([values]))
    hits = [(rows.series >= low) & (rows.series < high) for low, high in cuts(rows)]
    parts, _ = ensemble.out_of_fold(
        method, lambda: (some(rows, *cut) for cut in cuts(rows)), lambda: (values[:, hit] for hit in hits)
    )
    for hit, part in zip(hits, parts, strict=True):
        np.testing.assert_allclose(part, whole[hit], rtol=1e-9)
    return whole, blend


def names(rows):
    return [rows.ids[n] for n in rows.series]


def points(forecasts):
    return np.asarray(forecasts, dtype=float)[:, :, None]


def loss(rows, forecast):
    """Mean scaled error, written out: of each group the mean (or root mean square), over its scale."""
    means = []
    for group, scale in enumerate(rows.scale):
        error = np.abs(forecast - rows.y)[rows.group == group]
        means.append((error**rows.power).mean() ** (1 / rows.power) / scale)
    return np.mean(means)


several = st.integers(0, 10_000)


@settings(max_examples=30, deadline=None)
@given(several, st.sampled_from(METHODS), st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 2]))
def test_weights_are_shares_and_a_combination_lies_between_its_members(seed, method, members, folds, power):
    rows = evidence(seed, members=members, folds=folds, power=power)
    combined, blend = out_of_fold(method, rows, points(rows.forecasts))
    for weights in (blend.weights, blend.shares):
        assert weights.sum() == pytest.approx(1)
        assert (weights >= 0).all()
    assert (combined[:, 0] >= rows.forecasts.min(axis=0) - 1e-9).all()
    assert (combined[:, 0] <= rows.forecasts.max(axis=0) + 1e-9).all()


@settings(max_examples=20, deadline=None)
@given(several, st.sampled_from(METHODS))
def test_an_ensemble_of_one_is_its_member_with_its_quantiles(seed, method):
    rows = evidence(seed, members=1)
    values = np.random.default_rng(seed).normal(size=(1, len(rows.y), 4))
    values[0, ::3, 1:] = np.nan
    values[0, ::4] = np.nan
    combined, blend = out_of_fold(method, rows, values)
    np.testing.assert_array_equal(combined, values[0])
    assert blend.weights.tolist() == [1.0]


@settings(max_examples=20, deadline=None)
@given(several, st.sampled_from(["mean", "median"]), st.permutations(range(4)))
def test_mean_and_median_are_those_of_the_members_in_any_order(seed, method, order):
    rows = evidence(seed, members=4)
    values = points(rows.forecasts)
    combined, _ = out_of_fold(method, rows, values)
    expected = getattr(np, method)(rows.forecasts, axis=0)
    np.testing.assert_allclose(combined[:, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(learn(method, rows).combine(names(rows), values[order])[:, 0], expected, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(several, st.integers(1, 6), st.sampled_from([1, 2]))
def test_greedy_is_never_worse_than_the_best_member_on_the_rows_it_learned_from(seed, members, power):
    rows = evidence(seed, members=members, power=power)
    blend = learn("greedy", rows)
    combined = blend.combine(names(rows), points(rows.forecasts))[:, 0]
    assert loss(rows, combined) <= min(loss(rows, one) for one in rows.forecasts) + 1e-12
    draws = np.arange(1, ROUNDS + 1)[:, None]
    assert (np.abs(draws * blend.weights - np.round(draws * blend.weights)).max(axis=1) < 1e-9).any()


def test_greedy_finds_that_two_wrongs_make_a_right():
    rows = evidence(members=2)
    up, down = rows.y + 3, rows.y - 3
    rows = Evidence(**{**vars(rows), "forecasts": np.stack([up, down, rows.y + 2.5])})
    weights = learn("greedy", rows).weights
    assert loss(rows, (weights[:, None] * rows.forecasts).sum(axis=0)) < 0.1
    assert weights[1] > 0.4


def test_greedy_weights_are_those_of_exhaustive_search_where_two_members_share():
    rows = evidence(5, members=2, series=30, folds=4)
    grid = np.arange(26) / 25
    losses = [loss(rows, w * rows.forecasts[0] + (1 - w) * rows.forecasts[1]) for w in grid]
    weights = learn("greedy", rows).weights
    assert weights[0] == pytest.approx(grid[int(np.argmin(losses))], abs=0.05)


def test_each_series_is_served_by_the_member_that_was_best_on_it():
    spread = np.ones((2, 6)) * [[1.0], [4.0]]
    spread[:, 5] = [4.0, 0.2]
    rows = evidence(spread=spread, members=2, series=6, folds=6, horizon=40)
    blend = learn("per-series", rows)
    assert blend.choices == {"s0": 0, "s1": 0, "s2": 0, "s3": 0, "s4": 0, "s5": 1}
    assert blend.weights.tolist() == [1, 0]
    new = blend.combine(["s5", "never seen"], points([[1.0, 1.0], [2.0, 2.0]]))
    assert new[:, 0].tolist() == [2.0, 1.0]


def test_thin_evidence_and_ties_go_to_the_overall_best():
    rows = evidence(spread=np.ones((2, 40)) * [[1.0], [2.0]], members=2, series=40, folds=1, horizon=2)
    luck = np.mean([loss_of_series(rows, n, 1) < loss_of_series(rows, n, 0) for n in range(40)])
    served = np.mean(list(learn("per-series", rows).choices.values()))
    assert luck > 0.05
    assert served < luck / 2
    same = Evidence(**{**vars(rows), "forecasts": np.stack([rows.forecasts[0]] * 3)})
    assert set(learn("per-series", same).choices.values()) == {0}


def loss_of_series(rows, number, member):
    return np.abs(rows.forecasts[member] - rows.y)[rows.series == number].mean()


def test_a_series_without_evidence_gets_the_overall_best():
    rows = evidence(spread=np.ones((2, 3)) * [[4.0], [1.0]], members=2, series=3, horizon=40)
    y = np.where(rows.series == 2, np.nan, rows.y)
    blend = learn("per-series", Evidence(**{**vars(rows), "y": y}))
    assert blend.choices == {"s0": 1, "s1": 1}
    assert blend.combine(["s2"], points([[5.0], [6.0]]))[0, 0] == 6.0


@pytest.mark.parametrize("method", ["greedy", "per-series"])
def test_a_fold_is_put_together_by_what_the_other_folds_teach(method):
    rows = evidence(members=2, folds=3, series=1, horizon=50)
    right_then_wrong = np.where(rows.fold == 0, rows.y, rows.y + 50)
    wrong_then_right = np.where(rows.fold == 0, rows.y + 50, rows.y + 0.1)
    rows = Evidence(**{**vars(rows), "forecasts": np.stack([right_then_wrong, wrong_then_right])})
    combined, _ = out_of_fold(method, rows, points(rows.forecasts))
    np.testing.assert_allclose(combined[rows.fold == 0, 0], (rows.y + 50)[rows.fold == 0])  # no peeping at fold 0


@pytest.mark.parametrize("method", METHODS)
def test_with_one_fold_all_members_count_alike(method):
    rows = evidence(folds=1, members=3)
    combined, blend = out_of_fold(method, rows, points(rows.forecasts))
    assert blend.weights.tolist() == [pytest.approx(1 / 3)] * 3
    assert not blend.choices
    middle = np.median if method == "median" else np.mean
    np.testing.assert_allclose(combined[:, 0], middle(rows.forecasts, axis=0))


def test_a_member_without_a_forecast_is_left_out_of_that_row():
    values = points([[1.0, np.nan, np.nan], [3.0, 3.0, np.nan], [8.0, 9.0, np.nan]])
    weighted = Blend("greedy", np.array([0.5, 0.25, 0.25]))
    assert weighted.combine(["a", "b", "c"], values)[:2, 0].tolist() == [3.25, 6.0]
    assert Blend("median", np.full(3, 1 / 3)).combine(["a", "b", "c"], values)[:2, 0].tolist() == [3.0, 6.0]
    one = Blend("per-series", np.array([0.0, 1.0, 0.0]), {"b": 0})
    assert one.combine(["a", "b", "c"], values)[:2, 0].tolist() == [3.0, 3.0]  # its member gave none: the other used
    assert np.isnan(weighted.combine(["a", "b", "c"], values)[2]).all()


def test_quantiles_are_put_together_where_all_that_count_have_them():
    values = np.array([[[10.0, 8.0, 12.0], [10.0, 8.0, 12.0]], [[20.0, 16.0, 24.0], [20.0, np.nan, np.nan]]])
    for blend in (Blend("mean", np.full(2, 0.5)), Blend("median", np.full(2, 0.5))):
        got = blend.combine(["a", "b"], values)
        assert got[0].tolist() == [15.0, 12.0, 18.0]
        assert got[1, 0] == 15.0
        assert np.isnan(got[1, 1:]).all()
    only_first = Blend("greedy", np.array([1.0, 0.0])).combine(["a", "b"], values)
    np.testing.assert_array_equal(only_first, values[0])


def test_a_series_that_nobody_could_do_has_the_first_reason_and_the_others_none():
    def answer(forecast, failures):
        return Answer(np.asarray(forecast), np.full((2, 3), np.nan), failures)

    got = merge(
        Blend("mean", np.full(2, 0.5)),
        [answer([1.0, np.nan], {"b": "history-too-short"}), answer([np.nan, np.nan], {"a": "x", "b": "y"})],
        ["a", "b"],
    )
    assert got.forecast[0] == 1.0
    assert got.failures == {"b": "history-too-short"}


@settings(max_examples=20, deadline=None)
@given(several, st.sampled_from(METHODS), st.integers(2, 5))
def test_leaving_out_unused_members_changes_nothing(seed, method, members):
    rows = evidence(seed, members=members)
    blend = learn(method, rows)
    used = blend.used
    whole = blend.combine(names(rows), points(rows.forecasts))
    np.testing.assert_allclose(blend.only(used).combine(names(rows), points(rows.forecasts)[used]), whole, rtol=1e-12)
    places = [2 * n for n in range(members)]
    wide = np.full((2 * members, *whole.shape), 1e9)
    wide[places] = points(rows.forecasts)
    np.testing.assert_allclose(blend.widened(places, 2 * members).combine(names(rows), wide), whole, rtol=1e-12)
