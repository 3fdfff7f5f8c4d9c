"""A store with good documents of every kind and, beside them, each of their fields broken in one way."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from report_store import fill, identity
from store_fixtures import SETTINGS, WEIGHTS, host, prediction, relaxed_host

from definet_flows.schemas import Probe, dump
from definet_flows.schemas.campaign import LaunchedCampaign
from definet_flows.schemas.learning import Round
from definet_flows.schemas.models import Champion, HostTrial, Model, ModelRef, Supercell, Tenure, Trial
from definet_flows.schemas.starts import Choice, KnownPreRelaxer, PreRelaxerName
from definet_flows.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from definet_flows.schemas import Document

NOTHING = object()
_KEPT = (("id",), ("kind",), ("schema_version",))
Raw = dict[str, Any]

WAYS: dict[str, Callable[[Any], Any]] = {
    "none": lambda _: None,
    "missing": lambda _: NOTHING,
    "text": lambda _: "[/red]\x1b[31m\n\u202e</script>=1",
    "text in a list": lambda _: ["x", {"y": "\x1b]0;"}],
    "nested": lambda value: {"$where": {"deeper": [value, {}]}},
    "negative": lambda _: -20000000000000,
    "not finite": lambda _: float("nan"),
    "infinite": lambda _: float("-inf"),
    "huge": lambda _: 1e300,  # of a whole number as large a store is asked in vain
    "large": lambda _: 2**62,
    "empty list": lambda _: [],
    "true": lambda _: True,
    "twice": lambda value: value * 2 if isinstance(value, list | str) else [value, value],
    "half": lambda value: value[: len(value) // 2] if isinstance(value, list | str) else 0.5,
}


def good_documents() -> list[Document]:
    """Return a document of every kind that `fill` does not write."""
    ids = (identity("same"), identity("gated"))
    return [
        *_learned_documents(ids),
        prediction(identity("same")),
        relaxed_host(),
        Supercell.of(host()),
        KnownPreRelaxer.of(PreRelaxerName(name="fields", key="7" * 32)),
        Choice(
            id=Choice.identity(ids[0], SETTINGS),
            configuration_id=ids[0],
            settings_hash=SETTINGS,
            name="fields",
            key="7" * 32,
            reason="auto: fields, it saved 50% in 3 pairs here",
        ),
        LaunchedCampaign(
            id=LaunchedCampaign.identity(ids, ids[:1], SETTINGS, WEIGHTS),
            name="MoS2, 27 sites",
            engine="sevennet",
            settings_hash=SETTINGS,
            weights=WEIGHTS,
            configuration_ids=ids,
            controls=ids[:1],
            launched="2026-01-01T00:00:00+00:00",
            queue="fireworks",
        ),
        Probe(
            id=Probe.identity("r", 0.03, 1),
            record_id="r",
            configuration_id=identity("same"),
            settings_hash=SETTINGS,
            engine="sevennet",
            name="v_S",
            rattle=0.03,
            seed=1,
            energy_difference=0.0,
            distance=0.01,
            verdict="minimum",
        ),
    ]


def _learned_documents(ids: tuple[str, str]) -> list[Document]:
    """Return a document of every kind that retraining and active learning leave."""
    ref = ModelRef(name="sevennet-0", sha256="5" * 64)
    one = HostTrial(host="MoS2", n=9, champion=0.02, challenger=0.01, nothing=0.05, p=0.01)
    trial = Trial(champion=ref, held_out="h", hosts=(one,), steps=None, passed=True, reason="better", at="2026-01-01")
    return [
        Model(
            id="sevennet-1",
            settings_hash=SETTINGS,
            engine="sevennet",
            sha256="6" * 64,
            size=10,
            recipe={"seed": 1, "network": {"width": 64}},
            hosts=("MoS2",),
            data_hash="d",
            configurations=200,
            counts=("200 of MoS2",),
            refused=1,
            parent=ref,
            trials=(trial,),
        ),
        Champion(
            id=Champion.identity(SETTINGS),
            settings_hash=SETTINGS,
            history=(Tenure(action="promoted", model=ref, at="2026-01-01", reason="better"),),
        ),
        Round(
            id=Round.identity("l", 0),
            learning="l",
            number=0,
            strategy="random",
            weights=ref,
            error=0.02,
            held_out=3,
            relaxed=4,
            ionic_steps=5,
            core_hours=1.0,
            chosen=ids,
            stop=None,
            at="2026-01-01",
        ),
    ]


def paths_of(value: Any, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to every field, the first entry of every list included."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in items:
        yield (*before, key)
        yield from paths_of(part, (*before, key))


def broken(raw: Raw, path: tuple[str | int, ...], way: Callable[[Any], Any]) -> Raw | None:
    """Return a copy with one field broken; None where that cannot be."""

    def copied(value: Any, rest: tuple[str | int, ...]) -> Any:
        if not rest:
            return way(value)
        copy = dict(value) if isinstance(value, dict) else list(value)
        part = copied(value[rest[0]], rest[1:])
        if part is NOTHING:
            del copy[rest[0]]
        else:
            copy[rest[0]] = part
        return copy

    changed: Raw = copied(raw, path)
    return changed if "id" in changed and isinstance(changed["id"], str) else None


def break_store(path: Path, ways: Iterable[str]) -> int:
    """Fill a store, break every field of a document of each kind in each way; return how many broken ones there are."""
    with open_store(str(path)) as records:
        fill(records)
        records.put(*good_documents())
        kinds = {raw["kind"]: raw for raw in map(dump, good_documents())}
        some = next(records.store.query({"kind": "record", "status": "done", "start": "predicted"}))
        kinds |= {"record": some, "pair": next(records.store.query({"kind": "pair"}))}
        spoilt = []
        for kind, good in kinds.items():
            raw = {key: value for key, value in good.items() if key not in ("_id", "last_updated")}
            for way, (number, field) in product(ways, enumerate(paths_of(raw))):
                if field not in _KEPT:  # a version above ours is refused as a whole
                    changed = broken(raw | {"id": f"{kind}-{number}-{way}"}, field, WAYS[way])
                    spoilt += [] if changed is None else [changed]
        records.store.update(spoilt)
    return len(spoilt)
