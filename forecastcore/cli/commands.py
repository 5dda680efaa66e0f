"""What each command does: a JSON-able document and an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastcore.cli.progress import Progress
from forecastcore.errors import ForecastCoreError, UsageError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from forecastcore.host import Host
    from forecastcore.messages import ModelVersion, PredictReport, RetrainReport
    from forecastcore.project import Project

__all__ = ["run"]

OK, FAILED, DEGRADED, HELD = 0, 1, 3, 4

Document = dict[str, Any]


def run(options: Namespace) -> tuple[Document, int]:
    """Carry out a parsed command line."""
    name = "_".join(part for part in (options.command, getattr(options, "action", None)) if part)
    work: Callable[[Namespace], tuple[Document, int]] = _COMMANDS[name]
    return work(options)


def _project(options: Namespace) -> Project:
    from forecastcore.project import Project

    path = options.project or os.path.relpath(Project.find())  # errors name the file as one would type it
    overrides = [*_engine(path, getattr(options, "on", None)), *(options.overrides or ())]
    return Project.load(path, overrides=overrides, plugins=options.plugin or ())


def _engine(path: str | Path, on: str | None) -> list[str]:
    """The override that `--on` is: none where the file says so itself, with its settings."""
    from forecastcore.config import read

    said = read(path).document.data if on else None
    engine = said.get("engine") if isinstance(said, dict) else None
    same = isinstance(engine, dict) and engine.get("type", "local") == on
    return [f"engine={{type: {on}}}"] if on and not same else []


def _head(command: str, project: str = "") -> Document:
    return {
        "schema": f"forecastcore/{command.replace(' ', '-')}/1",
        "command": command,
        **({"project": project} if project else {}),
    }


def _demo(options: Namespace) -> tuple[Document, int]:
    from forecastcore.demo import run_demo

    told = run_demo(Path(options.folder), Progress(), overrides=options.overrides or ())
    return {**_head("demo"), **told}, OK


def _init(options: Namespace) -> tuple[Document, int]:
    from forecastcore import templates

    root = templates.write(options.template, Path(options.folder))
    return {
        **_head("init"),
        "template": options.template,
        "folder": str(root),
        "files": sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()),
    }, OK


def _validate(options: Namespace) -> tuple[Document, int]:
    project = _project(options)
    document = {
        **_head("validate", project.config.name),
        "file": str(project.path),
        "valid": True,
        "candidates": [c.as_dict() for c in project.candidates()],
    }
    if options.data:
        from forecastcore.runs.looking import Question
        from forecastcore.runs.whereabouts import to_look_at

        history = to_look_at(project).looked_at(Question())
        document["data"] = {
            "series": len(history.seen.ids),
            "rows": history.seen.rows,
            "first": history.first.isoformat(),
            "origin": history.origin.isoformat(),
            "quality": history.seen.counts,
            "served_by_fallback": history.seen.screened,
            "notes": [*history.notes],
        }
    return document, OK


def _doctor(options: Namespace) -> tuple[Document, int]:
    import dataclasses

    from forecastcore import doctor
    from forecastcore.project import Project

    try:
        path = options.project or Project.find()
    except UsageError:
        path = None
    findings = doctor.examine(
        path, overrides=options.overrides or (), plugins=options.plugin or (), secure=options.security
    )
    broken = any(finding.status == "failed" for finding in findings)
    return {**_head("doctor"), "checks": [dataclasses.asdict(one) for one in findings]}, FAILED if broken else OK


def _retrain(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.retrain import retrain

    report = retrain(_project(options), options.as_of, promote=not options.no_promote, steps=Progress())
    return report.to_json(), _retrain_code(report, require=options.require_promotion)


def _retrain_code(report: RetrainReport, *, require: bool) -> int:
    promoted = report.champion_after is not None and report.champion_after == report.challenger
    return HELD if require and not promoted else DEGRADED if report.deferred else OK


def _predict(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.predict import predict

    report = predict(
        _project(options), options.as_of, options.scenario or ("base",), model=options.model, steps=Progress()
    )
    return report.to_json(), _predict_code(report)


def _predict_code(report: PredictReport) -> int:
    if any(publication.error for publication in report.published):
        return FAILED
    return DEGRADED if report.series.degraded or report.series.failed else OK


def _plan_retrain(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.plan import plan_retrain

    project = _project(options)
    planned = plan_retrain(project, options.as_of, promote=not options.no_promote)
    return {**_head("plan retrain", project.config.name), **planned}, OK


def _plan_predict(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.plan import plan_predict

    project = _project(options)
    planned = plan_predict(project, options.as_of, options.scenario or ("base",), model=options.model)
    return {**_head("plan predict", project.config.name), **planned}, OK


def _backfill(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.backfill import backfill

    scenarios = options.scenario or ("base",)
    report = backfill(
        _project(options),
        options.first,
        options.last,
        every=options.every,
        scenarios=scenarios,
        model=options.model,
        jobs=options.jobs,
        steps=Progress(),
    )
    degraded = any(origin.status == "degraded" for origin in report.origins)
    return report.to_json(), FAILED if report.failed else DEGRADED if degraded else OK


def _backup(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.backup import backup

    project = _project(options)
    return {**_head("backup", project.config.name), **backup(project, options.archive, Progress())}, OK


def _restore(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.backup import restore

    project = _project(options)
    told = restore(project, options.archive, digest=options.digest, yes=options.yes, steps=Progress())
    return {**_head("restore", project.config.name), **told}, OK


def _rollback_vintage(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.shelves import rollback_vintage

    project = _project(options)

    def take_back(**how: bool) -> Document:
        report = rollback_vintage(project, options.issued_at, scenario=options.scenario, reason=options.reason, **how)
        return report.to_json()

    return _once_agreed(options, project, tell=lambda: take_back(dry_run=True), act=take_back), OK


def _once_agreed(
    options: Namespace, project: Project, *, tell: Callable[[], Document], act: Callable[[], Document]
) -> Document:
    """Undo something: with `--dry-run` it is only told, at a terminal the project's name must be typed first.

    Raises:
        UsageError: something else was typed.
    """
    from forecastcore.cli import render

    if options.dry_run:
        return tell()
    if not options.yes and sys.stdin.isatty():
        name = project.config.name
        sys.stderr.write(f"{render.text(tell())}\ntype {name} to go on: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != name:
            raise UsageError("nothing was changed: the project's name was not typed", hint="--yes does not ask")
    return act()


def _monitor(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.monitor import monitor

    project = _project(options)
    report = monitor(project, options.as_of, last=options.last, steps=Progress())
    if options.act and report.advice:
        from forecastcore.runs.acting import act

        report = act(project, report, steps=Progress())
    return report.to_json(), DEGRADED if report.advice else OK


def _drill(options: Namespace) -> tuple[Document, int]:
    import dataclasses
    import tempfile

    from forecastcore import drill

    project = _project(options)
    with tempfile.TemporaryDirectory(prefix="forecastcore-drill-") as folder:
        checks = drill.rehearse(
            options.kind,
            project,
            Path(folder),
            Progress(),
            plugins=tuple(options.plugin or ()),
            overrides=tuple(options.overrides or ()),
        )
    passed = all(check.passed for check in checks)
    told = {"kind": options.kind, "passed": passed, "checks": [dataclasses.asdict(check) for check in checks]}
    return {**_head("drill", project.config.name), **told}, OK if passed else FAILED


def _diff(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.diff import diff

    project = _project(options)
    told = diff(project, options.one, options.two, scenario=options.scenario, top=options.top)
    return {**_head("diff", project.config.name), **told}, OK


def _failures(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.failures import failures

    project = _project(options)
    told = failures(project, options.run, scenario=options.scenario)
    return {**_head("failures", project.config.name), **told}, OK


def _logs(options: Namespace) -> tuple[Document, int]:
    from forecastcore.cli.render import log_line
    from forecastcore.runs.logs import follow, logs

    project = _project(options)
    if not options.follow:
        return {**_head("logs", project.config.name), **logs(project, options.run)}, OK
    for line in follow(project, options.run):
        if not options.json:
            print(log_line(line.to_json()), flush=True)
    told = logs(project, options.run)
    return {**_head("logs", project.config.name), **told, **({} if options.json else {"shown": True})}, OK


def _explain(options: Namespace) -> tuple[Document, int]:
    from dataclasses import asdict

    from forecastcore.config.words import did_you_mean
    from forecastcore.explaining.codes import codes

    if options.key in codes():
        return {**_head("explain"), "code": options.key, **asdict(codes()[options.key])}, OK
    if not {"@", "+"} & set(options.key):
        hint = did_you_mean(options.key, codes()) or "a row is SERIES@MOMENT or SERIES+STEP"
        raise UsageError(f"{options.key!r} is neither a code nor a row of the table", hint=hint)
    from forecastcore.runs.explain import explain

    project = _project(options)
    told = explain(project, options.key, issued_at=options.issued_at, scenario=options.scenario)
    return {**_head("explain", project.config.name), **told}, OK


def _status(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.status import status

    project = _project(options)
    told = status(project)
    return {**_head("status", project.config.name), **told}, DEGRADED if told["freshness"]["stale"] else OK


def _backtest(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.contest import backtest

    return backtest(_project(options), options.as_of, steps=Progress()).to_json(), OK


def _reconcile(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.reconcile import reconcile

    project = _project(options)
    found = reconcile(project, fix=options.fix)
    head = _head("reconcile", project.config.name)
    told = {"fix": options.fix, "orphans": found.orphans, "unasked": found.unasked, "left": found.left}
    return {**head, **told}, FAILED if found.left else OK


def _bundle(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.bundle import bundle

    project = _project(options)
    told = bundle(project, Path(options.folder).absolute() if options.folder else None)
    return {**_head("bundle", project.config.name), **told}, OK


def _schema(options: Namespace) -> tuple[Document, int]:
    from forecastcore.host import Host
    from forecastcore.schema import json_schema

    options.json = True  # a schema is a JSON document, asked for or not
    return json_schema(Host.discover(files=options.plugin or ())), OK


def _completion(options: Namespace) -> tuple[Document, int]:
    from forecastcore.cli.completion import SCRIPTS

    return {**_head("completion"), "shell": options.shell, "script": SCRIPTS[options.shell]}, OK


def _host(options: Namespace) -> tuple[Host, str]:
    """The project's plugins and its name; without a project, or with a broken one, all that is installed.

    That is how the plugins of a broken project get mended.
    """
    from forecastcore.host import Host

    try:
        project = _project(options)
    except ForecastCoreError:
        if options.project or options.overrides:
            raise
        return Host.discover(files=options.plugin or ()), ""
    return project.host, project.config.name


def _plugins_list(options: Namespace) -> tuple[Document, int]:
    from forecastcore.cli import plugins

    host, name = _host(options)
    return {**_head("plugins list", name), "plugins": plugins.listed(host)}, OK


def _plugins_check(options: Namespace) -> tuple[Document, int]:
    from forecastcore.cli import plugins

    params = plugins.parsed(options.param or ())
    host, name = _host(options)
    told = plugins.check(host, options.name, options.kind, params, quick=options.quick)
    return {**_head("plugins check", name), **told}, FAILED if told["failed"] else OK


def _plugins_new(options: Namespace) -> tuple[Document, int]:
    from forecastcore.cli import plugins

    return {**_head("plugins new"), **plugins.new(options.kind, options.name, options.into)}, OK


def _models_list(options: Namespace) -> tuple[Document, int]:
    from forecastcore import runtime

    project = _project(options)
    return {
        **_head("models list", project.config.name),
        "models": [v.to_json() for v in runtime.store(project).versions()],
    }, OK


def _versions(options: Namespace, *names: str) -> tuple[Project, list[ModelVersion]]:
    from forecastcore import runtime
    from forecastcore.runs.promotion import existing

    project = _project(options)
    store = runtime.store(project)
    return project, [existing(store, name) for name in names]


def _models_show(options: Namespace) -> tuple[Document, int]:
    from forecastcore import runtime

    project, (version,) = _versions(options, options.version)
    told = [entry.to_json() for entry in runtime.store(project).ledger() if entry.version == version.version]
    return {**_head("models show", project.config.name), "model": version.to_json(), "decisions": told}, OK


def _models_compare(options: Namespace) -> tuple[Document, int]:
    project, pair = _versions(options, options.one, options.two)
    return {**_head("models compare", project.config.name), "models": [version.to_json() for version in pair]}, OK


def _models_promote(options: Namespace) -> tuple[Document, int]:
    from forecastcore.runs.promotion import promote

    project = _project(options)
    entry = promote(project, options.version, reason=options.reason)
    return {**_head("models promote", project.config.name), "entry": entry.to_json()}, OK


def _models_rollback(options: Namespace) -> tuple[Document, int]:
    from forecastcore import runtime
    from forecastcore.runs.promotion import predecessor, rollback

    project = _project(options)

    store = runtime.store(project)
    now = store.resolve("champion")

    def told(after: str | None, entry: Document | None) -> Document:
        before = now.version if now else None
        changed = {"champion_before": before, "champion_after": after, "entry": entry}
        return {**_head("models rollback", project.config.name), "dry_run": entry is None, **changed}

    def go_back() -> Document:
        entry = rollback(project, reason=options.reason)
        return told(entry.champion, entry.to_json())

    return _once_agreed(options, project, tell=lambda: told(predecessor(store).version, None), act=go_back), OK


def _models_history(options: Namespace) -> tuple[Document, int]:
    from forecastcore import runtime

    project = _project(options)
    return {
        **_head("models history", project.config.name),
        "ledger": [e.to_json() for e in runtime.store(project).ledger()],
    }, OK


_COMMANDS: dict[str, Callable[[Any], tuple[Document, int]]] = {
    "backfill": _backfill,
    "backtest": _backtest,
    "backup": _backup,
    "bundle": _bundle,
    "completion": _completion,
    "demo": _demo,
    "diff": _diff,
    "doctor": _doctor,
    "drill": _drill,
    "explain": _explain,
    "failures": _failures,
    "logs": _logs,
    "init": _init,
    "models_compare": _models_compare,
    "models_history": _models_history,
    "models_list": _models_list,
    "models_promote": _models_promote,
    "models_rollback": _models_rollback,
    "models_show": _models_show,
    "monitor": _monitor,
    "plan_predict": _plan_predict,
    "plan_retrain": _plan_retrain,
    "plugins_check": _plugins_check,
    "plugins_list": _plugins_list,
    "plugins_new": _plugins_new,
    "predict": _predict,
    "reconcile": _reconcile,
    "restore": _restore,
    "retrain": _retrain,
    "rollback-vintage": _rollback_vintage,
    "schema": _schema,
    "status": _status,
    "validate": _validate,
}
