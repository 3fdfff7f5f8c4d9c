"""The registry: weights come back whole, one champion per settings hash, promotion and rollback in one step."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from model_cases import BYTES, added, model, trial
from store_fixtures import SETTINGS

from definet_flows.errors import InputError
from definet_flows.schemas.models import Champion, Lease, Model, ModelRef
from definet_flows.stores import Records, locking, open_store
from definet_flows.stores.learning import weight_files as weights
from definet_flows.stores.learning.registry import (
    champion,
    champion_document,
    find_model,
    models,
    promote,
    register,
    rollback,
    settings_with_champion,
    state_of,
)
from definet_flows.stores.learning.weight_files import get_weights, put_weights
from definet_flows.stores.locking import HeldError, sole, swap

pytest_plugins = ["mongo_server"]


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongo)])
def records(request, tmp_path):
    if request.param == "sqlite":
        with open_store(str(tmp_path / "records.sqlite")) as opened:
            yield opened
    else:
        with Records(request.getfixturevalue("mongo_server").store()) as opened:
            yield opened


def test_weights_come_back_in_whole_from_several_parts(records, monkeypatch):
    monkeypatch.setattr(weights, "_CHUNK", 1000)
    digest = put_weights(records, BYTES)
    assert put_weights(records, BYTES) == digest
    assert get_weights(records, digest) == BYTES


def test_damaged_or_missing_weights_are_refused(records, monkeypatch):
    monkeypatch.setattr(weights, "_CHUNK", 1000)
    digest = put_weights(records, BYTES)
    with weights._beside(records) as store:
        store.remove_docs({"id": f"{digest}-3"})
    with pytest.raises(InputError, match="10 of 11 parts"):
        get_weights(records, digest)
    with pytest.raises(InputError, match="nothing"):
        get_weights(records, "0" * 64)


def test_weights_are_not_among_the_records(records):
    added(records, "one")
    assert "weights" not in {doc["kind"] for doc in records.store.query()}


# ------------------------------------------------------------------ champions


def test_states_follow_promotion_and_rollback(records):
    first, second, third = (added(records, name) for name in ("one", "two", "three"))
    promote(records, first, trial())
    promote(records, second, trial(first.ref))
    document = champion_document(records, SETTINGS)
    assert [state_of(m, document) for m in (first, second, third)] == ["retired", "champion", "challenger"]
    assert champion(records, SETTINGS) == second
    assert rollback(records, SETTINGS).model == first.ref
    promote(records, third, trial(first.ref))
    assert [rollback(records, SETTINGS).model for _ in range(2)] == [first.ref, None]
    assert champion(records, SETTINGS) is None
    with pytest.raises(InputError, match="nothing to roll back"):
        rollback(records, SETTINGS)
    document = champion_document(records, SETTINGS)
    actions = [tenure.action for tenure in document.history]
    assert actions == ["promoted", "promoted", "rolled back", "promoted", "rolled back", "rolled back"]


def test_each_settings_hash_has_its_own_champion(records):
    first = added(records, "one")
    other = register(records, model("other", "7" * 32), BYTES)
    promote(records, first, trial())
    promote(records, other, trial())
    assert champion(records, SETTINGS).id == "one"
    assert champion(records, "7" * 32).id == "other"
    assert settings_with_champion(records, "7") == "7" * 32
    with pytest.raises(InputError, match="2 settings with a champion"):
        settings_with_champion(records, None)


def test_what_did_not_pass_or_was_tried_against_another_is_not_promoted(records):
    first, second = added(records, "one"), added(records, "two")
    with pytest.raises(InputError, match="not better"):
        promote(records, first, trial(passed=False))
    promote(records, first, trial())
    with pytest.raises(InputError, match="one is champion: try it again"):
        promote(records, second, trial())
    assert champion(records, SETTINGS) == first


def test_a_model_is_found_by_name_or_hash(records):
    first = added(records, "one")
    added(records, "two")
    assert find_model(records, first.sha256[:10]) == first
    assert [m.id for m in models(records)] == ["one", "two"]
    with pytest.raises(InputError, match="one, two"):
        find_model(records, "three")


def test_of_two_promotions_at_once_one_is_refused(records):
    first, second = added(records, "one"), added(records, "two")
    assert promote(records, first, trial()).revision == 0
    late = Champion(id=Champion.identity(SETTINGS), settings_hash=SETTINGS, history=(tenure(second),))
    assert not swap(records, late, None)
    assert swap(records, late, 0)
    assert not swap(records, late, 0)
    assert champion_document(records, SETTINGS).revision == 1


def tenure(of: Model):
    return {"action": "promoted", "model": of.ref, "at": "2026-01-01", "reason": "a test"}


@pytest.mark.mongo
def test_many_processes_that_change_the_champion_lose_nothing(mongo_server):
    spec = mongo_server.store()
    with Records(spec) as records:
        first, second = added(records, "one"), added(records, "two")
        promote(records, first, trial())
    arguments = spec.as_dict()
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        changes = sum(pool.map(_swaps, [(arguments, second.ref.name, 15)] * 2))
    with Records(mongo_server.store(collection_name=spec.collection_name)) as records:
        document = champion_document(records, SETTINGS)
        assert document.revision == changes
        assert len(document.history) == 1 + changes


def _swaps(job) -> int:
    from maggma.stores import MongoStore  # noqa: PLC0415

    arguments, name, times = job
    done = 0
    with Records(MongoStore.from_dict(arguments)) as records:
        for _ in range(times):
            document = champion_document(records, SETTINGS)
            history = (*document.history, tenure(find_model(records, name)))
            changed = Champion(id=document.id, settings_hash=SETTINGS, history=history)
            done += swap(records, changed, document.revision)
    return done


def test_killed_while_changing_the_champion_one_of_both_is_there(tmp_path):
    path = str(tmp_path / "records.sqlite")
    with open_store(path) as records:
        first, second = added(records, "one"), added(records, "two")
        promote(records, first, trial())
    context = multiprocessing.get_context("fork")
    for k in range(8):
        process = context.Process(target=_back_and_forth, args=(path, second.id, first.ref), daemon=True)
        before = _revision(path)
        process.start()
        until = time.monotonic() + 60
        while _revision(path) == before:
            assert time.monotonic() < until, "nothing changed within a minute"
            time.sleep(0.001)
        time.sleep(0.003 * k)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with open_store(path) as records:
            document = champion_document(records, SETTINGS)
            assert document.model in (first.ref, second.ref)
            assert champion(records, SETTINGS).ref == document.model
            assert get_weights(records, document.model.sha256) == BYTES + document.model.name.encode()
    assert len(document.history) > 1


def _revision(path: str) -> int:
    with open_store(path, read_only=True) as records:
        return champion_document(records, SETTINGS).revision


def _back_and_forth(path: str, name: str, before: ModelRef) -> None:
    while True:
        with open_store(path) as records:
            if champion_document(records, SETTINGS).model == before:
                promote(records, find_model(records, name), trial(before))
            else:
                rollback(records, SETTINGS)


# ------------------------------------------------------------------ one at a time


def test_a_lease_is_given_back_and_a_living_holder_is_told(tmp_path):
    path = str(tmp_path / "records.sqlite")
    with sole("work", path) as check, open_store(path) as records:
        check(records)
        with pytest.raises(HeldError, match=f"work runs already: process {os.getpid()}"), sole("work", path):
            pass
    with sole("work", path), sole("other work", path):
        pass


def test_a_holder_that_was_killed_here_does_not_lock(tmp_path):
    path = str(tmp_path / "records.sqlite")
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(path,), daemon=True)
    process.start()
    until = time.monotonic() + 20
    while _holder(path) is None:
        assert time.monotonic() < until, "no lease within 20 s"
        time.sleep(0.02)
    with pytest.raises(HeldError), sole("work", path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with sole("work", path) as check, open_store(path) as records:
        check(records)


def _hold(path: str) -> None:
    with sole("work", path):
        time.sleep(60)


def _holder(path: str) -> str | None:
    if not Path(path).exists():
        return None
    with open_store(path, read_only=True) as records:
        found = next(records.find(Lease), None)
    return None if found is None else found.holder


def elsewhere(age: float, **fields) -> Lease:
    place = {"hostname": "elsewhere", "pid": 1, "holder": "x", "renewed": time.time() - age, "beat": 0.05}
    return Lease(id=Lease.identity("work"), what="work", **place, **fields)


@pytest.mark.parametrize("age", [100, 700, -50])
def test_a_holder_elsewhere_that_is_silent_is_dead(tmp_path, age):
    path = str(tmp_path / "records.sqlite")
    with open_store(path) as records:
        assert swap(records, elsewhere(age), None)
    with sole("work", path):
        assert _holder(path) != "x"


def test_a_holder_elsewhere_that_renews_lives_whatever_its_clock_says(tmp_path):
    path = str(tmp_path / "records.sqlite")
    with open_store(path) as records:
        swap(records, elsewhere(300), None)

    def beat():
        for k in range(40):
            time.sleep(0.02)
            with open_store(path) as records:
                swap(records, elsewhere(300), k)

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(HeldError, match="on elsewhere"), sole("work", path):
        pass
    thread.join()


def test_a_holder_that_stood_still_is_told_that_it_was_replaced(tmp_path, monkeypatch):
    path = str(tmp_path / "records.sqlite")
    monkeypatch.setattr(locking, "runs", lambda _: False)
    with (
        sole("work", path) as check,
        sole("work", path),
        open_store(path) as records,
        pytest.raises(InputError, match="another took over"),
    ):
        check(records)


def test_a_holder_gives_signs_of_life(tmp_path, monkeypatch):
    path = str(tmp_path / "records.sqlite")
    monkeypatch.setattr(locking, "BEAT", 0.02)
    with sole("work", path):
        seen = set()
        until = time.monotonic() + 20
        while len(seen) < 3:
            assert time.monotonic() < until, "no beats within 20 s"
            with open_store(path) as records:
                seen.add(next(records.find(Lease)).renewed)
