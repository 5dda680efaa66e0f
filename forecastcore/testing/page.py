"""The documentation page of the conformance suite: `make docs` asks for it."""

from __future__ import annotations

import sys

from forecastcore.testing.checking import KINDS, checks_of

__all__ = ["page"]

_HEAD = """\
# Conformance

What a plugin has to keep to, as checks. `forecastcore plugins check NAME` runs them, `forecastcore.testing.check(spec)`
does in Python, and `forecastcore.testing.conformance(spec)` makes a pytest test of them: see
[Write a plugin](../how-to/plugins.md).

The suite calls the plugin's own object. In a run the host would serve a series by its fallback where a model fails;
here nobody does. Each check changes one thing and compares. A fault is told once, by the check that names it: checks
that say nothing while it lasts are skipped. A skipped check always gives its reason.

A leak is found without looking into the plugin. The suite changes what lies after the origin, behind the plugin's back:
in what it saw before, in what it was trained on, in the covariates' future, in the other series, in its archive. An
honest plugin says the same as before.

This page is made from the suite itself.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for kind in KINDS:
        rules = checks_of(kind)
        rows = "".join(f"| `{name}` | {rule} |\n" for name, rule in rules)
        article = "An" if kind[0] in "aeiou" else "A"
        parts.append(f"## {article} {kind}: {len(rules)} checks\n\n| check | rule |\n|---|---|\n{rows}")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
