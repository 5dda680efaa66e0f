"""Ends a flow run that its server wants cancelled, also where nobody else would.

Whoever started a flow run listens for that and sends SIGTERM. Prefect's worker gives it up for good after half a minute
without a server, and a run that is cancelled later would go on. So each run asks for its own state now and then.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import os
import random
import signal
import threading
from typing import TYPE_CHECKING, Final, Self

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

__all__ = ["Watch"]

#: seconds between two questions at least, and that an answer may take
_EVERY, _PATIENCE = 10.0, 10.0
#: seconds in which whoever started the run ends it, where he still listens
_FIRST: Final = 2.0
#: seconds after which a run that goes on all the same is told again: code of others may swallow what it is told
_AGAIN: Final = 30.0
_UNWANTED: Final = (StateType.CANCELLING, StateType.CANCELLED)


class Watch:
    """While it is open, a flow run that the server wants cancelled is ended as SIGTERM would end it.

    A run below another one ends with that; where the run is not the main thread's, no signal reaches it.

    Attributes:
        struck: whether it has told the run to end.
    """

    def __init__(self, run: FlowRun | None) -> None:
        self._run = run
        self._over, self._striking = threading.Event(), threading.Lock()
        self.struck: bool = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if self._run is not None and self._run.parent_task_run_id is None and main:
            ours = contextvars.copy_context()  # settings that hold for this run only
            threading.Thread(target=ours.run, args=(self._watch, self._run), name="watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._striking:  # a blow that falls now still falls in here
            pass

    def _watch(self, run: FlowRun) -> None:
        alone = {PREFECT_CLIENT_MAX_RETRIES: 0}  # the next question is early enough to ask again
        with temporary_settings(alone), get_client(sync_client=True, httpx_settings={"timeout": _PATIENCE}) as client:
            while not self._over.wait(_AGAIN if self.struck else _EVERY * random.uniform(1.0, 1.1)):  # noqa: S311 - jitter
                if _unwanted(client, run) and not self._over.wait(_FIRST):
                    self._strike()

    def _strike(self) -> None:
        with self._striking:
            if not self._over.is_set():
                self.struck = True
                _end_main()


def _unwanted(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether the server wants the run cancelled; false where it does not answer, or has never heard of it."""
    with contextlib.suppress(Exception):
        state = client.read_flow_run(run.id).state
        return state is not None and state.type in _UNWANTED
    return False


def _end_main() -> None:
    """SIGTERM to the main thread, which wakes it where it waits."""
    if os.name == "posix":
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)  # a signal to the process would be the end of it there
