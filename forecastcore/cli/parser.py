"""What can be typed: commands, options, and the help that shows examples."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any, NoReturn

from forecastcore import __version__
from forecastcore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["build"]

_WHAT = "Forecasting in production: prepare, assume, predict, deliver; learn anew, compare, swap only for the better."

_OVERVIEW = """\
examples:
  forecastcore demo                            a project with real data, trained and forecast
  forecastcore init my-project                 a project of your own to start from
  forecastcore validate --data                 is the project file right, and the data?
  forecastcore retrain                         learn anew, compare, promote only for the better
  forecastcore predict --scenario heatwave     forecast, with a what-if beside the base
  forecastcore --json models list              the registry, for a script

exit codes: 0 ok, 1 failed, 2 usage or project file, 3 delivered but degraded, 4 held, 130 interrupted
"""


_TEMPLATES = ("minimal", "energy-load", "retail-demand", "databricks", "plugin-team")
_ENGINES = ("local", "spark", "databricks")
_DRILLS = ("weather-outage", "registry-loss", "sink-outage")
_SHELLS = ("bash", "zsh", "fish", "powershell")
_KINDS = ("model", "assumption", "sink", "source")


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, and suggests the nearest word."""

    def error(self, message: str) -> NoReturn:
        hint = f"{self.prog} --help shows what there is"
        if "invalid choice: " in message:
            typed = message.split("invalid choice: ")[1].split("'")[1]
            names = [name for action in self._actions if action.choices for name in action.choices]
            near = difflib.get_close_matches(typed, names, n=1)
            message = f"{typed!r} is none of {', '.join(names)}"
            hint = f"did you mean {near[0]!r}?" if near else hint
        elif message.endswith(("required: COMMAND", "required: ACTION")):
            names = [name for action in self._actions if action.choices for name in action.choices]
            message = f"{message.split()[-1]} is missing: there are {', '.join(names)}"
        elif "unrecognized arguments: -" in message:
            typed = message.partition("unrecognized arguments: ")[2].split()[0].partition("=")[0]
            near = difflib.get_close_matches(typed, sorted(_options(self)), n=1)
            hint = f"did you mean {near[0]!r}?" if near else hint
        raise UsageError(message, hint=hint)


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a command and of all below it."""
    inner = [
        child
        for action in parser._actions  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action.choices, dict)
        for child in action.choices.values()
    ]
    own = {text for action in parser._actions for text in action.option_strings}  # noqa: SLF001 - the same
    return own.union(*(_options(child) for child in inner))


def _shared(*, top: bool) -> argparse.ArgumentParser:
    """Options that every command takes, before or after its name."""
    absent: Any = None if top else argparse.SUPPRESS
    shared = argparse.ArgumentParser(add_help=False)
    options = shared.add_argument_group("options of every command")
    options.add_argument(
        "-p",
        "--project",
        metavar="FILE",
        default=absent,
        help="project file or its folder (default: forecast.yaml here or above)",
    )
    options.add_argument(
        "--json",
        action="store_true",
        default=False if top else absent,
        help="one JSON document on stdout, all else on stderr",
    )
    options.add_argument(
        "-v", "--verbose", action="store_true", default=False if top else absent, help="tell more, show tracebacks"
    )
    options.add_argument(
        "--plugin",
        action="append",
        metavar="FILE",
        default=absent,
        help="load a single Python file as a plugin (repeatable)",
    )
    options.add_argument(
        "--set",
        action="append",
        metavar="KEY.PATH=VALUE",
        dest="overrides",
        default=absent,
        help="override the project file (repeatable)",
    )
    return shared


def build() -> argparse.ArgumentParser:
    """The parser of `forecastcore`; a parsed command line has `command`, and for a group `action`."""
    parser = _Parser(
        prog="forecastcore",
        description=_WHAT,
        epilog=_OVERVIEW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_shared(top=True)],
    )
    parser.add_argument("--version", action="version", version=f"forecastcore {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser, required=True)

    demo = _command(
        commands, "demo", "a project with real data: retrain, predict, and where to look", ("demo", "demo my-demo")
    )
    demo.add_argument(
        "folder", nargs="?", default="forecastcore-demo", metavar="DIR", help="where to (default: forecastcore-demo)"
    )

    init = _command(
        commands,
        "init",
        "a new project: commented forecast.yaml, data, a sample plugin and its test",
        ("init my-project", "init my-load --template energy-load"),
    )
    init.add_argument("folder", metavar="DIR", help="where to: not there yet, or empty; its name becomes the project's")
    init.add_argument("--template", default="minimal", choices=_TEMPLATES, help="what to start from (default: minimal)")

    validate = _command(
        commands, "validate", "check the project file, and with --data the source", ("validate", "validate --data")
    )
    validate.add_argument(
        "--data", action="store_true", help="also read the source and say what the quality check finds"
    )

    doctor = _command(
        commands,
        "doctor",
        "what keeps runs from working: machine, plugins, source, sinks, models, services; exit 1 where something does",
        ("doctor", "doctor --security", "--json doctor -p my-project"),
    )
    doctor.add_argument(
        "--security",
        action="store_true",
        help="look instead for what lets others in: servers, passwords, files, plugins",
    )

    retrain = _command(
        commands,
        "retrain",
        "learn anew, compare with the champion, promote only for the better",
        ("retrain", "retrain --as-of 2026-11-01 --no-promote", "retrain --require-promotion", "retrain --on local"),
    )
    _as_of(retrain)
    _no_promote(retrain)
    retrain.add_argument("--require-promotion", action="store_true", help="exit 4 when the gate holds")
    _on(retrain)

    predict = _command(
        commands,
        "predict",
        "forecast with the champion's stored parameters, and deliver",
        (
            "predict",
            "predict --as-of 2026-11-01T00:00Z --scenario base --scenario heatwave",
            "predict --model challenger",
        ),
    )
    _as_of(predict)
    _forecast(predict)
    _on(predict)

    backtest = _command(
        commands,
        "backtest",
        "the leaderboard of all candidates; nothing is registered",
        ("backtest", "backtest --set backtest.folds=2"),
    )
    _as_of(backtest)
    _on(backtest)

    _plan(commands)
    _delivery(commands)
    _safekeeping(commands)
    _watch(commands)
    _models(commands)

    _plugins(commands)

    reconcile = _command(
        commands,
        "reconcile",
        "find what runs left behind, on Databricks, in MLflow, sinks and kept answers; exit 1 where something is left",
        ("reconcile", "reconcile --fix"),
    )
    reconcile.add_argument(
        "--fix", action="store_true", help="cancel, close and remove what is found (default: only tell)"
    )

    bundle = _command(
        commands,
        "bundle",
        "write databricks.yml, an asset bundle: retrain, predict and monitor as jobs that Databricks itself starts",
        ("bundle", "bundle deploy/databricks"),
    )
    bundle.add_argument("folder", nargs="?", metavar="DIR", help="where to (default: bundle beside the project file)")

    completion = _command(
        commands,
        "completion",
        "what a shell reads to complete commands and options with the tabulator key",
        ("completion bash > ~/.forecastcore-completion", "completion powershell > forecastcore.ps1"),
    )
    completion.add_argument("shell", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))

    _command(
        commands,
        "schema",
        "JSON Schema of forecast.yaml, installed plugins included",
        ("schema", "schema > forecast.schema.json"),
    )
    return parser


def _plugins(commands: Any) -> None:
    plugins = _group(
        commands,
        "plugins",
        "what is installed, whether it keeps to the contract, and a new one",
        ("plugins list", "plugins check seasonal-naive", "plugins new model my-model"),
    )
    _command(plugins, "list", "installed plugins with their health", ("plugins list", "--json plugins list"))
    check = _command(
        plugins,
        "check",
        "run the conformance suite on a plugin; exit 1 where a check fails",
        ("plugins check seasonal-naive", "--plugin my_model.py plugins check", "plugins check csv --kind sink"),
    )
    check.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a type or a distribution (default: all that the files given with --plugin offer)",
    )
    check.add_argument("--kind", choices=_KINDS, help="only what is offered of this kind")
    check.add_argument("--param", action="append", metavar="KEY=VALUE", help="a parameter to try it with (repeatable)")
    check.add_argument("--quick", action="store_true", help="leave out the checks that start other processes")
    new = _command(
        plugins,
        "new",
        "write a distribution with a plugin that works, to be filled with yours",
        ("plugins new model my-model", "plugins new sink my-sink --into ../plugins"),
    )
    new.add_argument("kind", choices=_KINDS, metavar="KIND", help=", ".join(_KINDS))
    new.add_argument("name", metavar="NAME", help="what `type:` will say, such as my-model")
    new.add_argument("--into", metavar="DIR", help="folder that the new one is made in (default: here)")


def _delivery(commands: Any) -> None:
    backfill = _command(
        commands,
        "backfill",
        "a vintage per past origin, each with only what was known then",
        (
            "backfill --from 2026-10-01 --to 2026-10-31 --every 24",
            "backfill --from 2026-10-01 --to 2026-10-31 --every 168 --model 3 --jobs 4",
        ),
    )
    backfill.add_argument("--from", dest="first", metavar="T", required=True, help="no origin is earlier")
    backfill.add_argument("--to", dest="last", metavar="T", required=True, help="no origin is later")
    backfill.add_argument("--every", type=int, default=1, metavar="N", help="steps between two origins (default: 1)")
    backfill.add_argument("--scenario", action="append", metavar="NAME", help="repeatable (default: base)")
    backfill.add_argument(
        "--model", metavar="WHICH", help="a version, alias or run id (default: at each origin the champion of then)"
    )
    backfill.add_argument("--jobs", type=int, default=1, metavar="N", help="origins at a time (default: 1)")
    _on(backfill)
    rollback = _command(
        commands,
        "rollback-vintage",
        "take the newest vintage back in every sink; the one before is the latest again",
        (
            "rollback-vintage --reason 'wrong meter'",
            "rollback-vintage --issued-at 2026-11-01T00:00Z --scenario heatwave --dry-run",
        ),
    )
    rollback.add_argument("--issued-at", metavar="T", help="the origin to take back (default: the newest)")
    rollback.add_argument("--scenario", metavar="NAME", help="only this one (default: all of the origin)")
    rollback.add_argument("--reason", default="rolled back by hand", help="kept where the sink has a place for it")
    _undoing(rollback)


def _safekeeping(commands: Any) -> None:
    backup = _command(
        commands,
        "backup",
        "ledger, registered versions and delivered vintages in one archive, with a digest to keep elsewhere",
        ("backup", "backup safe/today.zip"),
    )
    backup.add_argument(
        "archive",
        nargs="?",
        metavar="FILE",
        help="not there yet (default: backups/PROJECT-NOW.zip by the project file)",
    )
    restore = _command(
        commands,
        "restore",
        "play an archive back into registry, ledger and sinks; it is checked whole before anything is written",
        ("restore safe/today.zip", "restore safe/today.zip --yes"),
    )
    restore.add_argument("archive", metavar="FILE", help="what backup wrote")
    restore.add_argument("--digest", metavar="SHA256", help="what backup told; another archive is refused")
    restore.add_argument(
        "--yes", action="store_true", help="replace versions and decisions that the archive does not know"
    )


def _watch(commands: Any) -> None:
    monitor = _command(
        commands,
        "monitor",
        "delivered forecasts beside what came: accuracy, drift, and what the policies say; exit 3 where one fires",
        ("monitor", "monitor --as-of 2026-11-01 --last 60", "monitor --act"),
    )
    monitor.add_argument("--as-of", metavar="T", help="actuals up to here are used (default: the newest value)")
    monitor.add_argument(
        "--last", type=_count, metavar="N", help="newest vintages to look at (default: monitor.last, 30)"
    )
    monitor.add_argument("--act", action="store_true", help="carry out what the policies ask for")

    _command(
        commands,
        "status",
        "champion, newest vintage and its age, degraded share, deployments and next run; exit 3 where it is stale",
        ("status", "--json status"),
    )
    diff = _command(
        commands,
        "diff",
        "what changed between two vintages; of the top movers how much by data, assumption, model and code",
        ("diff previous latest", "diff 2026-11-23 2026-11-24", "diff 2026-11-24 latest --top 20"),
    )
    for name in ("one", "two"):
        diff.add_argument(
            name, metavar="RUN", help="a run key or its beginning, a run id, an origin, previous, or latest"
        )
    _one_scenario(diff)
    diff.add_argument("--top", type=_count, default=10, metavar="N", help="movers to tell (default: 10)")
    failures = _command(
        commands,
        "failures",
        "which series of a vintage have no full forecast, by reason, with the mend and the command to run again",
        ("failures", "failures 2026-11-01 --scenario heatwave", "--json failures previous"),
    )
    failures.add_argument(
        "run",
        nargs="?",
        default="latest",
        metavar="RUN",
        help="a run key or its beginning, a run id, an origin, previous, or latest (default)",
    )
    _one_scenario(failures)
    logs = _command(
        commands,
        "logs",
        "what a run logged: here, as a flow run of Prefect and as a run on Databricks, in one order",
        ("logs", "logs latest --follow", "--json logs"),
    )
    logs.add_argument(
        "run",
        nargs="?",
        default="latest",
        metavar="RUN",
        help="its id in MLflow, run key, flow run, number on Databricks, or the beginning of one; or latest (default)",
    )
    logs.add_argument("--follow", action="store_true", help="until the run is over; with --json, wait for that")
    explain = _command(
        commands,
        "explain",
        "a code, or one row of the table: model, inputs, assumptions, fallbacks, contributions",
        ("explain champion-unavailable", "explain shop-1+3", "explain shop-1@2026-11-25T06:00Z --scenario heatwave"),
    )
    explain.add_argument("key", metavar="KEY", help="a code of an error or reason, SERIES@MOMENT, or SERIES+STEP")
    explain.add_argument("--issued-at", metavar="T", help="the row's origin (default: the newest)")
    _one_scenario(explain)
    drill = _command(
        commands,
        "drill",
        "rehearse an outage on a copy; exit 1 where a forecast would not be delivered as it must be",
        ("drill weather-outage", "drill registry-loss", "drill sink-outage"),
    )
    drill.add_argument("kind", choices=_DRILLS, metavar="KIND", help=", ".join(_DRILLS))


def _one_scenario(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", default="base", metavar="NAME", help="which (default: base)")


def _count(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _models(commands: Any) -> None:
    models = _group(
        commands,
        "models",
        "the registry, and who was champion when",
        ("models list", "models compare champion challenger", "models rollback"),
    )
    _command(models, "list", "all versions", ("models list", "--json models list"))
    show = _command(models, "show", "one version", ("models show 3", "models show champion"))
    show.add_argument("version", metavar="V", help="a version, alias or run id")
    compare = _command(
        models, "compare", "two versions side by side", ("models compare 2 3", "models compare champion challenger")
    )
    compare.add_argument("one", metavar="A", help="a version, alias or run id")
    compare.add_argument("two", metavar="B", help="a version, alias or run id")
    promote = _command(
        models,
        "promote",
        "make a version the champion",
        ("models promote 3", "models promote challenger --reason 'seen it'"),
    )
    promote.add_argument("version", metavar="V", help="a version, alias or run id")
    promote.add_argument("--reason", default="promoted by hand", help="goes into the ledger")
    rollback = _command(
        models,
        "rollback",
        "make the previous champion the champion again",
        ("models rollback --dry-run", "models rollback --reason drift"),
    )
    rollback.add_argument("--reason", default="rolled back by hand", help="goes into the ledger")
    _undoing(rollback)
    _command(models, "history", "every decision, oldest first", ("models history", "--json models history"))


def _plan(commands: Any) -> None:
    plan = _group(
        commands,
        "plan",
        "what a run would read, fit, write, promote and cost; writes nothing",
        ("plan retrain", "plan predict --scenario heatwave"),
    )
    retrain = _command(plan, "retrain", "what retrain would do", ("plan retrain", "--json plan retrain --no-promote"))
    _as_of(retrain)
    _no_promote(retrain)
    predict = _command(
        plan, "predict", "what predict would do", ("plan predict", "plan predict --scenario base --model challenger")
    )
    _as_of(predict)
    _forecast(predict)
    for planned in (retrain, predict):
        _on(planned)


def _no_promote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-promote", action="store_true", help="record the decision, leave the champion")


def _forecast(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scenario", action="append", metavar="NAME", help="base or one under scenarios: (repeatable; default: base)"
    )
    parser.add_argument(
        "--model",
        default="champion",
        metavar="WHICH",
        help="champion, challenger, a version or a run id (default: champion)",
    )


def _undoing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="tell what would be undone, change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask; nothing is asked either where no terminal is")


def _on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--on", choices=_ENGINES, help="where it runs, instead of engine.type of the project file")


def _as_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-of", metavar="T", help="the origin: nothing later is used (default: the newest value)")


def _command(commands: Any, name: str, summary: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    shown = "examples:\n" + "".join(f"  forecastcore {example}\n" for example in examples)
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=shown,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_shared(top=False)],
    )
    return made


def _group(commands: Any, name: str, summary: str, examples: Sequence[str]) -> Any:
    group = _command(commands, name, summary, examples)
    return group.add_subparsers(dest="action", metavar="ACTION", parser_class=_Parser, required=True)
