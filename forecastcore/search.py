"""A search over a model's parameters within a budget of trials and seconds.

Optuna's tree-structured Parzen estimator proposes, the caller tries (Bergstra, Bardenet, Bengio & Kégl 2011, Algorithms
for hyper-parameter optimization). Trials run one after the other, each may use all workers, so that the same seed
proposes the same. None is cut short: the gate asks what the other origins would have chosen, and for that every trial
needs every origin.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forecastcore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optuna.trial import Trial as Proposal

__all__ = ["Search", "Span", "explore", "require_optuna"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Numbers from `low` to `high`, ends included.

    Attributes:
        low, high: the ends.
        log: by order of magnitude.
        whole: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to search, and for how long.

    Attributes:
        space: by parameter a list of values, or a span.
        trials: parameter sets to try at most.
        seconds: no trial begins that would end later at the pace so far, but for the first; None for no such bound.
    """

    space: Mapping[str, Sequence[Any] | Span]
    trials: int
    seconds: float | None = None


def require_optuna() -> None:
    """Say in good time that Optuna is missing.

    Raises:
        UsageError: it is; with the command that installs it.
    """
    try:
        import optuna  # noqa: F401 - asked only whether it is there
    except ImportError as error:
        raise UsageError(
            "a model has a `search:`, and Optuna is not installed", hint="pip install 'forecastcore[search]'"
        ) from error


def explore(search: Search, loss_of: Callable[[dict[str, Any]], float], *, seed: int) -> None:
    """Propose parameters until the budget is used up.

    A set that was proposed before counts as a trial, but is not tried again.

    Args:
        search: where and how long.
        loss_of: tries parameters; a loss that is not finite is a failed trial, and is avoided.
        seed: of the proposals.
    """
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    known: dict[str, float] = {}
    started = time.monotonic()
    for _ in range(search.trials):
        spent = time.monotonic() - started
        if search.seconds is not None and known and spent * (1 + 1 / len(known)) > search.seconds:
            return
        proposal = study.ask()
        params = {name: _suggested(proposal, name, values) for name, values in search.space.items()}
        key = json.dumps(params, sort_keys=True, default=str)
        if key not in known:
            known[key] = loss_of(params)
        if math.isfinite(known[key]):
            study.tell(proposal, known[key])
        else:
            study.tell(proposal, state=TrialState.FAIL)


def _suggested(proposal: Proposal, name: str, values: Sequence[Any] | Span) -> Any:
    if not isinstance(values, Span):
        return values[proposal.suggest_categorical(name, range(len(values)))]  # by number: a value may be a list
    if values.whole:
        return proposal.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return proposal.suggest_float(name, values.low, values.high, log=values.log)
