"""The gate: equal models are rarely promoted, better ones nearly always, and slices are watched."""

import numpy as np
import pytest

from forecastcore.compare import Evidence, Rules, decide, gain_interval, unseen_choice


def evidence(champion, challenger, **changes):
    given = {
        "champion": champion,
        "challenger": challenger,
        "slices": {},
        "coverage": 0.8,
        "champion_coverage": 0.8,
        "nominal": 0.8,
        "skill": 0.2,
        **changes,
    }
    return Evidence(**given)


def simulated(rng, better=0.0, origins=12, series=50):
    # Losses of one origin hang together; both models share most of what makes an origin hard.
    shared = rng.gamma(8, 1 / 8, (origins, 1)) * rng.gamma(8, 1 / 8, (origins, series))
    return shared * rng.lognormal(0, 0.1, shared.shape), shared * (1 - better) * rng.lognormal(0, 0.1, shared.shape)


def test_equal_models_are_promoted_at_most_at_the_stated_rate():
    rng = np.random.default_rng(7)
    promoted = sum(decide(evidence(*simulated(rng)), Rules(min_gain=0.0)).verdict == "promote" for _ in range(400))
    assert promoted / 400 <= 0.07


def test_a_challenger_five_percent_better_is_promoted_nine_times_in_ten():
    rng = np.random.default_rng(8)
    promoted = sum(decide(evidence(*simulated(rng, better=0.05)), Rules()).verdict == "promote" for _ in range(200))
    assert promoted / 200 >= 0.9


def test_the_interval_is_the_paired_t_interval_when_origins_do_not_overlap():
    from scipy import stats

    rng = np.random.default_rng(9)
    champion, challenger = rng.gamma(9, 1, (8, 1)), rng.gamma(8, 1, (8, 1))
    gain, low, high = gain_interval(champion, challenger, 0.95)
    difference = (champion - challenger).ravel()
    reference = stats.t.interval(0.90, 7, difference.mean(), stats.sem(difference)) / champion.mean()
    assert (low, high) == pytest.approx(tuple(reference))
    assert gain == pytest.approx(difference.mean() / champion.mean())


def test_one_origin_proves_nothing():
    decision = decide(evidence(np.array([[2.0]]), np.array([[1.0]])), Rules())
    assert decision.verdict == "hold"
    assert "may be chance on 1 origins" in decision.reason


def test_a_better_mean_with_a_worse_slice_is_held_and_the_slice_is_named():
    champion, challenger = np.full((8, 5), 1.0), np.linspace(0.88, 0.9, 40).reshape(8, 5)
    decision = decide(
        evidence(champion, challenger, slices={"steps 1-6": (1.0, 0.7), "steps 19-24": (1.0, 1.3)}), Rules()
    )
    assert decision.verdict == "hold"
    assert "steps 19-24: +30.0%" in decision.reason


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_challenger_without_finite_losses_never_wins(bad):
    assert decide(evidence(np.ones((6, 3)), np.full((6, 3), bad)), Rules()).verdict == "hold"


def test_no_skill_no_promotion():
    decision = decide(evidence(np.full((8, 2), 2.0), np.linspace(0.9, 1.0, 16).reshape(8, 2), skill=-0.1), Rules())
    assert decision.verdict == "hold"
    assert "skill" in decision.reason


def best_of_ten(rng, choose):
    """Ten candidates no better than the champion; is the best-looking one promoted?"""
    hard = rng.gamma(8, 1 / 8, (8, 20))
    champion, *candidates = (hard * rng.lognormal(0, 0.3, hard.shape) for _ in range(11))
    losses = np.stack([candidate.mean(axis=1) for candidate in candidates])
    challenger = np.stack(candidates)[choose(losses), np.arange(8)]
    return decide(evidence(champion, challenger), Rules(min_gain=0.0)).verdict == "promote"


def test_choosing_without_the_judged_origin_takes_most_of_the_luck_away():
    def rate(choose):
        return sum(best_of_ten(np.random.default_rng(seed), choose) for seed in range(300)) / 300

    lucky = rate(lambda losses: np.full(8, losses.mean(axis=1).argmin()))
    honest = rate(unseen_choice)
    assert lucky > 0.2, "choosing and judging on the same origins is easily fooled"
    assert honest < 0.6 * lucky


def test_with_one_origin_the_choice_is_the_best_on_it():
    assert unseen_choice(np.array([[2.0], [1.0]])).tolist() == [1]
