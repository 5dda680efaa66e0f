"""What needs attention, all series, the candidates, the decision, assumptions and delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forecastcore.markup import Html, badge, el, join, table
from forecastcore.report import words
from forecastcore.report.views import mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forecastcore.messages import Decision, PredictReport, RetrainReport, VersionRef
    from forecastcore.project import Project
    from forecastcore.report.views import View, Vintage
    from forecastcore.report.words import Clock

__all__ = ["all_series", "assumed", "assumed_wrongly", "attention", "decided", "delivery", "leaderboard"]

#: series in a table
_LISTED = 5000


def attention(views: Sequence[View], vintage: Vintage) -> Html:
    """Series that are not served as they should be, in any scenario, and why."""
    main = next(iter(vintage.scenarios))
    wrong = [(view.unique_id, main, view.status, view.model, view.reason) for view in views if view.status != "ok"]
    wrong += _only_elsewhere(vintage, {uid for uid, *_ in wrong})
    if not wrong:
        return el("p", f"Nothing: the model served all {words.count(len(views), 'series', 'series')}.", class_="good")
    counts = {word: sum(status == word for _, _, status, *_ in wrong) for word in ("failed", "degraded")}
    told = ", ".join(f"{words.count(n, 'series', 'series')} {word}" for word, n in counts.items() if n)
    shown = wrong[:_LISTED]
    rows = [
        [uid, scenario, badge(status), model or words.NOTHING, reason or words.NOTHING]
        for uid, scenario, status, model, reason in shown
    ]
    head = ("Series", "Scenario", "Status", "Made by", "Reason")
    return join(
        [
            el("p", f"{told}. The other series are not touched by it."),
            table("Series that are not served as they should be", head, rows, hide_caption=True),
            _left_out(len(wrong), len(shown)),
        ]
    )


def _only_elsewhere(vintage: Vintage, known: set[str]) -> list[tuple[str, str, str, str, str]]:
    """Series that are well in the main scenario, but not in another one."""
    found = []
    for scenario, rows in list(vintage.scenarios.items())[1:]:
        bad = rows[(rows["status"] != "ok") & ~rows["unique_id"].isin(known)].drop_duplicates("unique_id")
        texts = bad[["unique_id", "status", "model", "reason"]].fillna("").astype(str)
        found += [(uid, scenario, status, model, why) for uid, status, model, why in texts.itertuples(index=False)]
    return found


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
    told = any(row.premium is not None for row in retrained.leaderboard)
    errors = ("MASE", "RMSSE", "WQL", "Bias", "In the band", "Skill", *(["Premium"] if told else []))
    head = ("Candidate", "Status", *errors, "Seconds", "Remark")
    rows = [
        [
            row.name,
            badge(row.status),
            *(f"{value:.3f}" if value is not None else words.NOTHING for value in (row.mase, row.rmsse, row.wql)),
            words.share(row.bias, 1),
            words.share(row.coverage),
            words.share(row.skill),
            *([_premium(row.premium)] if told else []),
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
    if told:
        explained += (
            " Premium, the foresight premium: how much smaller the MASE of the same fitted models would be, were the"
            " covariates' future known instead of assumed."
        )
    numeric = range(2, len(head) - 1)
    return join([table(caption, head, rows, numeric=numeric), el("p", explained, class_="note")])


def _premium(value: float | None) -> str:
    return words.NOTHING if value is None else f"{value:+.3f}"


def assumed_wrongly(retrained: RetrainReport | None) -> Html:
    """How far what was assumed lay from what came, at the backtest's origins; empty where nothing is assumed."""
    if retrained is None or not retrained.assumption_errors:
        return Html("")
    errors = retrained.assumption_errors
    horizon = max(len(error.scaled_by_step) for error in errors)
    ends = sorted({1, -(-horizon // 2), horizon}) if horizon else []
    head = ("Covariate", "Assumed by", "Bias", "Mean error", "In units of its spread", *(f"at step {n}" for n in ends))
    rows = [
        [
            error.covariate,
            error.assumption,
            words.number(error.bias),
            words.number(error.mae),
            words.number(error.scaled),
            *(words.number(error.scaled_by_step[n - 1] if n <= len(error.scaled_by_step) else None) for n in ends),
        ]
        for error in errors
    ]
    caption = "How far from what came the covariates were assumed, at the past origins of the leaderboard"
    return table(caption, head, rows, numeric=range(2, len(head)))


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
    number = f"version {ref.version}" if ref and ref.version else "not registered yet"
    return f"{ref.model}, {number}" if ref else "none"


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
