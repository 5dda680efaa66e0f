"""What a run takes, from its seconds, its machines and the rates that the project file gives; no price is made up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from forecastcore.errors import UsageError
from forecastcore.messages import Cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forecastcore.config.engines import DatabricksEngine

__all__ = ["affordable", "cost_of"]

_HOUR = 3600.0
#: seconds that a budget must last for: no cluster starts in less
_LEAST = 60.0


def cost_of(
    settings: DatabricksEngine, seconds: float, series: int | None = None, work: Mapping[str, float] | None = None
) -> Cost:
    """What so many seconds of the machines take.

    Args:
        settings: machines and rates.
        seconds: from the run's start to its end.
        series: how many were served.
        work: seconds of work on each candidate.
    """
    nodes, worked = _nodes(settings), sum((work or {}).values())
    shares = {name: part / worked for name, part in (work or {}).items()} if worked else {}
    if nodes is None:
        return Cost(seconds=seconds, by_candidate=shares)
    hours, rates = nodes * seconds / _HOUR, settings.cost
    dbu = None if rates.dbu_per_node_hour is None else hours * rates.dbu_per_node_hour
    price = _price(settings)
    amount = None if price is None else hours * price
    return Cost(
        seconds=seconds,
        nodes=nodes,
        spot_share=(nodes - 1) / nodes if settings.cluster and settings.cluster.spot else 0.0,
        node_hours=hours,
        dbu=dbu,
        amount=amount,
        currency=(rates.currency or "") if amount is not None else "",
        per_1000_series=amount / series * 1000 if amount is not None and series else None,
        by_candidate=shares,
    )


def affordable(settings: DatabricksEngine) -> float:
    """Seconds that `budget:` lasts for with the most machines there may be; endless where there is none.

    Raises:
        UsageError: that cannot be told, or is too short for any run.
    """
    if settings.budget is None:
        return math.inf
    nodes = _nodes(settings)
    if nodes is None:
        hint = "give the run a cluster of its own, or take the budget out and keep timeout:"
        raise UsageError("engine.budget: how many machines there are is known only of engine.cluster", hint=hint)
    budget, hours = settings.budget, 0.0
    if budget.node_hours is not None:
        hours = budget.node_hours
    else:
        rate, said = (
            (settings.cost.dbu_per_node_hour, budget.dbu)
            if budget.dbu is not None
            else (_price(settings), budget.currency)
        )
        if rate is None or said is None:
            needed = "dbu_per_node_hour" if budget.dbu is not None else "dbu_per_node_hour and currency_per_dbu"
            raise UsageError("engine.budget cannot be kept without rates", hint=f"write {needed} under engine.cost")
        hours = said / rate
    lasts = hours / nodes * _HOUR
    if lasts < _LEAST:
        words = f"engine.budget lasts for {lasts:.0f} s of {nodes} nodes: nothing was submitted"
        raise UsageError(words, hint="raise it, or take fewer machines")
    return lasts


def _nodes(settings: DatabricksEngine) -> int | None:
    """The most machines there may be, the driver too; None where they are not ours."""
    if settings.cluster is None:
        return None
    workers = settings.cluster.autoscale.max if settings.cluster.autoscale else settings.cluster.workers
    return (workers or 0) + 1


def _price(settings: DatabricksEngine) -> float | None:
    """Money that an hour of a node costs, DBU and machine; None where no price is given, or DBU are priced unknown."""
    rates = settings.cost
    units = None
    if rates.dbu_per_node_hour is not None and rates.currency_per_dbu is not None:
        units = rates.dbu_per_node_hour * rates.currency_per_dbu
    known = [price for price in (units, rates.currency_per_node_hour) if price is not None]
    return sum(known) if known else None
