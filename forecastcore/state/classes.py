"""Classes by name: what a stored object says it is, looked up only where that is allowed."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from forecastcore.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CORE", "has_own_format", "is_core", "is_frozen", "named", "resolve_all"]

#: modules of the core, with all below them, whose frozen dataclasses any plugin's model may hold
CORE = ("forecastcore.api", "forecastcore.tabular")
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def named(cls: type) -> str | None:
    """`module:qualname` of a class; None if looking that up would not find the class again."""
    name = f"{cls.__module__}:{cls.__qualname__}"
    return name if _NAME.fullmatch(name) and _find(name) is cls else None


def has_own_format(cls: type) -> bool:
    """Whether a class has `to_state` and the classmethod `from_state`."""
    makes = inspect.getattr_static(cls, "from_state", None)
    return isinstance(makes, classmethod) and callable(inspect.getattr_static(cls, "to_state", None))


def is_core(cls: type) -> bool:
    """Whether a class is the core's own."""
    return cls.__module__.startswith("forecastcore.")


def is_frozen(cls: type) -> bool:
    """Whether a dataclass is frozen."""
    return bool(cls.__dataclass_params__.frozen)  # type: ignore[attr-defined]  # what `dataclass` leaves on a class


def resolve_all(names: Sequence[str], packages: Sequence[str], aliases: Mapping[str, str]) -> list[type]:
    """The classes of the names; no module is imported unless all names are allowed.

    Raises:
        StateError: a name lies outside `packages`, or is not that of a class.
    """
    current = [_renamed(name, aliases) for name in names]
    for name in current:
        _check_allowed(name, (*packages, *CORE))
    return [_resolve(name) for name in current]


def _renamed(name: str, aliases: Mapping[str, str]) -> str:
    for old in sorted(aliases, key=len, reverse=True):
        if name.startswith((old + ".", old + ":")):
            return aliases[old] + name.removeprefix(old)
    return name


def _check_allowed(name: str, packages: Sequence[str]) -> None:
    if not _NAME.fullmatch(name):
        raise StateError(f"the stored model names {name!r}, which is not `module:Class`")
    module = name.partition(":")[0]
    if not any(module == package or module.startswith(package + ".") for package in packages):
        raise StateError(
            f"the stored model names {name!r}, which must not be loaded; allowed are {', '.join(packages)}",
            hint="if a plugin made it, load it through that plugin; if not, do not trust this model",
        )


def _resolve(name: str) -> type:
    module = name.partition(":")[0]
    if module not in sys.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise StateError(
                f"the stored model needs {name!r}, but {module} cannot be imported: {error}",
                hint="install the version of the plugin that made the model",
            ) from error
    found = _find(name)
    if found is None:
        raise StateError(
            f"the stored model needs the class {name!r}, which its module does not define",
            hint="install the version of the plugin that made the model",
        )
    return found


def _find(name: str) -> type | None:
    """Step from class to class through what each defines itself: no `__getattr__`, nothing imported from elsewhere."""
    module, _, qualname = name.partition(":")
    owner: Any = sys.modules.get(module)
    for part in qualname.split("."):
        owner = vars(owner).get(part) if owner is not None else None
        if not isinstance(owner, type):
            return None
    return owner if (owner.__module__, owner.__qualname__) == (module, qualname) else None
