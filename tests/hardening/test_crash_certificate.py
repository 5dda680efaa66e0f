"""Commands killed at every named point, started again, and looked at: docs/crash-certificate.md is made of this run."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import uuid
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from forecastcore import runtime
from forecastcore.project import Project
from forecastcore.testing.databricks.fixture import databricks, databricks_environments
from forecastcore.tracking.ledger import standing
from forecastcore.vintages import newest
from tests.conftest import small_history
from tests.support import commands, postgres, prefect_server, sinks
from tests.support.azurite import server as azurite
from tests.support.spark import closing_session, connect_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
__all__ = ["connect_server", "databricks", "databricks_environments"]

ROOT = Path(__file__).parents[2]
SEED = 20261127
HORIZON, SERIES = 12, 3
#: what may stand nowhere but in the environment
SECRETS = {"HOOK_SECRET": "cnry-hook/signing+key=of@hook", "HOOK_TOKEN": "cnry-token-of-the-hook-address"}

RETRAIN, PREDICT = "forecastcore.runs.retrain", "forecastcore.runs.predict"
MAKING = "forecastcore.runs.making"
RUN, REGISTRY = "forecastcore.tracking.store:_ParentRun", "forecastcore.tracking.registry"
CLAIMED, POINT = "forecastcore.tracking.ledger:Ledger._claimed", f"{REGISTRY}:Registry.point"
PUBLISH, BACKFILLED = f"{PREDICT}:_publish", "forecastcore.runs.backfill:predict"

POINTS = {
    "retrain": {
        "history read": "forecastcore.runtime:history:after:1",
        "MLflow run begun": f"{RUN}.__enter__:after:1",
        "first piece of work kept": "forecastcore.engines.kept:KeptAnswers._keep:after:1",
        "candidates compared": f"{RETRAIN}:hold_contest:after:1",
        "leaderboard recorded": f"{RETRAIN}:log_contest:after:1",
        "model packed": "forecastcore.package:Package.seal:after:1",
        "model files stored": f"{REGISTRY}:_upload:after:1",
        "version registered": f"{REGISTRY}:Registry.add:after:1",
        "challenger named": f"{POINT}:after:1",
        "gate decided": f"{RETRAIN}:judge:after:1",
        "before the ledger's entry": f"{CLAIMED}:before:1",
        "ledger's entry written": f"{CLAIMED}:after:1",
        "before the champion's alias": f"{CLAIMED}:after:1 > {POINT}:before:1",
        "champion's alias set": f"{CLAIMED}:after:1 > {POINT}:after:1",
        "decision settled": f"{RETRAIN}:settle:after:1",
        "before the MLflow run ends": f"{RUN}.__exit__:before:1",
        "MLflow run ended": f"{RUN}.__exit__:after:1",
    },
    "predict": {
        "history read": "forecastcore.runtime:history:after:1",
        "model loaded": f"{PREDICT}:_served:after:1",
        "MLflow run begun": f"{RUN}.__enter__:after:1",
        "first piece of work kept": "forecastcore.engines.kept:KeptAnswers._keep:after:1",
        "rows made": f"{MAKING}:serve:after:1",
        "audited": f"{PREDICT}:_audited:after:1",
        "before the first sink": f"{PUBLISH}:before:1",
        "first of the sinks delivered": f"{PREDICT}:_delivery:after:1",
        "half of the sinks delivered": f"{PREDICT}:_delivery:after:3",
        "first scenario delivered": f"{PUBLISH}:after:1",
        "in the second scenario": f"{PREDICT}:_delivery:after:8",
        "all delivered": f"{PUBLISH}:after:2",
        "figures recorded": f"{PREDICT}:_track:after:1",
        "before the MLflow run ends": f"{RUN}.__exit__:before:1",
        "MLflow run ended": f"{RUN}.__exit__:after:1",
    },
    "backfill": {
        "history read": "forecastcore.runtime:history:after:{n}",
        "before a vintage": f"{BACKFILLED}:before:{{n}}",
        "model loaded": f"{PREDICT}:_served:after:{{n}}",
        "MLflow run begun": f"{RUN}.__enter__:after:{{n}}",
        "rows made": f"{MAKING}:serve:after:{{n}}",
        "audited": f"{PREDICT}:_audited:after:{{n}}",
        "before the first sink": f"{PUBLISH}:before:{{n}}",
        "first of the sinks delivered": f"{PUBLISH}:before:{{n}} > {PREDICT}:_delivery:after:1",
        "half of the sinks delivered": f"{PUBLISH}:before:{{n}} > {PREDICT}:_delivery:after:3",
        "all delivered": f"{PUBLISH}:after:{{n}}",
        "before the MLflow run ends": f"{RUN}.__exit__:before:{{n}}",
        "a vintage made": f"{BACKFILLED}:after:{{n}}",
    },
    "promote": {
        "project read": "forecastcore.runtime:store:after:1",
        "version found": "forecastcore.runs.promotion:existing:after:1",
        "decision begun": "forecastcore.tracking.store:MlflowStore.append:before:1",
        "ledger found": "forecastcore.tracking.ledger:Ledger.ensure:after:1",
        "before the ledger's entry": f"{CLAIMED}:before:1",
        "ledger's entry written": f"{CLAIMED}:after:1",
        "entry read back": "forecastcore.tracking.ledger:Ledger.append:after:1",
        "aliases begun": "forecastcore.tracking.store:MlflowStore._repoint:before:1",
        "before the first alias": f"{POINT}:before:1",
        "first alias set": f"{POINT}:after:1",
        "before the second alias": f"{POINT}:before:2",
        "second alias set": f"{POINT}:after:2",
        "decision done": "forecastcore.runs.promotion:promote:after:1",
    },
}
UPLOAD, TRANSACTION = "azure.storage.blob:ContainerClient.upload_blob", "deltalake:DeltaTable.create_write_transaction"
WORKBOOK = "xlsxwriter:Workbook.close"
#: within a publish, sink by sink
FILES = {
    f"{what} ({when})": f"os:{call}:{when}:{nth}"
    for what, call, when, nth in [
        ("rows on the disk", "fsync", "before", 1),
        ("vintage put in place", "link", "before", 1),
        ("vintage put in place", "link", "after", 1),
        ("latest put in place", "replace", "before", 1),
        ("latest put in place", "replace", "after", 1),
        ("memory of latest put in place", "replace", "after", 2),
    ]
}
WITHIN = {
    "parquet": FILES,
    "csv": FILES,
    "excel": {
        **FILES,
        "workbook made (before)": f"{WORKBOOK}:before:1",
        "workbook put in place (before)": f"{WORKBOOK}:after:1 > os:replace:before:1",
        "workbook put in place (after)": f"{WORKBOOK}:after:1 > os:replace:after:1",
        "memory of workbook put in place (after)": f"{WORKBOOK}:after:1 > os:replace:after:2",
    },
    "delta": {
        "rows on the disk (before)": "os:fsync:before:1",
        **{
            f"{what} ({when})": f"{TRANSACTION}:{when}:{nth}"
            for nth, what in ((1, "table committed"), (2, "latest committed"))
            for when in ("before", "after")
        },
    },
    "azure-blob": {
        f"{what} ({when})": f"{UPLOAD}:{when}:{nth}"
        for nth, what in enumerate(("rows", "manifest", "latest", "pointer"), 1)
        for when in ("before", "after")
    },
    "sql": {
        f"{what} ({when})": f"{call}:{when}:1"
        for what, call in (("rows loaded", "forecastcore_sql.sink:_load"), ("committed", "psycopg:Connection.commit"))
        for when in ("before", "after")
    },
    "webhook": {f"receiver told ({when})": f"httpx:Client.post:{when}:1" for when in ("before", "after")},
}
EVERY = "all"
IN_SINKS = [(sink, point) for sink, points in WITHIN.items() for point in points]
CASES = [
    *(("retrain", point, EVERY) for point in POINTS["retrain"]),
    *(("promote", point, EVERY) for point in POINTS["promote"]),
    *((command, point, EVERY) for command in ("predict", "backfill") for point in POINTS[command]),
    *((command, point, sink) for command in ("predict", "backfill") for sink, point in IN_SINKS),
]


# -- the places that commands deliver to


@dataclass
class Places:
    """Servers for sinks, and the settings of a set of sinks with names that nobody has used."""

    database: str
    storage: str
    hook: object
    environment: dict[str, str] = field(default_factory=dict)

    def sinks(self, names: list[str]) -> list[dict]:
        import psycopg
        from psycopg import sql

        word = f"c{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(word)))
        made = {
            "parquet": {"path": "out/parquet"},
            "csv": {"path": "out/csv"},
            "excel": {"path": "out/people/excel"},
            "delta": {"path": "out/delta"},
            "sql": {"url": "${env:SINK_URL}", "schema_name": word},
            "azure-blob": {
                "container": "crashes",
                "path": word,
                "credential": {"connection_string": "${env:SINK_STORAGE}"},
            },
            "webhook": {
                "url": f"http://{sinks.at(self.hook)}/${{env:HOOK_TOKEN}}",
                "secret": "${env:HOOK_SECRET}",
                "attempts": 1,
            },
        }
        return [{"type": name, **made[name]} for name in names]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    from azure.storage.blob import BlobServiceClient

    with (
        postgres.running() as database,
        azurite.running() as storage,
        sinks.posts(tmp_path_factory.mktemp("hook")) as hook,
        BlobServiceClient.from_connection_string(storage) as service,
    ):
        service.create_container("crashes")
        environment = {"SINK_URL": database, "SINK_STORAGE": storage, **SECRETS}
        yield Places(database, storage, hook, environment)


@pytest.fixture(scope="module")
def nursery():
    with commands.Commands() as started:
        yield started


# -- a project that has lived a little


@dataclass
class Scene:
    """A project whose state and settings can be put back, for each case to begin alike."""

    site: object
    kept: Path
    cache: Path
    settings: dict

    def again(self, **settings):
        shutil.rmtree(self.site.folder)
        shutil.copytree(self.kept, self.site.folder, symlinks=True)
        shutil.rmtree(self.cache, ignore_errors=True)
        return self.site.write(**{**dict.fromkeys(self.site.settings), **self.settings, **settings})


@pytest.fixture(scope="module")
def scene(tmp_path_factory, site_of, empty_store):
    """Version 1, a naive one, is champion; version 2 waits; one vintage has been delivered."""
    root = tmp_path_factory.mktemp("crashes")
    folder, cache = root / "site", root / "cache"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECASTCORE_CACHE", str(cache))
        # the season of a day is learned by one of them only: it is promoted
        site = site_of(folder, models=[{"type": "naive"}], horizon=HORIZON)
        site.write(small_history(series=SERIES, days=14), scenarios={"what-if": {}})
        site.write(backtest={"folds": 8, "stride": 12})
        site.write(sinks=[{"type": "parquet", "path": "out/parquet"}])
        site.retrain()
        site.retrain("models=[{type: seasonal-naive}]", promote=False)
        site.write(models=[{"type": "naive"}, {"type": "seasonal-naive"}])
        shutil.copytree(folder, root / "kept", symlinks=True)
        yield Scene(site, root / "kept", cache, dict(site.settings))


BROKEN = "tests.hardening.test_crash_certificate:broken"
WORDS = {
    "retrain": ["retrain"],
    "predict": ["predict", "--scenario", "base", "--scenario", "what-if"],
    "backfill": ["backfill", "--from", "2024-03-13T21:00Z", "--to", "2024-03-13T23:00Z", "--model", "1"],
    "promote": ["models", "promote", "2"],
}


# -- the invariants


def broken(path: str, *, delivered: bool, after_all: bool) -> list[str]:
    """Which invariants do not hold in MLflow and in every sink that can be read."""
    project = Project.load(path)
    store = runtime.store(project)
    found = []
    if after_all:
        if left := store.left_running():
            found.append(f"I5: {[run.name for run in left]} RUNNING in MLflow")
        champion, _ = standing(store.ledger())
        aliases = store._registry.aliases()
        if store.astray() or aliases.get("champion") != champion:
            found.append(f"I6: {aliases} where the ledger says {champion}")
    versions = {version.version for version in store.versions()}
    for label, sink in project.sinks():
        if getattr(sink, "only_tells", False):
            continue
        rows = sink.read().to_pandas()
        if delivered and after_all and not len(rows):
            found.append(f"I1: {label} has nothing")
        found += [f"{code} in {label}" for code in _wrong(rows, versions)]
        if after_all and len(rows) and _stale(sink):
            found.append(f"I3: the latest of {label} is another than the newest")
    return found


def _wrong(rows, versions):
    if not len(rows):
        return
    ids = {chr(97 + number) for number in range(SERIES)}
    for _, vintage in rows.groupby("run_key"):
        if len(vintage) != SERIES * HORIZON:
            yield "I3: a part of a vintage"
        if set(vintage["unique_id"]) != ids:
            yield "I1: other series"
    if rows.duplicated(["run_key", "scenario", "unique_id", "issued_at", "ds"]).any():
        yield "I2: a row twice"
    # beside a vintage that a stand-in made, the champion's own may stand once it serves again
    good = rows[rows["status"] == "ok"]
    if good.groupby(["scenario", "issued_at"])["run_key"].nunique().gt(1).any():
        yield "I2: two vintages of one origin"
    told = rows[["model", "model_version", "status", "assumed_by", "run_key"]]
    # where no version can be loaded the last season serves, and says why
    stands_in = (rows["model_version"] == "none") & (rows["status"] != "ok") & (rows["reason"] != "")
    known = rows["model_version"].isin(versions) | stands_in
    if told.isna().any(axis=None) or not known.all() or (rows["model"] == "").any():
        yield "I8: rows that do not say what made them"


def _stale(sink):
    """Whether what stands beside the table for people who want the newest only is another; not where that is a view."""
    import pandas as pd
    from deltalake import DeltaTable

    folder, rows = Path(getattr(sink, "path", "") or ""), sink.read()
    keys, want = ["unique_id", "scenario", "ds", "run_key"], newest([rows]).to_pandas()
    match type(sink).__name__:
        case "DeltaSink":
            latest = DeltaTable(folder.with_name("forecast_latest")).to_pandas()
        case "ParquetSink":
            latest = pd.read_parquet(folder.with_name("forecast_latest.parquet"))
        case "ExcelSink":  # the newest vintage alone, without its key
            keys, want = ["unique_id", "scenario", "valid_time_utc", "issued_at_local"], rows.to_pandas()
            want = want[want["issued_at"] == want.groupby("scenario")["issued_at"].transform("max")]
            latest = pd.read_excel(sink.workbook)
            want = want.assign(
                **{
                    name: want[ours].dt.tz_localize(None)
                    for name, ours in zip(keys[2:], ("ds", "issued_at"), strict=True)
                }
            )
        case _:
            return False
    latest, want = (frame[keys].sort_values(keys, ignore_index=True) for frame in (latest, want))
    return not latest.astype(want.dtypes).equals(want)


def leaks(site, *told):
    """Planted secrets in any file of the project, or in what was said; raw and url-encoded."""
    forms = [form.encode() for secret in SECRETS.values() for form in (secret, quote(secret, safe=""))]
    data = [path.read_bytes() for path in site.folder.rglob("*") if path.is_file()]
    data += [one.encode() for one in told]
    return ["I7: a secret was written"] if any(form in one for one in data for form in forms) else []


@dataclass
class Ground:
    """A case: its project, where its commands run, and what is put on record of it."""

    scene: Scene
    nursery: commands.Commands
    folder: Path
    record: object
    environment: dict[str, str]

    def begin(self, command: str, **settings) -> list[str]:
        """The words of the command on a project that is as it was before any case."""
        self.site = self.scene.again(**settings)
        self.environment |= {"FORECASTCORE_CACHE": str(self.scene.cache), "TMPDIR": str(self.folder)}
        self.command, self.said = command, []
        self.project = ["-v", "-p", str(self.site.folder / "forecast.yaml")]
        return [*self.project, *WORDS[command]]

    def run(self, words: list[str], kill: str = "") -> int:
        """One command, and how it ended."""
        ended = self.nursery.run(words, self.folder, kill=kill, **self.environment)
        self.said.append(ended.said)
        return ended.code

    def broken(self, *, after_all: bool) -> list[str]:
        """Which invariants do not hold."""
        delivered = self.command in {"predict", "backfill"}
        asked = {"path": self.project[2], "delivered": delivered, "after_all": after_all}
        return self.nursery.ask(BROKEN, self.folder, self.environment, **asked)

    def killed_and_started_again(self, command: str, kill: str, **settings) -> list[str]:
        """What does not hold after a kill, a restart and a reconcile."""
        words = self.begin(command, **settings)
        assert self.run(words, kill) == -signal.SIGKILL, f"the point is not on the way: {self.said[-1]}"
        return self.started_again(words)

    def started_again(self, words: list[str]) -> list[str]:
        """What does not hold of a command that has died, of its restart, and after a reconcile."""
        found = self.broken(after_all=False)
        if code := self.run(words):
            found.append(f"the restart ended with {code}: {self.said[-1][-300:]}")
        if code := self.run([*self.project, "reconcile", "--fix"]):
            found.append(f"I5: reconcile --fix ended with {code}")
        found += self.broken(after_all=True) + leaks(self.site, *self.said)
        if self.run([*self.project, "reconcile"]):
            found.append("I5: reconcile --fix left something")
        return found

    def certify(self, violations: list[str], **told: str) -> None:
        """Put the case on record."""
        kill = {"command": self.command, **told, "seed": SEED, "violations": violations}
        self.record("kill", json.dumps(kill))
        assert violations == []


@pytest.fixture
def ground(scene, nursery, tmp_path, record_property):
    return Ground(scene, nursery, tmp_path, record_property, dict(SECRETS))


def drawn(command: str, point: str, where: str) -> int:
    """At which passing of a point the kill comes, where it is passed three times: by lot."""
    return random.Random(SEED + zlib.crc32(f"{command}{point}{where}".encode())).randint(1, 3)


def meant(command: str, point: str, where: str) -> tuple[list[str], str]:
    """The sinks of a case, and its kill."""
    nth = drawn(command, point, where)
    if where == EVERY:
        return list(WITHIN), POINTS[command][point].format(n=nth)
    # in a sink, in one of the two scenarios, or of the three origins
    return [where], f"{PUBLISH}:before:{min(nth, 2) if command == 'predict' else nth} > {WITHIN[where][point]}"


# -- every point once, in processes of this machine


@pytest.mark.row(20, 21, seed="20261127")
@pytest.mark.parametrize(("command", "point", "where"), CASES, ids=lambda text: text.replace(" ", "-"))
def test_a_command_that_is_killed_and_started_again_leaves_everything_whole(command, point, where, places, ground):
    names, kill = meant(command, point, where)
    ground.environment |= places.environment
    found = ground.killed_and_started_again(command, kill, sinks=places.sinks(names))
    told = "none" if command in {"retrain", "promote"} else ", ".join(names)
    ground.certify(found, point=point, sinks=told, engine="local")


# -- on a cluster

AWAY = "forecastcore.engines.databricks"
AWAYS = {
    "what the run needs was brought": f"{AWAY}.submit:_bring:after:1",
    "before the submission": f"{AWAY}.submit:_posted:before:1",
    "submitted, and nothing noted yet": f"{AWAY}.submit:_posted:after:1",
    "submitted": f"{AWAY}.supervise:submit:after:1",
    "said that somebody waits": f"{AWAY}.wait:sign_of_life:after:1",
    "asked how it goes": f"{AWAY}.wait:_polled:after:2",
    "the run is over": f"{AWAY}.supervise:wait:after:1",
    "its report was fetched": f"{AWAY}.supervise:fetch:after:1",
}
FOLDERS = [{"type": name, "path": f"out/{name}"} for name in ("parquet", "delta")]
CLUSTER = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "200ms"}


@pytest.mark.row(3, 5, 20, seed="20261127")
@pytest.mark.parametrize("point", AWAYS, ids=lambda text: text.replace(" ", "-"))
@pytest.mark.parametrize("command", ["retrain", "predict"])
def test_a_command_that_waited_for_databricks_and_was_killed_finds_its_one_run(command, point, ground, databricks):
    ground.environment |= databricks.environment
    found = ground.killed_and_started_again(command, AWAYS[point], sinks=FOLDERS, engine=CLUSTER)
    # a command that had its report had come to its end: what is started again is another one
    runs = 2 if point == "its report was fetched" else 1
    if len(databricks.runs) != runs or databricks.live():
        found.append(f"I4: {len(databricks.runs)} runs, {len(databricks.live())} live")
    ground.certify(found, point=point, sinks="parquet, delta", engine="databricks (fake workspace)")


#: what a process of the cluster does first
DOOMED = f"""
import os, sys
if os.environ.get("DIE_AT"):
    sys.path.insert(0, {str(ROOT / "tests" / "support")!r})
    from publisher import arm
    arm(os.environ["DIE_AT"])
"""
IN_THE_RUN = [
    *(("retrain", point, EVERY) for point in POINTS["retrain"]),
    *(("predict", point, EVERY) for point in POINTS["predict"]),
    *(("backfill", point, EVERY) for point in POINTS["backfill"]),
    *(("predict", point, sink) for sink, point in IN_SINKS),
]


@pytest.mark.row(20, 21, seed="20261127")
@pytest.mark.parametrize(("command", "point", "where"), IN_THE_RUN, ids=lambda text: text.replace(" ", "-"))
def test_a_run_that_dies_on_databricks_and_is_started_again_leaves_everything_whole(
    command, point, where, places, ground, databricks, tmp_path
):
    """The command that waits for it lives on, and says so."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(DOOMED)
    names, kill = meant(command, point, where)
    ground.environment |= {**places.environment, **databricks.environment}
    there = databricks.cluster.environment
    there |= {**places.environment, **SECRETS, "PYTHONPATH": str(tmp_path / "first"), "DIE_AT": kill}
    words = ground.begin(command, sinks=places.sinks(names), engine=CLUSTER)
    assert ground.run(words) not in {0, 99}
    [died] = databricks.runs
    assert died.process.returncode == -signal.SIGKILL, f"the point is not on the way: {ground.said[-1]}"
    del there["DIE_AT"]
    found = ground.started_again(words)
    if len(databricks.runs) != 2 or databricks.live():
        found.append(f"I4: {len(databricks.runs)} runs, {len(databricks.live())} live")
    ground.certify(found, point=point, sinks=", ".join(names), engine="databricks (fake workspace), the run itself")


# -- on Spark

#: points that a predict or backfill with its history on the cluster, and with two sinks, does not pass
ELSEWHERE = {
    "history read",
    "first piece of work kept",
    "rows made",
    "half of the sinks delivered",
    "in the second scenario",
}
ON_SPARK = {
    "retrain": {
        "source looked at": "forecastcore.runs.history:find:after:1",
        "history checked": "forecastcore.runs.history:_spread:after:1",
        **{point: kill for point, kill in POINTS["retrain"].items() if point != "history read"},
    },
    "predict": {
        "source looked at": "forecastcore.runs.whereabouts:find:after:1",
        "shards made": "forecastcore.runs.sharded:Sharded.made:after:1",
        **{point: kill for point, kill in POINTS["predict"].items() if point not in ELSEWHERE},
    },
    "backfill": {
        "origins found": "forecastcore.runs.history:_spread:after:1",
        "source looked at": "forecastcore.runs.whereabouts:find:after:{n}",
        "shards made": "forecastcore.runs.sharded:Sharded.made:after:{n}",
        **{point: kill for point, kill in POINTS["backfill"].items() if point not in ELSEWHERE},
    },
}


@pytest.mark.row(20, seed="20261127")
@pytest.mark.parametrize(
    ("command", "point"), [(command, point) for command in ON_SPARK for point in ON_SPARK[command]]
)
def test_a_command_on_spark_that_is_killed_and_started_again_leaves_everything_whole(command, point, ground):
    kill = ON_SPARK[command][point].format(n=drawn(command, point, EVERY))
    spark = {"type": "spark", "master": "local[1]"}
    found = ground.killed_and_started_again(command, kill, sinks=FOLDERS, engine=spark)
    ground.certify(found, point=point, sinks="parquet, delta", engine="spark (local session)")


@pytest.mark.row(20, 21, seed="20261127")
@pytest.mark.parametrize(("sink", "point"), IN_SINKS, ids=lambda text: text.replace(" ", "-"))
def test_a_predict_on_spark_that_is_killed_in_a_sink_leaves_everything_whole(sink, point, places, ground):
    spark = {"type": "spark", "master": "local[1]"}
    ground.environment |= places.environment
    names, kill = meant("predict", point, sink)
    found = ground.killed_and_started_again("predict", kill, sinks=places.sinks(names), engine=spark)
    ground.certify(found, point=point, sinks=sink, engine="spark (local session)")


WRITER, SESSION = "pyspark.sql.connect.readwriter:DataFrameWriter", "pyspark.sql.connect.session:SparkSession"
IN_A_CATALOG = {
    f"{what} ({when})": f"{PUBLISH}:before:1 > {call}:{when}:1"
    for what, call in (("rows appended", f"{WRITER}.saveAsTable"), ("view made", f"{SESSION}.sql"))
    for when in ("before", "after")
}


@pytest.mark.row(20, seed="20261127")
@pytest.mark.parametrize("point", IN_A_CATALOG)
def test_a_table_of_a_catalog_is_whole_after_a_predict_was_killed_in_it(point, ground, connect_server, tmp_path):
    """A table of Parquet, made over Spark Connect: Spark's Delta is no Python package."""
    with closing_session(connect_server) as session:
        session.sql(f"CREATE SCHEMA s LOCATION '{tmp_path / 's'}'")
        table = {"type": "delta-table", "table": "s.forecasts", "remote": connect_server, "format": "parquet"}
        spark = {"type": "spark", "remote": connect_server}
        found = ground.killed_and_started_again("predict", IN_A_CATALOG[point], sinks=[table], engine=spark)
    ground.certify(found, point=point, sinks="delta-table", engine="spark (Connect)")


# -- as flows of Prefect

IN_FLOWS = [
    ("predict", "model loaded"),
    ("predict", "first of the sinks delivered"),
    ("retrain", "version registered"),
    ("retrain", "ledger's entry written"),
    ("backfill", "a vintage made"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with prefect_server.running(tmp_path_factory.mktemp("prefect")) as started:
        yield started


@pytest.mark.row(9, 17, 19, seed="20261127")
@pytest.mark.parametrize(("command", "point"), IN_FLOWS)
def test_a_flow_whose_process_is_killed_leaves_no_run_running(command, point, ground, server):
    ground.begin(command, sinks=FOLDERS)
    project = ["--project", ground.project[2]]
    words = [ROOT / "flows" / f"{command}.py", *project, *WORDS[command][1:]]
    kill = POINTS[command][point].format(n=2)

    def flow(*given):
        # into a file: whoever outlives a killed process would hold a pipe open
        command, log = [sys.executable, *map(str, given)], ground.folder / "flow.log"
        with log.open("w") as out:
            environment = {**server.environment, **ground.environment}
            done = subprocess.run(command, env=environment, cwd=ROOT, stdout=out, stderr=out, timeout=240, check=False)
        ground.said.append(log.read_text(errors="replace"))
        return done.returncode

    before = len(unended(server))
    assert flow(ROOT / "tests" / "support" / "commands.py", kill, *words) == -signal.SIGKILL, ground.said[-1]
    found = ground.broken(after_all=False)
    if len(unended(server)) != before + 1:
        found.append("the kill left no flow run Running, so nothing was tried")
    if code := flow(*words):
        found.append(f"the restart ended with {code}: {ground.said[-1][-300:]}")
    if code := flow(ROOT / "flows" / "reconcile.py", *project, "--fix"):
        found.append(f"I5: the reconcile flow ended with {code}: {ground.said[-1][-300:]}")
    if left := unended(server):
        found.append(f"I5: {left} in Prefect")
    found += ground.broken(after_all=True) + leaks(ground.site, *ground.said)
    ground.certify(found, point=point, sinks="parquet, delta", engine="local, as a flow of Prefect")


def unended(server):
    """Names and states of the flow runs that Prefect takes to go on."""
    with server.client() as client:
        return [f"{run.name} {run.state.name}" for run in client.read_flow_runs() if not run.state.is_final()]
