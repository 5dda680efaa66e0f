import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from forecastcore import markup
from forecastcore.errors import UsageError
from forecastcore.frames import History
from forecastcore.messages import (
    AssumptionError,
    AssumptionNote,
    Decision,
    Guard,
    LeaderboardRow,
    PredictReport,
    Publication,
    RetrainReport,
    SeriesCount,
    VersionRef,
)
from forecastcore.project import Project
from forecastcore.report import charts, views, words, write_page
from forecastcore.timegrid import TimeGrid

ORIGIN = pd.Timestamp("2024-03-20T22:00Z")
HORIZON = 24
HOSTILE = "<script>alert('1')</script>\" onload=\"x() & <b>"


def history_of(ids, *, until=ORIGIN, rows=10 * 24):
    ds = pd.date_range(end=until, periods=rows, freq="h")
    wave = 10 + np.sin(np.arange(rows) * 2 * np.pi / 24)
    parts = [pd.DataFrame({"unique_id": uid, "ds": ds, "y": wave * (n + 1)}) for n, uid in enumerate(ids)]
    panel = pd.concat(parts, ignore_index=True)
    return History(panel=panel, known=panel.iloc[:0], grid=TimeGrid("h", "Europe/Rome"), origin=until)


def table_of(ids, *, scenario="base", origin=ORIGIN, horizon=HORIZON, key="a" * 64, add=0.0, status=None, **changes):
    """One vintage; `status` is by series: (status, reason)."""
    ds = pd.date_range(origin + pd.Timedelta("1h"), periods=horizon, freq="h")
    parts = []
    for number, uid in enumerate(ids):
        word, reason = (status or {}).get(uid, ("ok", ""))
        forecast = np.full(horizon, 10.0 * (number + 1)) + np.arange(horizon) / horizon + add
        forecast = forecast * np.nan if word == "failed" else forecast
        parts.append(
            pd.DataFrame(
                {
                    "unique_id": uid,
                    "ds": ds,
                    "step": np.arange(1, horizon + 1),
                    "forecast": forecast,
                    "q10": forecast - 1,
                    "q50": forecast,
                    "q90": forecast + 1,
                    "model": {"ok": "ridge", "degraded": "seasonal-naive"}.get(word, ""),
                    "status": word,
                    "reason": reason,
                }
            )
        )
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(
        project="p",
        scenario=scenario,
        issued_at=origin,
        model_version="2",
        assumed_by="",
        run_key=key,
        created_at=ORIGIN + pd.Timedelta("2h"),
        **changes,
    )


def predict_report(ids, **changes):
    told = {
        "project": "p",
        "run_id": "run-of-predict",
        "run_key": "a" * 64,
        "run_keys": {"base": "a" * 64},
        "issued_at": ORIGIN.to_pydatetime(),
        "scenarios": ("base",),
        "model": "ridge",
        "model_version": "2",
        "rows": len(ids) * HORIZON,
        "series": SeriesCount(total=len(ids), ok=len(ids), degraded=0, failed=0),
        "assumptions": (AssumptionNote(scenario="base", covariate="heat", assumption="weather", rows=24),),
        "published": (Publication(sink="delta", location="out/forecasts", rows=24, already=False),),
        "seconds": 1.0,
    }
    return PredictReport(**{**told, **changes})


def retrain_report(**changes):
    ref = VersionRef(model="ridge", version="2")
    told = {
        "project": "p",
        "run_id": "run-of-retrain",
        "as_of": ORIGIN.to_pydatetime(),
        "folds": 4,
        "leaderboard": (
            LeaderboardRow(name="ridge", model="ridge", params={}, status="ok", mase=0.8, skill=0.2, coverage=0.78),
            LeaderboardRow(name="ets", model="ets", params={}, status="failed", reason="model-error: <boom>"),
        ),
        "challenger": ref,
        "champion_before": VersionRef(model="ets", version="1"),
        "champion_after": ref,
        "decision": Decision(
            verdict="promote",
            reason="promoted: the challenger's loss is lower by +5.0%",
            guards=(Guard(name="skill", passed=True, detail="skill +0.200"),),
        ),
        "series": SeriesCount(total=1, ok=1, degraded=0, failed=0),
        "quality": {"gaps_filled": 3},
        "seconds": 1.0,
    }
    return RetrainReport(**{**told, **changes})


@pytest.fixture
def project(tmp_path):
    said = {"name": "p", "source": {"type": "csv", "path": "d.csv"}, "frequency": "h", "horizon": HORIZON}
    path = tmp_path / "forecast.yaml"
    path.write_text(yaml.safe_dump({**said, "models": [{"type": "naive"}]}))
    return Project.load(path)


@pytest.fixture
def page_of(project, tmp_path):
    def write(history, table, retrained=None, predicted=None):
        path = write_page(
            tmp_path / "out" / "report.html",
            project=project,
            history=history,
            table=table,
            retrain_report=retrained,
            predict_report=predicted,
        )
        return path.read_text(encoding="utf-8")

    return write


class Reader(HTMLParser):
    """Every element with its attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))  # a space that does not break is a space


@pytest.mark.row(54)
def test_the_page_is_one_file_that_refers_to_nothing_outside_and_runs_no_script(page_of):
    page = page_of(history_of(["a"]), table_of(["a"]), retrain_report(), predict_report(["a"]))
    refers = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']?([^"'\s>]+)""", page)
    refers += re.findall(r"url\(\s*[\"']?([^)\"']+)", page)
    assert refers
    assert all(place.startswith("#") for place in refers)
    assert "@import" not in page
    assert not re.search(r"https?://|//[a-z]", page)
    tags = {tag for tag, _ in Reader(page).elements}
    assert not tags & {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
    assert not [key for _, attributes in Reader(page).elements for key in attributes if key.startswith("on")]


def test_every_reference_inside_the_page_leads_somewhere_and_no_id_is_there_twice(page_of):
    page = page_of(history_of(["a", "b"]), table_of(["a", "b"]), retrain_report(), predict_report(["a", "b"]))
    ids = [attributes["id"] for _, attributes in Reader(page).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"""(?:href="|url\()#([^")]+)""", page)) <= set(ids)


@pytest.mark.row(54)
def test_hostile_names_and_reasons_stay_text(page_of):
    ids = [HOSTILE, "plain"]
    table = table_of(ids, status={HOSTILE: ("degraded", "model-error: </td><img src=x>")})
    other = table_of(ids, scenario="<i>what if</i>", key="b" * 64, add=1.0)
    predicted = predict_report(
        ids,
        published=(Publication(sink="<u>", location="</code><a href=//x>", rows=1, already=False, error="<s>"),),
        run_keys={"base": "a" * 64, "<i>what if</i>": "b" * 64},
    )
    page = page_of(history_of(ids), pd.concat([table, other]), retrain_report(), predicted)
    reader = Reader(page)
    assert not {"script", "b>", "img", "i", "u", "s"} & {tag for tag, _ in reader.elements}
    assert HOSTILE in reader.text
    assert any(HOSTILE in attributes.get("aria-label", "") for attributes in reader.of("svg"))
    assert "model-error: </td><img src=x>" in reader.text


@pytest.mark.row(54, trials=25)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf"]), max_size=30))
def test_any_text_comes_back_from_the_markup_as_it_went_in(text):
    element = markup.el("p", text, title=text)
    reader = Reader(element)
    assert [tag for tag, _ in reader.elements] == ["p"]
    assert "".join(reader.words) == text
    assert reader.of("p")[0]["title"] == text


@pytest.mark.parametrize("character", ["\x00", "\r", "\x1b", "\x85", "\ud800", "\u202e", "\u2066"])
def test_characters_that_would_break_the_file_or_turn_its_direction_are_replaced(character):
    assert markup.el("p", f"a{character}b").encode() == "<p>a\N{REPLACEMENT CHARACTER}b</p>".encode()


def test_series_that_need_attention_come_first_everywhere(page_of):
    ids = ["a", "b", "c"]
    table = table_of(ids, status={"b": ("degraded", "history-too-short"), "c": ("failed", "no-history")})
    reader = Reader(page_of(history_of(["a", "b"]), table))
    text = reader.text
    assert text.index("no-history") < text.index("history-too-short") < text.index("mean")
    labels = [attributes["aria-label"] for attributes in reader.of("svg") if "aria-label" in attributes]
    assert [label.split(".")[0] for label in labels] == [f"Line chart of {uid}" for uid in ("c", "b", "a")]
    assert "No forecast: no-history." in labels[0]


def test_a_series_that_is_degraded_in_a_what_if_only_is_named_with_the_scenario(page_of):
    table = table_of(["a", "b"], scenario="hot", key="b" * 64, status={"b": ("degraded", "assumption-unavailable: x")})
    text = Reader(page_of(history_of(["a", "b"]), pd.concat([table_of(["a", "b"]), table]))).text
    assert "1 series degraded" in text
    assert "bhot!degraded" in text.replace(" ", "")
    assert "assumption-unavailable: x" in text


def test_every_picture_says_its_numbers_in_words(page_of):
    what_if = table_of(["a"], scenario="hot", key="b" * 64, add=1.0)
    keys = {"base": "a" * 64, "hot": "b" * 64}
    table = pd.concat([table_of(["a"]), what_if])
    page = page_of(
        history_of(["a"], until=ORIGIN + pd.Timedelta("12h")), table, None, predict_report(["a"], run_keys=keys)
    )
    (label,) = [attributes["aria-label"] for attributes in Reader(page).of("svg") if attributes.get("role") == "img"]
    assert "mean 10.5, lowest 10.0 on Thu 21 Mar 2024, 00:00, highest 11.0 on Thu 21 Mar 2024, 23:00" in label
    assert "On average 9.48 at q10, 11.5 at q90." in label
    assert "Scenario hot: mean 11.5 (+9.5\N{NO-BREAK SPACE}%)." in label
    assert "What came: mean" in label


def test_every_table_has_a_caption_and_headings_and_can_be_scrolled_by_keyboard(page_of):
    page = page_of(history_of(["a"]), table_of(["a"]), retrain_report(), predict_report(["a"]))
    reader = Reader(page)
    tables = len(reader.of("table"))
    assert tables > 4
    assert len(reader.of("caption")) == tables
    assert {attributes.get("scope") for attributes in reader.of("th")} == {"col", "row"}
    around = [a for a in reader.of("div") if a.get("class") == "scroll"]
    assert len(around) == tables
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in around)


def test_the_page_has_landmarks_a_language_one_first_heading_and_both_colour_schemes(page_of):
    page = page_of(history_of(["a"]), table_of(["a"]), retrain_report(), predict_report(["a"]))
    tags = [tag for tag, _ in Reader(page).elements]
    assert {"header", "nav", "main", "footer"} <= set(tags)
    assert tags.count("h1") == 1
    assert Reader(page).of("html") == [{"lang": "en"}]
    assert "prefers-color-scheme: dark" in page
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_decision_stands_there_in_words_with_its_conditions(page_of):
    text = Reader(page_of(history_of(["a"]), table_of(["a"]), retrain_report(), predict_report(["a"]))).text
    assert "Promoted. The challenger's loss is lower by +5.0%." in text
    assert "skill ✓ holds skill +0.200".replace(" ", "") in text.replace(" ", "")
    assert "Champion before" in text
    assert "ets, version 1" in text
    assert "20 % smaller than the best seasonal naive's".replace(" ", "") in text.replace(" ", "")


def test_the_foresight_premium_and_how_wrongly_covariates_were_assumed_stand_there(page_of):
    ids = ["a"]
    plain = Reader(page_of(history_of(ids), table_of(ids), retrain_report())).text
    assert "Premium" not in plain
    assert "How far from what came" not in plain
    steps = tuple(0.01 * step for step in range(1, HORIZON + 1))
    error = AssumptionError(
        covariate="heat", assumption="weather", rows=96, bias=-0.5, mae=1.25, scaled=0.125, scaled_by_step=steps
    )
    board = (
        LeaderboardRow(name="ridge", model="ridge", params={}, status="ok", mase=0.8, premium=0.1234),
        LeaderboardRow(name="ets", model="ets", params={}, status="ok", mase=0.9),
    )
    retrained = retrain_report(leaderboard=board, assumption_errors=(error,))
    told = Reader(page_of(history_of(ids), table_of(ids), retrained))
    assert {"+0.123", "0.0100", "0.120", "0.240", "at step 12", "at step 24"} <= set(told.words)
    assert "How far from what came the covariates were assumed" in told.text


def test_what_the_quality_check_repaired_is_told(page_of):
    page = page_of(history_of(["a"]), table_of(["a"]), None, predict_report(["a"], quality={"gaps_filled": 1234}))
    assert "Quality check: gaps filled 1,234." in Reader(page).text


def test_without_reports_the_table_alone_makes_a_page(page_of):
    text = Reader(page_of(history_of(["a"]), table_of(["a"]))).text
    assert "1 series, 24 hours ahead from Wed 20 Mar 2024, 23:00 (Europe/Rome), by ridge, version 2." in text
    assert "The decision" not in text


def test_an_earlier_vintage_is_shown_against_what_came(page_of):
    before = ORIGIN - pd.Timedelta("2D")
    table = pd.concat([table_of(["a"], origin=before, key="c" * 64), table_of(["a"])])
    text = Reader(page_of(history_of(["a"]), table)).text
    assert "From Mon 18 Mar 2024, 23:00, by ridge, version 2." in text
    assert "of the actuals fell into the band; 80 % were expected to" in text


def test_of_two_runs_of_one_vintage_the_asked_one_is_shown_else_the_later_one():
    first, second = table_of(["a"], key="a" * 64), table_of(["a"], key="b" * 64, add=5.0)
    second["created_at"] += pd.Timedelta("1h")
    both = pd.concat([first, second])
    (vintage,) = views.vintages_of(both)
    assert set(vintage.main["run_key"]) == {"b" * 64}
    (vintage,) = views.vintages_of(both, ["a" * 64])
    assert set(vintage.main["run_key"]) == {"a" * 64}


@pytest.mark.slow
def test_a_thousand_series_stay_below_five_megabytes_and_all_are_listed(page_of):
    ids = [f"series-{n:04d}" for n in range(1000)]
    status = {"series-0500": ("degraded", "constant-history")}
    horizon = 168
    what_if = table_of(ids, scenario="hot", key="b" * 64, horizon=horizon)
    table = pd.concat([table_of(ids, status=status, horizon=horizon), what_if])
    page = page_of(history_of(ids, rows=400), table, retrain_report(), None)
    assert len(page.encode()) <= 5_000_000
    pictures = [a["aria-label"] for a in Reader(page).of("svg") if a.get("role") == "img"]
    assert len(pictures) == 24
    assert pictures[0].startswith("Line chart of series-0500.")
    assert any(label.startswith("Line chart of series-0999.") for label in pictures)  # the largest
    assert all(page.count(f">{uid}<") for uid in ids)


def test_a_chart_stays_small_and_is_the_same_every_time():
    table = table_of(["a"], horizon=3000)
    (vintage,) = views.vintages_of(table)
    history = history_of(["a"], rows=8000)
    noise = np.random.default_rng(0).normal(size=len(history.panel))
    history.panel["y"] += noise
    (view,) = views.views_of(vintage, history)
    once, again = (charts.draw(view, timezone="Europe/Rome", label="x", number=1) for _ in range(2))
    assert once == again
    assert len(once) < 60_000
    assert "#0000" not in once


def test_what_came_after_the_origin_is_no_part_of_the_history():
    (vintage,) = views.vintages_of(table_of(["a"]))
    (view,) = views.views_of(vintage, history_of(["a"], until=ORIGIN + pd.Timedelta("6h")))
    assert view.past_ds.max() == np.datetime64("2024-03-20T22:00")
    assert np.isfinite(view.actual).tolist() == [True] * 6 + [False] * 18


def test_a_table_without_rows_is_refused_with_what_to_do(page_of):
    with pytest.raises(UsageError, match="forecastcore predict"):
        page_of(history_of(["a"]), table_of(["a"]).iloc[:0])


def test_without_matplotlib_the_error_says_how_to_install_it(page_of, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'forecastcore\[report\]'"):
        page_of(history_of(["a"]), table_of(["a"]))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.012345, "0.0123"),
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (-1234567.8, "-1,234,568"),
        (1e-9, "1.00e-09"),
        (float("nan"), words.NOTHING),
        (None, words.NOTHING),
    ],
)
def test_numbers_have_three_significant_digits(value, shown):
    assert words.number(value) == shown


@pytest.mark.parametrize(
    ("alias", "word"),
    [("h", "hour"), ("30min", "30 minutes"), ("D", "day"), ("W-MON", "week"), ("MS", "month"), ("QE", "quarter")],
)
def test_frequencies_have_names(alias, word):
    assert words.frequency(alias) == word
