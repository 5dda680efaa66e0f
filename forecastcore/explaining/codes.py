"""Every code that forecastcore says, with cause, mend and an example; all of it offline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = ["Code", "codes"]


@dataclass(frozen=True)
class Code:
    """A code in words.

    Attributes:
        where: who says it: `error`, `reason` of a row, `guard` of the gate, `audit` of a vintage, `quality` check.
        cause: what has happened.
        mend: what to do.
        example: what it looks like, or what to type.
    """

    where: str
    cause: str
    mend: str
    example: str


@cache
def codes() -> dict[str, Code]:
    """All codes by name."""
    import yaml

    text = resources.files("forecastcore.explaining").joinpath("codes.yaml").read_text(encoding="utf-8")
    return {name: Code(**told) for name, told in yaml.safe_load(text).items()}
