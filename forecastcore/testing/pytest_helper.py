"""The conformance suite as a pytest test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forecastcore.testing.checking import checks_of, iterate, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from forecastcore.testing.checking import Spec
    from forecastcore.testing.suite import Check

__all__ = ["conformance"]


def conformance(spec: Spec, params: Mapping[str, Any] | None = None, *, quick: bool = False) -> Callable[[str], None]:
    """A pytest test with one case per check, to be assigned to a name that starts with `test_`.

    The suite runs once, as far as the cases that are asked for.

    Args:
        spec: what the plugin's hook yields.
        params: parameters as a project file would give them, beside those of the spec's `example`.
        quick: leave out what needs other processes.
    """
    import pytest

    told: dict[str, Check] = {}
    running: list[Iterator[Check]] = []

    def find(name: str) -> Check:
        if not running:
            running.append(iterate(spec, params, quick=quick))
        for one in running[0]:
            told[one.name] = one
            if one.name == name:
                break
        if name not in told:
            pytest.skip("the plugin cannot be tried")
        return told[name]

    @pytest.mark.parametrize("check", [name for name, _rule in checks_of(kind_of(spec))])
    def test_conformance(check: str) -> None:
        found = told.get(check) or find(check)
        if found.status == "failed":
            pytest.fail(f"{check}: {found.detail}", pytrace=False)
        if found.status == "skipped":
            pytest.skip(found.detail)

    return test_conformance
