"""What this process writes is not for everybody to write."""

from __future__ import annotations

import os
import stat
from typing import Final

__all__ = ["keep_others_out"]

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def keep_others_out() -> None:
    """Where the umask lets everybody write what is made from now on, let only this user.

    A umask that lets the group write, and nobody else, is meant so, and stays: teams share folders that way.
    """
    if os.name == "nt":
        return
    mask = os.umask(_OTHERS)  # it cannot be read without being set
    os.umask(mask if mask & stat.S_IWOTH else mask | _OTHERS)
