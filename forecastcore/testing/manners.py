"""How any plugin behaves in a process that others share: seen in a fresh one, which imports and uses nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from forecastcore import parameters
from forecastcore.config.words import is_secret
from forecastcore.testing.suite import Probe, Skip, must, probe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from forecastcore.testing.child import Report

__all__ = ["PROBES", "QUIET"]


class Guest(Protocol):
    """What these checks need of a trial."""

    spec: Any
    params: Mapping[str, Any]
    folder: Path

    @property
    def report(self) -> Report:
        """Of the fresh process."""
        ...

    def make(self) -> Any:
        """A new object."""
        ...


@probe()
def parameters_are_typed(trial: Guest) -> str | None:
    """Every parameter has a type that a project file can be checked against, and a word on what it means."""
    schema = parameters.json_schema(trial.spec.factory)
    untyped = [
        name
        for name in parameters.names(trial.spec.factory)
        if set(schema["properties"][name]) <= {"description", "default"}
    ]
    must(not untyped, f"the parameters {untyped} have no type")
    return f"{len(schema['properties'])} parameters"


@probe()
def a_fresh_process_can_use_it(trial: Guest) -> str | None:
    """A process that has imported nothing else makes it from its parameters and uses it."""
    must(not trial.report.error, f"a fresh process raised {trial.report.error}")
    return None


@probe("a-fresh-process-can-use-it")
def nothing_is_printed(trial: Guest) -> str | None:
    """Nothing is written to stdout: with `--json` that is one document."""
    must(not trial.report.stdout, f"it printed {trial.report.stdout[:80]!r}; use logging")
    return None


@probe("a-fresh-process-can-use-it")
def the_process_stays_as_it_was(trial: Guest) -> str | None:
    """Warning filters, environment, seeds, options, locale, folder and threads are afterwards as they were before."""
    must(not trial.report.changed, f"it leaves changed: {', '.join(trial.report.changed)}")
    return None


@probe("a-fresh-process-can-use-it")
def no_program_is_started(trial: Guest) -> str | None:
    """No other program is started, and none goes on."""
    must(not trial.report.starts, f"it started {trial.report.starts[:3]}")
    return None


@probe("a-fresh-process-can-use-it")
def importing_it_is_light(trial: Guest) -> str | None:
    """Importing the plugin imports no heavy library: the command line asks every plugin what it offers."""
    must(not trial.report.heavy, f"with it come {', '.join(trial.report.heavy)}; import them where they are used")
    return None


@probe("a-fresh-process-can-use-it")
def no_file_is_written(trial: Guest) -> str | None:
    """No file is written or removed: what is learned is what is returned."""
    kept = [name for name in trial.report.writes if not _is_scratch(name)]
    must(not kept, f"it wrote {sorted(set(kept))[:3]}")
    return None


def _is_scratch(name: str) -> bool:
    """Memory shared between a library's own workers."""
    return "joblib_memmapping" in name or name.startswith("/dev/shm")  # noqa: S108 - it is only recognised


@probe("a-fresh-process-can-use-it")
def no_connection_is_made(trial: Guest) -> str | None:
    """No connection is made: a model learns from what it is given."""
    must(not trial.report.connections, f"it connects to {sorted(set(trial.report.connections))[:3]}")
    return None


@probe()
def secrets_stay_out_of_repr(trial: Guest) -> str | None:
    """The value of a parameter that is called like a secret is not in `repr` or `str` of the object."""
    secrets = [name for name in parameters.names(trial.spec.factory) if is_secret(name)]
    if not secrets:
        raise Skip("no parameter of it is called like a secret")
    canary = "canary-4711"
    given = {**trial.params, **{name: canary for name in secrets if isinstance(trial.params.get(name, ""), str)}}
    made = trial.spec.factory(**parameters.values(trial.spec.factory, given, root=trial.folder, lax=True))
    told = f"{made!r} {made}"
    must(canary not in told, f"repr shows {secrets}; write field(repr=False)")
    return None


#: for every kind
PROBES: tuple[Probe[Any], ...] = (
    parameters_are_typed,
    a_fresh_process_can_use_it,
    nothing_is_printed,
    the_process_stays_as_it_was,
    no_program_is_started,
    importing_it_is_light,
)
#: for kinds that have no business outside
QUIET: tuple[Probe[Any], ...] = (no_file_is_written, no_connection_is_made)
