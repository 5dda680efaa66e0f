"""What a check is, and how a list of them is run on one plugin."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Check", "Fault", "Probe", "Skip", "fault", "must", "other_processes", "probe", "rules", "run", "said"]

T = TypeVar("T")
Status = Literal["passed", "failed", "skipped"]

_SHOWN = 400


class Fault(Exception):  # noqa: N818 - it is what a check finds, not what goes wrong with the check
    """What a plugin does wrong, and what to do about it."""


class Skip(Exception):  # noqa: N818 - as above
    """Why a check says nothing of this plugin."""


def fault(message: str) -> NoReturn:
    """End the check: the plugin fails it."""
    raise Fault(message)


def must(holds: object, message: str) -> None:
    """Fail the check unless something holds."""
    if not holds:
        raise Fault(message)


def other_processes(*, quick: bool) -> None:
    """Skip what needs another process where that is not wanted."""
    if quick:
        raise Skip("it starts other processes, which a quick run leaves out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What one check says of one plugin.

    Attributes:
        name: kebab-case, the same for ever.
        status: `passed`, `failed` or `skipped`.
        detail: what was found, why it was skipped, or a measured figure.
    """

    name: str
    status: Status
    detail: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain data."""
        return {"name": self.name, "status": self.status, "detail": self.detail}


@dataclass(frozen=True, kw_only=True)
class Probe(Generic[T]):
    """One check, not yet run.

    Attributes:
        name: of the check.
        about: what it asks for, in a sentence; the documentation is made of these.
        work: raises `Fault` or `Skip`; what it returns is the detail.
        needs: checks without which this one says nothing.
        gate: without it, none of the later ones says anything.
    """

    name: str
    about: str
    work: Callable[[T], str | None]
    needs: tuple[str, ...] = ()
    gate: bool = False


def probe(*needs: str, gate: bool = False) -> Callable[[Callable[[T], str | None]], Probe[T]]:
    """Make a check of a function: its name with dashes, its docstring as the rule it checks.

    Args:
        needs: names of checks without which this one says nothing: one fault is told once, by the check that names it.
        gate: without it, none of the later ones says anything.
    """

    def made(work: Callable[[T], str | None]) -> Probe[T]:
        name = getattr(work, "__name__", "").replace("_", "-")
        return Probe(name=name, about=" ".join((inspect.getdoc(work) or "").split()), work=work, needs=needs, gate=gate)

    return made


def run(probes: Sequence[Probe[T]], trial: T) -> Iterator[Check]:
    """Run checks in order; where a gate fails, or a check that another needs, the others are skipped, and say so.

    What the plugin prints goes to stderr, so that stdout stays the caller's.
    """
    lame: set[str] = set()
    gates: list[str] = []
    for one in probes:
        missing = [name for name in (*gates, *one.needs) if name in lame]
        if missing:
            check = Check(name=one.name, status="skipped", detail=f"it says nothing while {missing[0]} fails")
        else:
            with contextlib.redirect_stdout(sys.stderr):
                check = _checked(one, trial)
        if check.status == "failed" or missing:
            lame.add(one.name)
        if one.gate:
            gates.append(one.name)
        yield check


def _checked(one: Probe[T], trial: T) -> Check:
    try:
        return Check(name=one.name, status="passed", detail=one.work(trial) or "")
    except Skip as reason:
        return Check(name=one.name, status="skipped", detail=str(reason))
    except Fault as found:
        return Check(name=one.name, status="failed", detail=_short(str(found)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is what the check found
        return Check(name=one.name, status="failed", detail=_short(f"raised {said(error)}"))


def said(error: BaseException) -> str:
    """An error in words, with the place in the plugin that raised it."""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    place = f" ({frames[-1].filename.replace(chr(92), '/').rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return words + place


def _is_ours(filename: str) -> bool:
    return re.search(r"forecastcore[/\\](testing[/\\]|guard\.py|api\.py)", filename) is not None


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"


def rules(probes: Sequence[Probe[Any]]) -> list[tuple[str, str]]:
    """Name and rule of each check, for the documentation."""
    return [(one.name, one.about) for one in probes]
