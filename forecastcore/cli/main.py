"""Runs one command line and answers with an exit code; an error becomes a sentence, or a JSON document."""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from typing import TYPE_CHECKING, Any

from forecastcore.errors import ConfigError, ForecastCoreError
from forecastcore.privacy import keep_others_out

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 130
_FAILED = 1
#: commands that go on where they were broken off
_RESUMED = ("backfill", "backtest", "predict", "retrain")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of `forecastcore`.

    Args:
        arguments: the words after the command's name; default: those typed.

    Returns:
        0 ok, 1 failed, 2 usage or project file, 3 delivered but degraded, 4 held, 130 interrupted.
    """
    from forecastcore.cli import completion
    from forecastcore.cli.parser import build

    keep_others_out()
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json, verbose, command = "--json" in words, "-v" in words or "--verbose" in words, ""
    try:
        options = build().parse_args(words) if words[:1] != [completion.ASKED] else None
        command = " ".join(filter(None, (getattr(options, name, None) for name in ("command", "action"))))
        code = _run(options) if options else completion.answer(build(), words[1:])
    except SystemExit as end:  # argparse's --help and --version
        return int(end.code or 0)
    except KeyboardInterrupt:
        told = "interrupted; nothing half-written is left visible"
        code = _tell("interrupted", told, command, INTERRUPTED, as_json=as_json)
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ForecastCoreError as error:
        if verbose:
            traceback.print_exc()
        code = _tell_error(error, command, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last resort: one sentence, the traceback on request
        if verbose:
            traceback.print_exc()
        hint = "" if verbose else " (a fault of forecastcore or a plugin; -v shows where)"
        code = _tell("unexpected", f"{type(error).__name__}: {error}{hint}", command, 1, as_json=as_json)
    if code in {_FAILED, INTERRUPTED} and command in _RESUMED:
        _tell_again(words)
    return code


def _tell_again(words: Sequence[str]) -> None:
    """The command that goes on where this one ended: what is done is kept, what is delivered is not written twice."""
    from forecastcore.tracking.connect import mask

    typed = shlex.join(["forecastcore", *words])
    sys.stderr.write(f"to go on: {typed if mask(typed) == typed else 'the same command again'}\n")


def _run(options: Namespace) -> int:
    from forecastcore.cli import commands, render

    document, code = commands.run(options)
    if options.json:
        sys.stdout.write(json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n")
    else:
        print(render.text(document))
    return code


def _tell_error(error: ForecastCoreError, command: str, *, as_json: bool) -> int:
    if not as_json:
        sys.stderr.write(f"{error if isinstance(error, ConfigError) else f'error: {error}'}\n")
        return error.exit_code
    if isinstance(error, ConfigError):
        faults = [
            {name: getattr(p, name) for name in ("code", "message", "file", "line", "column", "key", "hint")}
            for p in error.problems
        ]
    else:
        faults = [_fault(error.code, error.message, error.hint)]
    return _document(command, faults, error.exit_code)


def _tell(code: str, message: str, command: str, exit_code: int, *, as_json: bool) -> int:
    if as_json:
        return _document(command, [_fault(code, message, None)], exit_code)
    sys.stderr.write(f"error: {message}\n")
    return exit_code


def _fault(code: str, message: str, hint: str | None) -> dict[str, Any]:
    return {"code": code, "message": message, "file": None, "line": None, "column": None, "key": None, "hint": hint}


def _document(command: str, faults: list[dict[str, Any]], exit_code: int) -> int:
    document = {"schema": "forecastcore/error/1", "command": command, "error": faults[0], "errors": faults}
    sys.stdout.write(json.dumps(document, allow_nan=False, ensure_ascii=False) + "\n")
    return exit_code
