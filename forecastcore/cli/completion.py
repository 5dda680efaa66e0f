"""Completion of what is typed, for bash, zsh, fish and PowerShell: the shell asks the command itself."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from forecastcore import known

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["ASKED", "SCRIPTS", "answer", "candidates"]

#: the word before those to complete; the shells' scripts use it, people do not
ASKED = "__complete"

_BASH = """\
_forecastcore() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(forecastcore __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- \\
        "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _forecastcore forecastcore
"""
_ZSH = """\
#compdef forecastcore
_forecastcore() {
    local -a found
    found=("${(@f)$(forecastcore __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n $found ]] && compadd -a found || _files
}
compdef _forecastcore forecastcore
"""
_FISH = """\
function __forecastcore_complete
    set -l words (commandline -opc) (commandline -ct)
    forecastcore __complete $words[2..-1] 2>/dev/null
end
complete -c forecastcore -a '(__forecastcore_complete)'
"""
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName forecastcore -ScriptBlock {
    param($word, $line, $position)
    $words = @($line.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    if (-not $word) { $words += '' }
    forecastcore __complete @words 2>$null | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }
}
"""
_FILE = "forecast.yaml"
#: what each shell reads once, such as `eval "$(forecastcore completion bash)"`
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL}


_ALIASES = ("challenger", "champion", "previous")
#: what stands for a name of the project in the help -> its kind, and the names that every project has
_NAMES = {
    "V": ("versions", _ALIASES),
    "A": ("versions", _ALIASES),
    "B": ("versions", _ALIASES),
    "WHICH": ("versions", _ALIASES[:2]),
    "RUN": ("runs", ("latest", "previous")),
    "NAME": ("scenarios", ("base",)),
    "KEY": ("series", ()),
}


def answer(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Write the candidates, one a line, for the shell that asks."""
    sys.stdout.writelines(f"{found}\n" for found in candidates(parser, words))
    return 0


def candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """What the last of the words may become; nothing where that is a file or free text.

    Args:
        parser: of the whole command line.
        words: those typed after the command's name; the last is not finished and may be empty.
    """
    *before, begun = words or [""]
    file = _project_file(before)
    expected: argparse.Action | None = None
    given = 0
    for word in before:
        options = {text: action for action in _actions(parser) for text in action.option_strings}
        if expected:
            expected = None
        elif word.startswith("-"):
            action = options.get(word)
            expected = action if action is not None and action.nargs != 0 else None
        else:
            place = next(iter(_positional(parser)[given:]), None)
            below = place.choices.get(word) if place is not None and isinstance(place.choices, dict) else None
            parser, given = (below, 0) if below is not None else (parser, given + 1)
    return sorted(text for text in _fitting(parser, expected, given, begun, file) if text.startswith(begun))


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001 - argparse has no other way to ask


def _positional(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in _actions(parser) if not action.option_strings]


def _project_file(words: Sequence[str]) -> Path:
    """The project that the line is about: the one it names, else the one here or above."""
    for option, value in pairwise(words):
        if option in {"-p", "--project"}:
            named = Path(value)
            return named / _FILE if named.is_dir() else named
    here = Path.cwd()
    return next((folder / _FILE for folder in (here, *here.parents) if (folder / _FILE).is_file()), here / _FILE)


def _values(action: argparse.Action, file: Path) -> list[str]:
    """What an argument may be: its choices, or names of the project that runs have come across."""
    if action.choices:
        return list(map(str, action.choices))
    # `plugins new NAME` and the like ask for a name that is not there yet.
    if action.metavar not in _NAMES or (action.metavar == "NAME" and action.dest != "scenario"):
        return []
    kind, always = _NAMES[str(action.metavar)]
    return list({*always, *known.recall(file, kind)})


def _fitting(
    parser: argparse.ArgumentParser, expected: argparse.Action | None, given: int, begun: str, file: Path
) -> Iterator[str]:
    if expected:
        yield from _values(expected, file)
    elif begun.startswith("-"):
        yield from (text for action in _actions(parser) for text in action.option_strings)
    else:
        for place in _positional(parser)[given : given + 1]:
            yield from _values(place, file)
