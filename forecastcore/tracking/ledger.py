"""The promotion ledger: append-only, one winner per number, inside MLflow and on any of its backends.

MLflow offers no compare-and-set: an alias or a tag goes to whoever writes last. But two of its writes have exactly one
winner on every backend: creating a registered model, and logging a *parameter*, which is write-once. So entry 7 is the
parameter `entry-000007` of one ledger run, and the registered model, created once, names that run in a tag. Tried with
20 processes writing 100 entries each to one SQLite store: one winner for each of the 100, and no other error.

A parameter of the same value may be logged twice, so each writer adds a word of its own to the value; whoever finds its
own word under the number has won, also when the answer to the winning write was lost on the way.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from forecastcore.errors import LedgerConflict, TrackingError
from forecastcore.messages import LedgerEntry
from forecastcore.tracking.connect import Connection, absent, taken
from forecastcore.tracking.runs import PARAM_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Ledger", "digest_of", "standing"]

TAG: Final = "forecastcore_ledger"
KEY: Final = re.compile(r"^entry-(\d{6,})$")
#: Seconds after which a ledger tagged onto a model that was made by hand is taken to be the only one.
SETTLE_SECONDS: Final = 2.0
_TRIES: Final = 4


class Ledger:
    """The decisions of one registered model."""

    def __init__(self, connection: Connection, model: str, experiment: Callable[[], str]) -> None:
        self._connection = connection
        self._model = model
        self._experiment = experiment
        self._run_id: str | None = None

    def entries(self) -> list[LedgerEntry]:
        """All decisions, oldest first; reading makes nothing.

        Raises:
            TrackingError: MLflow cannot be reached, or an entry is not what forecastcore wrote.
        """
        run_id = self._run_id or self._tagged()
        if run_id is None:
            return []
        found = self._values(run_id)
        return [self._parsed(key, found[key]) for key in sorted(found)]

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Write `entry` under its number, or fail with nothing written.

        Raises:
            LedgerConflict: the number is taken, or is not the next one.
        """
        run_id = self.ensure()
        head = max(self._values(run_id), default=0)
        if entry.seq != head + 1:
            raise LedgerConflict(entry.seq, head)
        value = _written(entry)
        if self._claimed(run_id, entry.seq, value) != value:
            raise LedgerConflict(entry.seq, max(self._values(run_id)))
        return entry

    def ensure(self) -> str:
        """Id of the ledger's run; the registered model and the run are made where they are not there yet."""
        if self._run_id is None:
            self._run_id = self._tagged() or self._made()
        return self._run_id

    def _tagged(self) -> str | None:
        try:
            model = self._connection.call(
                "read the registered model", lambda client: client.get_registered_model(self._model), unless=absent
            )
        except TrackingError:
            raise
        except Exception as error:
            if not absent(error):
                raise
            return None
        self._run_id = model.tags.get(TAG)
        return self._run_id

    def _made(self) -> str:
        run_id = self._new_run()
        try:
            self._connection.call(
                "create the registered model",
                lambda client: client.create_registered_model(self._model, tags={TAG: run_id}),
                unless=taken,
            )
        except TrackingError:
            raise
        except Exception as error:
            if not taken(error):
                raise
            return self._theirs(run_id)
        return run_id

    def _theirs(self, own: str) -> str:
        """The ledger of a model that is there already; `own` where a model made by hand has none."""
        tagged = self._tagged()
        if tagged is None:
            # no atomic write is left for this rare case: the last tag wins, and all wait until nobody writes any more
            self._connection.call(
                "mark the ledger", lambda client: client.set_registered_model_tag(self._model, TAG, own)
            )
            time.sleep(SETTLE_SECONDS)
            tagged = self._tagged() or own
        if tagged != own:
            self._connection.call("remove a surplus ledger", lambda client: client.delete_run(own))
        return tagged

    def _new_run(self) -> str:
        experiment = self._experiment()
        tags = {"forecastcore_kind": "ledger", "forecastcore_ledger_of": self._model}
        run = self._connection.call(
            "start the promotion ledger",
            lambda client: client.create_run(experiment, tags=tags, run_name="promotion ledger"),
        )
        run_id: str = run.info.run_id
        # parameters can be added to a run that has ended; one that stays RUNNING would look stuck
        self._connection.call("end the ledger's run", lambda client: client.set_terminated(run_id))
        return run_id

    def _values(self, run_id: str) -> dict[int, str]:
        run = self._connection.call("read the promotion ledger", lambda client: client.get_run(run_id))
        keys = ((KEY.match(key), value) for key, value in run.data.params.items())
        return {int(match[1]): value for match, value in keys if match}

    def _claimed(self, run_id: str, seq: int, value: str) -> str:
        """Try to write `value` under the number, and read what stands there: an answer lost on the way is no answer."""
        failure: TrackingError | None = None
        for trial in range(_TRIES):
            try:
                self._connection.call(
                    "write the promotion ledger", lambda client: client.log_param(run_id, f"entry-{seq:06d}", value)
                )
            except TrackingError as error:
                failure = error
            found = self._values(run_id).get(seq)
            if found is not None:
                return found
            time.sleep(0.2 * 2**trial)
        raise failure or TrackingError(f"entry {seq} of the promotion ledger was written, but is not there")

    def _parsed(self, seq: int, value: str) -> LedgerEntry:
        try:
            entry = LedgerEntry.model_validate(json.loads(value)["entry"])
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise TrackingError(
                f"entry {seq} of the promotion ledger of {self._model} cannot be read",
                hint="it was not written by this version of forecastcore; nothing is served on its word",
            ) from error
        if entry.seq != seq:
            raise TrackingError(f"entry {seq} of the promotion ledger of {self._model} calls itself {entry.seq}")
        return entry


def standing(entries: Sequence[LedgerEntry]) -> tuple[str | None, str | None]:
    """Champion and previous champion after all entries; `previous` is the last one that was another version."""
    reigns = [entry.champion for entry in entries if entry.champion is not None]
    if not reigns:
        return None, None
    return reigns[-1], next((version for version in reversed(reigns) if version != reigns[-1]), None)


def digest_of(entries: Sequence[LedgerEntry], version: str) -> str | None:
    """Digest under which `version` became champion; None where it never did."""
    crowned = (entry.digest for entry in reversed(entries) if entry.champion == version and entry.digest)
    return next(crowned, None)


def _written(entry: LedgerEntry) -> str:
    """JSON of the entry and of its writer's own word, its reason cut to what a parameter takes."""
    writer, reason = uuid.uuid4().hex, entry.reason
    text = _json(entry, writer)
    while len(text) > PARAM_CHARS and reason:
        reason = reason[: len(reason) * 9 // 10]
        text = _json(entry.model_copy(update={"reason": reason + " …"}), writer)
    return text


def _json(entry: LedgerEntry, writer: str) -> str:
    # in ASCII, so that a backend that counts bytes counts the same
    return json.dumps({"entry": entry.to_json(), "writer": writer}, separators=(",", ":"))
