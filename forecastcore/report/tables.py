"""What needs attention, all series, the candidates, the decision, assumptions and delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forecastcore.report import words
from forecastcore.report.markup import Html, badge, el, join, table
from forecastcore.report.views import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forecastcore.messages import Decision, PredictReport, RetrainReport, VersionRef
    from forecastcore.project import Project
    from forecastcore.report.views import View, Vintage
    from forecastcore.report.words import Clock

__all__ = ["all_series", "assumed", "attention", "decided", "delivery", "leaderboard"]

#: series in a table
_LISTED = 5000


def attention(views: Sequence[View]) -> Html:
    """Series that a fallback served or that have no forecast, and why."""
    wrong = [view for view in views if view.status != "ok"]
    if not wrong:
        return el("p", f"Nothing: the model served all {words.count(len(views), 'series', 'series')}.", class_="good")
    shown = wrong[:_LISTED]
    rows = [
        [view.unique_id, badge(view.status), view.reason or words.NOTHING, view.model or words.NOTHING]
        for view in shown
    ]
    failed = sum(view.status == "failed" for view in wrong)
    told = [
        f"{words.count(len(wrong) - failed, 'series', 'series')} served by a fallback" if len(wrong) > failed else ""
    ]
    told += [f"{words.count(failed, 'series', 'series')} without a forecast" if failed else ""]
    return join(
        [
            el("p", "; ".join(filter(None, told)) + ". The other series are not touched by it."),
            table(
                "Series that the model did not serve",
                ("Series", "Status", "Reason", "Served by"),
                rows,
                hide_caption=True,
            ),
            _left_out(len(wrong), len(shown)),
        ]
    )


def _left_out(there: int, shown: int) -> Html | None:
    return el("p", f"And {there - shown:,} more: see the forecast table.") if there > shown else None


def all_series(views: Sequence[View], *, opened: bool) -> Html:
    """Every series in one line."""
    shown = list(views[:_LISTED])
    names = list(shown[0].scenarios) if shown else []
    head = ("Series", "Status", "Mean", "Change", "Band", *(f"If {name}" for name in names), "Reason")
    rows = [
        [
            view.unique_id,
            badge(view.status),
            words.number(view.level),
            words.change(view.level, view.before),
            f"{words.number(mean(view.low))} to {words.number(mean(view.high))}"
            if np.isfinite(view.low).any()
            else words.NOTHING,
            *(
                words.change(mean(view.scenarios[name]), view.level) if name in view.scenarios else words.NOTHING
                for name in names
            ),
            view.reason,
        ]
        for view in shown
    ]
    if not any(view.reason for view in shown):
        head, rows = head[:-1], [row[:-1] for row in rows]
    note = "Means over the horizon; the change is against as many values before the"
    note += " origin, the band is the mean of the outermost quantiles."
    listed = table(
        f"{words.count(len(shown), 'series', 'series')}. {note}", head, rows, numeric=range(2, 5 + len(names))
    )
    return el(
        "details",
        el("summary", f"Means of {words.count(len(shown), 'series', 'series')}"),
        listed,
        _left_out(len(views), len(shown)),
        open=opened,
    )


def leaderboard(retrained: RetrainReport | None, clock: Clock) -> Html:
    """The candidates, best first; empty where there was no retrain."""
    if retrained is None:
        return Html("")
    head = ("Candidate", "Status", "MASE", "RMSSE", "WQL", "Bias", "In the band", "Skill", "Seconds", "Remark")
    rows = [
        [
            row.name,
            badge(row.status),
            *(f"{value:.3f}" if value is not None else words.NOTHING for value in (row.mase, row.rmsse, row.wql)),
            words.share(row.bias, 1),
            words.share(row.coverage),
            words.share(row.skill),
            words.number(row.seconds),
            row.reason,
        ]
        for row in retrained.leaderboard
    ]
    folds = words.count(retrained.folds, "past origin")
    caption = f"Leaderboard, best first: {folds} before {clock(retrained.as_of)}"
    explained = (
        "Every candidate forecast the same rows, with only what was known at each origin. MASE and RMSSE: error in"
        " units of the seasonal naive's error on the training data. WQL: loss of the quantiles. Skill: how much smaller"
        " the MASE is than the best seasonal naive's."
    )
    return join([table(caption, head, rows, numeric=range(2, 9)), el("p", explained, class_="note")])


def decided(retrained: RetrainReport | None) -> Html:
    """The gate's decision in words, with every condition; empty where there was no retrain."""
    if retrained is None:
        return Html("")
    decision = retrained.decision
    verdict = {"first": "First champion", "promote": "Promoted", "hold": "Held"}[decision.verdict]
    said = decision.reason.split(": ", 1)
    reason = said[1] if len(said) > 1 and said[0] in {"first", "promoted", "held"} else decision.reason
    facts = [
        ("Champion before", _ref(retrained.champion_before)),
        ("Challenger", _ref(retrained.challenger)),
        ("Champion now", _ref(retrained.champion_after)),
    ]
    return join(
        [
            el("p", el("strong", f"{verdict}. "), f"{reason[:1].upper()}{reason[1:]}.", class_="lead"),
            *(el("p", note) for note in retrained.notes),
            el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in facts), class_="facts"),
            _guards(decision),
        ]
    )


def _guards(decision: Decision) -> Html | None:
    if not decision.guards:
        return None
    rows = [
        [guard.name, badge("ok", "holds") if guard.passed else badge("failed", "fails"), guard.detail]
        for guard in decision.guards
    ]
    return table("Conditions that all have to hold for a promotion", ("Condition", "Holds", "Found"), rows)


def _ref(ref: VersionRef | None) -> str:
    return f"{ref.model}, version {ref.version}" if ref else "none"


def assumed(predicted: PredictReport | None, project: Project) -> Html:
    """Which assumption filled which covariate; empty where there was no predict."""
    if predicted is None:
        return Html("")
    if not predicted.assumptions:
        return el("p", "Nothing: the project has no covariates.")
    told = [f"{name} is {a.type}" for name, a in project.config.assumptions.items() if name != a.type]
    changed = {scenario: project.config.scenarios.get(scenario, {}) for scenario in predicted.scenarios}
    told += [f"{name} is {a.type} in {scenario}" for scenario, names in changed.items() for name, a in names.items()]
    listed = ", ".join(told)
    rows = [
        [note.covariate, note.scenario, note.assumption, f"{note.rows:,}", note.reason or words.NOTHING]
        for note in predicted.assumptions
    ]
    if not any(note.reason for note in predicted.assumptions):
        rows = [row[:-1] for row in rows]
    head = ("Covariate", "Scenario", "Filled by", "Rows", "Fell back because")[: len(rows[0])]
    return join(
        [
            table("What stood in for the unknown future of the covariates", head, rows, numeric=(3,)),
            el("p", f"In the project file {listed}.", class_="note") if listed else None,
        ]
    )


def delivery(predicted: PredictReport | None, retrained: RetrainReport | None, vintage: Vintage, clock: Clock) -> Html:
    """Where the table went, what the quality check repaired, and the keys to find the runs again."""
    report = predicted or retrained
    parts: list[Html | None] = []
    if predicted:
        rows = [
            [
                p.sink,
                el("code", p.location),
                f"{p.rows:,}",
                f"FAILED: {p.error}" if p.error else "there already" if p.already else "written",
            ]
            for p in predicted.published
        ]
        parts.append(
            table("Where the table went", ("Sink", "Location", "Rows", "State"), rows, numeric=(2,)) if rows else None
        )
    if report:
        repairs = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in report.quality.items())
        parts += [
            el("p", f"Quality check: {repairs or 'nothing to repair'}."),
            *(el("p", note) for note in report.notes),
        ]
    keys = {name: str(rows["run_key"].iloc[0]) for name, rows in vintage.scenarios.items()}
    facts = [(f"Run key, {name}", el("code", key)) for name, key in keys.items()]
    facts += [("MLflow run of predict", el("code", predicted.run_id))] if predicted else []
    facts += [("MLflow run of retrain", el("code", retrained.run_id))] if retrained else []
    facts.append(("Made", Html(words.moment(vintage.main["created_at"].max(), clock.timezone))))
    parts.append(el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in facts), class_="facts"))
    return join(parts)
