"""Hostile input: type traps, ids that are paths or SQL or endless, names that lead elsewhere, YAML and zip bombs."""

import io
import random
import time
import zipfile

import pandas as pd
import pytest
import yaml
from forecastcore_delta import DeltaSink
from forecastcore_files import CsvSink, ParquetSink

from forecastcore.errors import ConfigError, StateError
from forecastcore.state.arrays import entries_of
from forecastcore.testing import sample_vintage
from tests.conftest import small_history


def hours(ids=("a",), rows=240):
    """Texts as a CSV holds them."""
    ds = pd.date_range("2024-03-01", periods=rows, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    y = [str(10 + k % 24) for k in range(rows)]
    return pd.concat([pd.DataFrame({"unique_id": one, "ds": ds, "y": y}) for one in ids], ignore_index=True)


def column(frame, name, change):
    return frame.assign(**{name: [change(n, value) for n, value in enumerate(frame[name])]})


def epoch(unit):
    return lambda _, text: str(int(pd.Timestamp(text).timestamp() * unit))


def two_frequencies():
    days = pd.date_range("2024-03-01", periods=20).strftime("%Y-%m-%d")
    return pd.concat([hours(), pd.DataFrame({"unique_id": "daily", "ds": days, "y": "1"})])


#: what people's exports hold -> a word of the answer
TRAPS = {
    "decimal comma": (lambda: column(hours(), "y", lambda _, v: f"1.{v}4,5"), "set decimal:"),
    "a year of two digits": (
        lambda: column(hours(), "ds", lambda n, v: "00" * (n == 5) + v[2 * (n == 5) :]),
        "lie outside the years 1700 to 2200",
    ),
    "milliseconds since 1970": (lambda: column(hours(), "ds", epoch(1000)), "cannot be told apart"),
    "seconds since 1970": (lambda: column(hours(), "ds", epoch(1)), "cannot be told apart"),
    "some times with an offset": (
        lambda: column(hours(), "ds", lambda n, v: v + "+02:00" * (n == 7)),
        "of all of them, or of none",
    ),
    "true and false": (
        lambda: column(hours(), "y", lambda n, _: ("true", "false")[n % 2]),
        "true and false, not numbers",
    ),
    "beyond 64 bits": (lambda: column(hours(), "y", lambda n, v: v if n != 7 else "9" * 23), "do not fit into 64 bits"),
    "two frequencies": (two_frequencies, "a project of their own"),
    "Excel's dates": (lambda: column(hours(), "ds", lambda n, _: str(45352 + n / 24)), "not timestamps"),
    "no-break spaces in numbers": (lambda: column(hours(), "y", lambda _, v: f"1\u00a0{v}4"), "are no numbers"),
    "no-break space in ids": (lambda: hours(("a", "a\u00a0")), "share series and time"),
    "day first": (
        lambda: column(hours(), "ds", lambda _, v: f"{v[8:10]}/{v[5:7]}/{v[:4]}{v[10:]}"),
        "are no timestamps",
    ),
    "an id of 10 kB": (lambda: hours(("x" * 10_240,)), "more than 1000 letters"),
}


@pytest.fixture
def table(make_site):
    """A site whose source is a CSV of texts."""

    def of(frame, encoding="utf-8"):
        site = make_site(bare=True, source={"type": "csv", "path": "h.csv"})
        (site.folder / "h.csv").write_text(frame.to_csv(index=False), encoding=encoding)
        return site

    return of


@pytest.mark.row(47)
@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_caught_by_validate_data_with_what_to_do(trap, table):
    make, words = TRAPS[trap]
    told = table(make()).cli("validate", "--data")
    assert told.code == 4, told.out
    assert words in told.err
    assert len(told.err) < 2000


@pytest.mark.row(47)
@pytest.mark.parametrize(
    ("ids", "encoding"),
    [(("007", "7"), "utf-8"), (("99999999999999999999", "9007199254740993"), "utf-8"), (("a", "b"), "utf-8-sig")],
    ids=["leading zeros", "ids beyond 64 bits", "a byte order mark"],
)
def test_what_can_be_read_as_it_is_stays_as_it_is(ids, encoding, table):
    from forecastcore import runtime

    site = table(hours(ids), encoding)
    assert site.cli("validate", "--data").code == 0
    assert sorted(runtime.history(site.project()).ids) == sorted(ids)


# fmt: off
PATHS = [
    "..", ".", "/", "\\", "~", "~root", "a/..", "a/../../b", "../../../etc/passwd", "/etc/passwd",
    "//etc/passwd", "./../x", "..\\..\\windows\\win.ini", "C:\\windows\\win.ini", "C:win.ini",
    "\\\\host\\share\\x", "//host/share/x", "\\\\?\\C:\\x", "%2e%2e%2fx", "%252e%252e%252fx", "..%2fx",
    "..%252f..%252fx", "%c0%ae%c0%ae/x", "..%c1%9cx", "\u2025/x", "\uff0e\uff0e/x", "a\x00b", "a\nb", "a\rb",
    "a\tb", "x/", "/x/", "CON", "NUL", "aux.txt", "LPT1", "x:stream", ".hidden", "-rf", "--help",
]
# fmt: on
# fmt: off
SQL = [
    "'", '"', "`", ";", "--", "a'--", "' OR '1'='1", "' OR 1=1 --", "'; DROP TABLE forecasts; --",
    '"; DROP TABLE forecasts; --', "a'; DELETE FROM forecasts WHERE 'a'='a", "') OR ('1'='1",
    "1; SELECT pg_sleep(9)", "' UNION SELECT sql FROM sqlite_master --", "%", "_", "\\'", "\\",
    "a\\' OR 1=1 --", "$$; DROP TABLE forecasts; $$", ":name", "%s", "%(x)s", "?", "{0}", "@@version", "/* */",
    "'/**/OR/**/1=1", "\u02bc OR 1=1", "admin'/*",
]
# fmt: on


def test_there_are_as_many_as_asked_for():
    assert (len(PATHS), len(set(PATHS)), len(SQL), len(set(SQL))) == (40, 40, 30, 30)


def refused(site, **settings):
    try:
        site.write(**settings).project()
    except ConfigError as error:
        return bool(error.problems) and all(problem.line for problem in error.problems)
    return False


@pytest.mark.row(51, trials=40)
def test_no_path_becomes_a_name(make_site):
    site = make_site(bare=True, assumptions={"w": {"type": "climatology", "window_days": 5}})
    passed = [text for text in PATHS if not refused(site, name=text)]
    site.write(name="small")
    with pytest.raises(ConfigError) as all_at_once:
        site.write(scenarios={text: {"w": {"type": "persistence"}} for text in PATHS}).project()
    told = {problem.key for problem in all_at_once.value.problems}
    passed += [text for text in PATHS if f"scenarios.{text}" not in told]
    # letters and a dash are a name, and the same in every file system
    assert set(passed) <= {"CON", "NUL", "LPT1", "-rf", "--help"}


@pytest.mark.row(51, 52, trials=35)
@pytest.mark.slow
@pytest.mark.parametrize("payloads", [PATHS, SQL], ids=["paths", "sql"])
def test_ids_that_are_paths_or_sql_are_series_like_others_and_nothing_lands_elsewhere(payloads, make_site):
    ids = sorted(dict.fromkeys(payloads))
    one = small_history(series=1).assign(unique_id="")
    history = pd.concat([one.assign(unique_id=text) for text in ids], ignore_index=True)
    sinks = [{"type": kind, "path": f"out/{kind}"} for kind in ("parquet", "csv", "delta")]
    site = make_site(history, models=[{"type": "seasonal-naive"}], sinks=sinks)
    before = set(site.folder.parent.iterdir())
    site.retrain()
    assert all(not told.error for told in site.predict().published)
    # the reader of a CSV, and the quality check, may strip blanks around an id; nothing else of it changes
    assert sorted(site.table()["unique_id"].unique()) == ids
    for sink in sinks[::2]:
        again = site.write(sinks=[sink]).table()
        assert sorted(again["unique_id"].unique()) == ids
    assert {path.name for path in set(site.folder.parent.iterdir()) - before} <= {"cache"}
    names = {path.name for path in site.folder.rglob("*")}
    assert not names & (set(ids) - {"."})


@pytest.mark.row(51, trials=10000)
def test_ten_thousand_random_ids_lead_no_file_elsewhere(tmp_path):
    rng = random.Random(51)
    letters = [
        *"./\\:~%?*|<>\"'`$;&\0\n\r\t -ab0\u2025\uff0e\uff0f\u202e\ufeff",
        "..",
        "../",
        "%2e",
        "%252e",
        "CON",
        "NUL",
    ]
    ids = sorted({"".join(rng.choices(letters, k=rng.randint(1, 40))) for _ in range(10_500)})[:10_000]
    assert len(ids) == 10_000
    vintage = sample_vintage(series=ids, horizon=1)
    for kind in (ParquetSink, CsvSink, DeltaSink):
        folder = tmp_path / kind.__name__
        sink = kind(folder / "out" / "forecasts")
        sink.publish(vintage, vintage["run_key"][0].as_py())
        assert sorted(sink.read()["unique_id"].to_pylist()) == ids
        assert {path.name for path in folder.iterdir()} == {"out"}
        assert not {path.name for path in folder.rglob("*")} & set(ids)
    assert {path.name for path in tmp_path.iterdir()} == {"ParquetSink", "CsvSink", "DeltaSink"}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(9 * ['*' + chr(97 + n)])}]\n" for n in range(9)
)
YAMLS = {
    "anchors": BOMB,
    "an anchor that holds itself": "name: &a [*a]\n",
    "python/object": "name: !!python/object/apply:os.system ['touch CANARY']\n",
    "python/object/new": "name: !!python/object/new:subprocess.Popen [['touch', 'CANARY']]\n",
    "python/name": "name: !!python/name:os.system\n",
    "python/module": "name: !!python/module:evil\n",
    "another tag": "name: !evil x\n",
    "Jinja": "name: \"{{ ''.__class__.__mro__[1].__subclasses__() }}\"\n",
    "Jinja that calls": "name: \"{{ cycler.__init__.__globals__.os.popen('touch CANARY') }}\"\n",
    "nested without end": "name: " + "[" * 50_000 + "\n",
    "nested mappings": "".join(" " * n + "a:\n" for n in range(2_000)),
    "a huge number": "name: x\nhorizon: " + "9" * 100_000 + "\n",
    "sexagesimal": "horizon: 1:1:1:1:1:1:1:1:1:1:1:1\n",
    "a reference in a reference": "name: x\nsource: {type: parquet, path: '${env:${env:${env:HOME}}}'}\n",
    "NUL": 'name: "a\\0b"\n',
    "not UTF-8": b"name: \xff\xfe\n",
}


@pytest.mark.row(61)
@pytest.mark.parametrize("case", YAMLS)
def test_a_hostile_project_file_is_answered_in_words_and_nothing_runs(case, tmp_path, monkeypatch):
    import forecastcore as fc

    monkeypatch.chdir(tmp_path)
    text = YAMLS[case]
    (tmp_path / "forecast.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    with pytest.raises(ConfigError) as refused:
        fc.Project.load(tmp_path / "forecast.yaml")
    assert time.process_time() - began < 5  # a second on an idle machine
    assert len(str(refused.value)) < 20_000
    assert not (tmp_path / "CANARY").exists()


@pytest.mark.row(61)
def test_env_references_are_read_once_and_what_they_hold_is_text(make_site, monkeypatch):
    monkeypatch.setenv("A", "${env:B}")
    monkeypatch.setenv("B", "secret")
    project = make_site(bare=True).project()
    assert project.resolved("${env:A}${env:A}", ("source",)) == "${env:B}${env:B}"


def bomb(layers=1):
    data = b"\0" * 50_000_000
    for _ in range(layers):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("arrays.npz", data)
        data = sink.getvalue()
    return data


@pytest.mark.row(48)
def test_a_zip_bomb_is_no_model():
    data = bomb()
    assert len(data) < 100_000
    with pytest.raises(StateError, match="compressed"):
        entries_of(data, "arrays.npz")


def test_the_schema_of_a_hostile_file_is_still_yaml():
    assert yaml.safe_load(BOMB.split("\n", 1)[0]), "the bomb's first layer is lawful: what grows is what it is used for"
