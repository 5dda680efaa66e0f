"""The promotion ledger: one winner per number, the aliases its projection."""

import json
import multiprocessing
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastcore.errors import LedgerConflict, TrackingError
from forecastcore.messages import LedgerEntry
from forecastcore.tracking import open_store
from forecastcore.tracking.connect import Connection
from forecastcore.tracking.ledger import Ledger, digest_of, standing


def entry(seq, version="1", champion="1", action="promote", **more):
    at = datetime(2024, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
    more = {"previous": None, **more}
    return LedgerEntry(seq=seq, at=at, action=action, version=version, champion=champion, **more)


def vic(home):
    return open_store(project="vic-demand", uri="sqlite:///mlflow.db", experiment="vic", root=Path(home))


def aliases(client):
    return {alias: str(version) for alias, version in client.get_registered_model("vic-demand").aliases.items()}


class TestEntries:
    def test_entries_are_read_back_as_they_were_written_oldest_first(self, store, home):
        written = [entry(n, reason=f"Grund {n}: größer “als” 1 %", digest="a" * 64, by="me") for n in range(1, 13)]
        for one in written:
            assert store.append(one) == one
        assert store.ledger() == written
        assert vic(home).ledger() == written

    @pytest.mark.parametrize(("seq", "head"), [(1, 2), (2, 2), (4, 2), (9, 2)])
    def test_only_the_next_number_can_be_written(self, store, seq, head):
        for n in (1, 2):
            store.append(entry(n))
        with pytest.raises(LedgerConflict) as caught:
            store.append(entry(seq, reason="late"))
        assert (caught.value.expected, caught.value.head) == (seq, head)
        assert [one.reason for one in store.ledger()] == ["", ""]

    def test_the_same_decision_of_two_writers_counts_once(self, home, store):
        store.append(entry(1))
        with pytest.raises(LedgerConflict):
            vic(home).append(entry(1))
        assert len(store.ledger()) == 1

    def test_a_reason_too_long_for_a_parameter_is_cut_and_the_rest_kept(self, store):
        store.append(entry(1, reason='"ü' * 4000, digest="b" * 64))
        (read,) = store.ledger()
        assert read.reason.startswith('"ü"ü')
        assert read.reason.endswith("…")
        assert read == entry(1, reason=read.reason, digest="b" * 64)

    def test_a_write_whose_answer_was_lost_is_found_to_have_won(self, store, home, monkeypatch):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        real = MlflowClient.log_param

        def lost(self, *arguments, **named):
            real(self, *arguments, **named)
            raise MlflowException("gateway timeout")

        monkeypatch.setattr(MlflowClient, "log_param", lost)
        assert store.append(entry(1)) == entry(1)
        assert store.ledger() == [entry(1)]

    def test_an_entry_written_by_something_else_is_not_believed(self, store, client):
        store.append(entry(1))
        run_id = client.get_registered_model("vic-demand").tags["forecastcore_ledger"]
        client.log_param(run_id, "entry-000002", json.dumps({"entry": {"champion": "666"}}))
        with pytest.raises(TrackingError, match="entry 2"):
            store.resolve("champion")

    def test_the_ledgers_run_does_not_look_stuck(self, store, client):
        store.append(entry(1))
        run_id = client.get_registered_model("vic-demand").tags["forecastcore_ledger"]
        assert client.get_run(run_id).info.status == "FINISHED"

    def test_two_projects_of_one_mlflow_keep_two_ledgers(self, store, home):
        store.append(entry(1))
        other = open_store(project="other", uri="sqlite:///mlflow.db", experiment="vic", root=home)
        assert other.ledger() == []
        other.append(entry(1, version="5", champion="5"))
        assert [one.champion for one in store.ledger()] == ["1"]

    def test_a_model_made_by_hand_gets_a_ledger(self, store, home, client):
        client.create_registered_model("vic-demand", tags={"team": "load"})
        store.append(entry(1))
        assert vic(home).ledger() == [entry(1)]
        assert client.get_registered_model("vic-demand").tags["team"] == "load"


class TestRaces:
    @pytest.mark.row(30)
    def test_first_writers_at_once_share_one_ledger(self, home, client):
        barrier, found = threading.Barrier(8), []

        def begin():
            ledger = vic(home)._ledger
            ledger._connection.client  # noqa: B018 - opened before the race
            barrier.wait()
            found.append(ledger.ensure())

        threads = [threading.Thread(target=begin) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len(set(found)) == 1
        experiment = client.get_experiment_by_name("vic").experiment_id
        left = client.search_runs([experiment], filter_string="tags.forecastcore_kind = 'ledger'")
        assert [run.info.run_id for run in left] == found[:1]

    @pytest.mark.row(30, trials=4)
    def test_of_many_writers_with_one_base_one_wins_and_nothing_is_lost(self, home, client, registered):
        _race(home, client, registered, processes=2, threads=3, rounds=4)

    @pytest.mark.row(30, trials=100)
    @pytest.mark.slow
    @pytest.mark.timeout(1500)
    def test_of_twenty_processes_with_one_base_one_wins_in_each_of_a_hundred_rounds(self, home, client, registered):
        _race(home, client, registered, processes=20, threads=1, rounds=100)


def _race(home, client, registered, *, processes, threads, rounds):
    for level in (1.0, 2.0):
        registered(level)
    vic(home).append(entry(1, action="first"))
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    workers = [
        context.Process(target=_decide_often, args=(str(home), who, threads, rounds, answers))
        for who in range(processes)
    ]
    for worker in workers:
        worker.start()
    wins = [win for _ in workers for win in answers.get(timeout=1400)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * processes
    # every writer tried every number once: exactly one success per base, and what won is what is read
    assert Counter(seq for seq, _ in wins) == dict.fromkeys(range(2, rounds + 2), 1)
    store = vic(home)
    assert {one.seq: one.by for one in store.ledger()[1:]} == dict(wins)
    tail = store.ledger()[-1]
    assert aliases(client)["champion"] == tail.champion == store.resolve("champion").version


def _decide_often(home, who, threads, rounds, answers):
    wins = []

    def decide(name):
        store = vic(home)
        for seq in range(2, rounds + 2):
            while len(store.ledger()) < seq - 1:
                pass
            champion = str(1 + seq % 2)
            try:
                store.append(entry(seq, version=champion, champion=champion, by=name))
            except LedgerConflict:
                continue
            wins.append((seq, name))

    mine = [threading.Thread(target=decide, args=(f"{who}/{n}",)) for n in range(threads)]
    for thread in mine:
        thread.start()
    for thread in mine:
        thread.join()
    answers.put(wins)


class TestAliases:
    def test_aliases_follow_the_decisions(self, registered, store, client):
        for level in (1.0, 2.0, 3.0):
            registered(level)
        seen = []
        for one in (
            entry(1, "1", "1", "first"),
            entry(2, "2", "1", "hold"),
            entry(3, "3", "3", "promote", previous="1"),
            entry(4, "1", "1", "rollback", previous="3"),
        ):
            store.append(one)
            seen.append(tuple(aliases(client).get(name) for name in ("champion", "previous", "challenger")))
        assert seen == [("1", None, "3"), ("1", None, "3"), ("3", "1", "3"), ("1", "3", "3")]
        assert store.resolve("previous").version == "3"
        assert store.resolve("champion").aliases == ("champion",)
        assert [version.aliases for version in store.versions()] == [("challenger", "previous"), (), ("champion",)]

    def test_the_ledger_is_believed_and_not_the_alias(self, registered, store, client):
        registered(1.0)
        registered(2.0)
        store.append(entry(1, "1", "1", "first"))
        client.set_registered_model_alias("vic-demand", "champion", "2")
        assert store.resolve("champion").version == "1"
        assert store.versions()[0].aliases == ("challenger",)

    @pytest.mark.row(30)
    def test_a_crash_between_decision_and_alias_is_mended_by_the_next_run(self, registered, store, home, client):
        registered(1.0)
        registered(2.0)
        Ledger(Connection("sqlite:///mlflow.db", home), "vic-demand", store._experiment).append(
            entry(1, "2", "2", "first")
        )
        client.delete_registered_model_alias("vic-demand", "challenger")
        assert aliases(client) == {}
        later = vic(home)
        with later.run("predict", tags={}):
            assert aliases(client) == {"champion": "2", "challenger": "2"}
        assert any("aliases put right" in note for note in later.notes)
        assert later.project_aliases() == {}

    def test_a_champion_that_was_deleted_is_missed_aloud(self, registered, store, client):
        registered(1.0)
        registered(2.0)
        store.append(entry(1, "1", "1", "first"))
        client.delete_model_version("vic-demand", "1")
        with pytest.raises(TrackingError, match="version 1 of vic-demand is champion by the ledger") as caught:
            store.resolve("champion")
        assert "models promote" in caught.value.hint


class TestStanding:
    reigns = st.lists(st.sampled_from(["1", "2", "3"]))

    @given(reigns)
    def test_the_champion_is_the_last_and_previous_the_last_other(self, reigns):
        champion, previous = standing([entry(n, v, v) for n, v in enumerate(reigns, 1)])
        assert champion == (reigns[-1] if reigns else None)
        others = [version for version in reigns if version != champion]
        assert previous == (others[-1] if others else None)

    @given(reigns, st.sampled_from(["1", "2", "3"]))
    def test_the_digest_is_that_of_the_last_coronation(self, reigns, version):
        entries = [entry(n, v, v, digest=f"{n:064x}") for n, v in enumerate(reigns, 1)]
        crowned = [one.digest for one in entries if one.champion == version]
        assert digest_of(entries, version) == (crowned[-1] if crowned else None)
