"""What the policies of a project file say of the vintages that have come."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from forecastcore.watching.messages import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forecastcore.config import PolicyConfig
    from forecastcore.watching.messages import VintageScore

__all__ = ["judge"]

#: conditions that are asked of each vintage: what is measured, and whether a value meets the limit
_OF_A_VINTAGE: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "skill_below": ("skill", lambda value, limit: value < limit),
    "mase_above": ("mase", lambda value, limit: value > limit),
    "bias_beyond": ("bias", lambda value, limit: abs(value) > limit),
    "coverage_below": ("coverage", lambda value, limit: value < limit),
    "coverage_above": ("coverage", lambda value, limit: value > limit),
    "worse_than_promised": ("worse_than_promised", lambda value, limit: value > limit),
    "degraded_above": ("degraded", lambda value, limit: value > limit),
}


def judge(
    policies: Sequence[PolicyConfig], vintages: Sequence[VintageScore], now: Mapping[str, float]
) -> list[Outcome]:
    """Each policy, fired or quiet, with the numbers.

    Args:
        policies: of the project file; all conditions of one must hold at once.
        vintages: those that count, oldest first; only judged ones are looked at.
        now: what is measured once and not of each vintage: `drift_above`, `missing_above`.
    """
    judged = [vintage for vintage in vintages if vintage.judged]
    return [_outcome(policy, judged, now) for policy in policies]


def _outcome(policy: PolicyConfig, judged: Sequence[VintageScore], now: Mapping[str, float]) -> Outcome:
    limits, (needed, window) = policy.when.limits(), policy.when.counts()
    words = " and ".join(f"{name.replace('_', ' ')} {limit:g}" for name, limit in limits.items())
    of_vintages = {name: limit for name, limit in limits.items() if name in _OF_A_VINTAGE}
    quiet = [
        f"{name.replace('_', ' ')} {limit:g}: it is {now.get(name, 0):.3g}"
        for name, limit in limits.items()
        if name not in _OF_A_VINTAGE and not now.get(name, 0) > limit
    ]
    loud = [
        f"{name.replace('_', ' ')} {limit:g}: it is {now[name]:.3g}"
        for name, limit in limits.items()
        if name not in _OF_A_VINTAGE and now.get(name, 0) > limit
    ]
    if not of_vintages:
        return Outcome(when=words, do=policy.do, fired=not quiet, reason="; ".join(quiet or loud))
    recent = judged[-window:]
    hits = [vintage for vintage in recent if all(_holds(vintage, n, limit) for n, limit in of_vintages.items())]
    fired = len(hits) >= needed and not quiet
    shown = ", ".join(_numbers(vintage, of_vintages) for vintage in recent[::-1]) or "none has come yet"
    reason = f"it held in {len(hits)} of the newest {len(recent)} vintages, {needed} of {window} are needed: {shown}"
    return Outcome(
        when=f"{words} for {needed} of {window}", do=policy.do, fired=fired, reason="; ".join([reason, *quiet, *loud])
    )


def _holds(vintage: VintageScore, name: str, limit: float) -> bool:
    column, meets = _OF_A_VINTAGE[name]
    value = getattr(vintage, column)
    return value is not None and math.isfinite(value) and meets(value, limit)


def _numbers(vintage: VintageScore, limits: Mapping[str, float]) -> str:
    columns = dict.fromkeys(_OF_A_VINTAGE[name][0] for name in limits)
    values = [f"{column.replace('_', ' ')} {_shown(getattr(vintage, column))}" for column in columns]
    return f"{vintage.issued_at:%Y-%m-%d %H:%M} {' '.join(values)}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
