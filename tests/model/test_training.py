"""Training: it learns, it is the same twice, it survives kill -9, and a step that is not finite is skipped."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import training_run
import two_processes
from training_run import pairs, recipe

from definet_flows.errors import InputError
from definet_flows.model.data.batches import Batch, HostSampler, PairBatches
from definet_flows.model.inference.checkpoint import load_checkpoint, save_checkpoint
from definet_flows.model.inference.predict import displacements
from definet_flows.model.network import kernels
from definet_flows.model.network.edges import FusedTableEdges
from definet_flows.model.training import train as training
from definet_flows.model.training.recipes import read_recipe
from definet_flows.model.training.train import TrainConfig, Training, card_of, read_weights, train

EPOCHS = 30


def curve(folder: Path) -> list[float]:
    """Validation errors by epoch, Å."""
    with (folder / "log" / "version_0" / "metrics.csv").open() as file:
        return [float(row["mae"]) for row in csv.DictReader(file) if row["mae"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    train(recipe(EPOCHS), [pairs()], folder)
    return folder


def test_it_learns(whole: Path) -> None:
    errors = curve(whole)
    assert len(errors) == EPOCHS
    assert errors[-1] < 0.8 * errors[0]


def test_the_best_weights_are_the_averaged_ones_that_were_validated(whole: Path) -> None:
    data = pairs()
    network = read_weights(whole / "best.ckpt", recipe(EPOCHS).network)
    entries = data.split("val")
    moved = displacements(network.eval(), data.host, data.numbers[entries], data.markers[entries])
    error = abs(moved - data.relaxed[entries]).mean(-1)
    atoms = data.markers[entries] != 2
    assert ((error * atoms).sum(1) / atoms.sum(1)).mean() == pytest.approx(min(curve(whole)), rel=1e-4)


def test_killed_and_resumed_it_follows_the_same_curve(whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, training_run.__file__, tmp_path, str(EPOCHS)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "ignore"}, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("last.ckpt"))) == 0 or len(_epochs(tmp_path)) < 2:
        assert time.monotonic() < until, "no checkpoint within two minutes"
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(
        [*command, "resume"], check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}
    )
    assert curve(tmp_path)[-1] == pytest.approx(curve(whole)[-1], rel=1e-4)


@pytest.mark.parametrize("torn", [("last",), ("last", "best")])
def test_a_torn_checkpoint_is_not_gone_on_from(whole: Path, tmp_path: Path, torn: tuple[str, ...]) -> None:
    for name in ("last", "best"):
        content = (whole / f"{name}.ckpt").read_bytes()
        (tmp_path / f"{name}.ckpt").write_bytes(content[: len(content) // 2] if name in torn else content)
    if "best" in torn:
        with pytest.raises(InputError, match=r"last\.ckpt cannot be read: remove"):
            training._readable(tmp_path)
        return
    with pytest.warns(UserWarning, match=r"last\.ckpt cannot be read: training goes on from best\.ckpt"):
        assert training._readable(tmp_path) == tmp_path / "best.ckpt"


def test_nothing_to_go_on_from_is_a_start(tmp_path: Path) -> None:
    assert training._readable(tmp_path) is None


def _epochs(folder: Path) -> list[float]:
    path = folder / "log" / "version_0" / "metrics.csv"
    return curve(folder) if path.exists() else []


def starts(**drawn: float) -> tuple[torch.Tensor, Training, Batch]:
    """Return where a batch starts relative to the lattice, Å, [B, N, 3]."""
    config = recipe(1).model_copy(update={"noise": 0.0, "interpolated": 0.0, "recycled": 0.0, **drawn})
    module = Training(config, [pairs()])
    batch = module_batch(module)
    return module._starts(batch) - module._lattice(0).positions, module, batch


def test_interpolated_starts_lie_between_lattice_and_label() -> None:
    start, _, batch = starts(interpolated=1.0)
    part = (start * batch.target).sum((1, 2)) / batch.target.square().sum((1, 2))
    assert ((part > 0) & (part < 1)).all()
    assert len(set(part.tolist())) == len(part)
    assert torch.allclose(start, part[:, None, None] * batch.target, atol=1e-6)


def test_recycled_starts_are_predictions_but_for_the_placeholders() -> None:
    start, module, batch = starts(recycled=1.0)
    lattice = module._lattice(0)
    with torch.no_grad():
        predicted = module.network.single_pass(batch.numbers, batch.markers, lattice.positions, lattice.edges)
    assert not start.requires_grad
    assert torch.allclose(start[batch.atoms], (predicted - lattice.positions)[batch.atoms])
    assert not start[~batch.atoms].any()
    assert predicted[~batch.atoms].sub(lattice.positions.expand_as(predicted)[~batch.atoms]).any()


def test_nothing_drawn_starts_on_the_lattice_itself() -> None:
    start, _, _ = starts()
    assert start.shape[0] == 1  # shared by the batch, which layer 0 exploits
    assert not start.any()


def test_a_step_that_is_not_finite_is_skipped_and_counted() -> None:
    module = Training(recipe(1), [pairs()])
    batch = module_batch(module)
    loss = module.training_step(batch, 0) * float("nan")
    loss.backward()
    before = [p.detach().clone() for p in module.network.parameters()]
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=1.0)
    module.on_before_optimizer_step(optimizer)
    optimizer.step()
    assert module.skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, module.network.parameters(), strict=True))


def test_many_in_a_row_stop_with_the_batch_named() -> None:
    module = Training(recipe(1), [pairs()])
    batch = module_batch(module)
    optimizer = torch.optim.AdamW(module.network.parameters())

    def broken_step() -> None:
        (module.training_step(batch, 0) * float("nan")).backward()
        module.on_before_optimizer_step(optimizer)

    for _ in range(20):
        broken_step()
    with pytest.raises(FloatingPointError, match=r"set, entries \["):
        broken_step()


def test_kernels_that_disagree_do_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled sum that is wrong in the gradient alone: the plain form is taken, with a warning that says so."""
    if kernels.library() is None:
        pytest.skip("no g++ here: there are no compiled kernels to go wrong")
    right = kernels.Messages.backward

    def wrong(ctx: object, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return tuple(g if g is None else 1.2 * g for g in right(ctx, *grads))

    module = Training(recipe(1), [pairs()])
    batch = module_batch(module)
    module.training_step(batch, 0)
    assert isinstance(module._lattice(0).edges, FusedTableEdges)
    monkeypatch.setattr(kernels.Messages, "backward", staticmethod(wrong))
    module = Training(recipe(1), [pairs()])
    module_batch(module)
    with pytest.warns(UserWarning, match="compiled kernels differ"):
        module.training_step(batch, 0)
    assert not isinstance(module._lattice(0).edges, FusedTableEdges)


def module_batch(module: Training):

    module.log = lambda *_, **__: None  # no trainer here
    data = pairs()
    return PairBatches([data])[0, data.split("train")[:3]]


def test_card_knows_hosts_and_elements(tmp_path: Path, whole: Path) -> None:
    data = pairs()
    network = read_weights(whole / "best.ckpt", recipe(EPOCHS).network)
    checkpoint = save_checkpoint(tmp_path / "m.safetensors", network, card_of("small", recipe(EPOCHS), [data]))
    assert checkpoint.card.elements == (16, 42)
    assert [host.formula for host in checkpoint.card.hosts] == ["MoS2"]
    assert checkpoint.card.data_hash


def test_batches_cover_an_epoch_once_and_differ_between_epochs() -> None:
    sampler = HostSampler([pairs()], "train", batch=4, seed=3)
    first = [tuple(entries) for _, entries in sampler]
    assert sorted(e for batch in first for e in batch) == list(range(18))
    assert first == [tuple(entries) for _, entries in sampler]
    sampler.set_epoch(1)
    assert first != [tuple(entries) for _, entries in sampler]


def test_single_sets_can_be_drawn_more_or_less_of() -> None:
    few, many = (replace(pairs(), name=name) for name in ("few", "many"))
    sampler = HostSampler([few, many], "train", batch=4, per_epoch=5, drawn={"many": 0}, seed=3)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 2 + 5
    assert [sum(len(e) for index, e in drawn if index == i) for i in (0, 1)] == [5, 18]


def test_a_recipe_that_draws_from_a_set_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = recipe(1).model_copy(update={"drawn": {"low_density_defects/WSe": 800}})
    with pytest.raises(InputError, match="low_density_defects/WSe is not a set"):
        train(config, [pairs()], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_share_the_batches() -> None:
    shares = [HostSampler([pairs()], "train", batch=3, seed=3, rank=r, world=2) for r in (0, 1)]
    seen = [{tuple(entries) for _, entries in share} for share in shares]
    assert not seen[0] & seen[1]
    assert len(seen[0]) == len(seen[1]) == 3


@pytest.mark.parametrize("name", ["paper", "shipped", "refine", "wide", "longer", "alone"])
def test_recipes_are_valid(name: str) -> None:
    assert read_recipe(name).epochs > 1


def test_the_paper_s_recipe_is_the_paper_s() -> None:
    paper = read_recipe("paper")
    assert (paper.network.hidden, paper.network.layers, paper.network.gaussians, paper.batch) == (512, 4, 128, 24)
    assert (paper.learning_rate, paper.clip, paper.ema, paper.epochs, paper.patience) == (1e-4, 150, 0.999, 800, 10)


@pytest.mark.parametrize(
    ("text", "saying"),
    [("hiden: 3", "hiden"), ("batch: 0", "batch"), ("[", "YAML"), ("network: {hidden: 3}", "hidden")],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, saying: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=saying):
        read_recipe(str(path))


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """As Lightning does on two GPUs: each takes half of the batches, both end with the same weights."""
    script = two_processes.__file__
    done = subprocess.run([sys.executable, script, tmp_path], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = ((tmp_path / rank).read_text() for rank in "01")
    assert first == second
    assert first.startswith("2 ")


# ------------------------------------------------------------------ the identity of the data

DATA = pairs(8)


def swapped(values):
    """The first train and the first test or val entry change places."""
    other = next(k for k, value in enumerate(values) if value != values[0])
    return (values[other], *values[1:other], values[0], *values[other + 1 :])


def flipped(array):
    return -array


def permuted(array):
    return array[::-1].copy()


@pytest.mark.parametrize(
    "changes",
    [
        {"relaxed": flipped(DATA.relaxed)},
        {"relaxed": permuted(DATA.relaxed)},
        {"relaxed": np.roll(DATA.relaxed, 1, axis=2)},
        {"unrelaxed": DATA.unrelaxed + np.float32(0.01)},
        {"markers": permuted(DATA.markers)},
        {"numbers": DATA.numbers + np.uint8(1)},
        {"splits": swapped(DATA.splits)},
        {"ids": DATA.ids[::-1]},
        {"name": "other"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_data_have_another_hash(changes):
    other = replace(DATA, **changes)
    assert other.data_hash != DATA.data_hash
    cards = [card_of("x", TrainConfig(), [one]).data_hash for one in (DATA, other)]
    assert cards[0] != cards[1]


def test_the_same_data_have_the_same_hash():
    assert pairs(8).data_hash == DATA.data_hash
    assert replace(DATA, relaxed=np.asfortranarray(DATA.relaxed)).data_hash == DATA.data_hash
    assert replace(DATA, relaxed=DATA.relaxed.astype(">f4")).data_hash == DATA.data_hash


def test_a_card_says_what_its_hash_is_of():
    assert card_of("x", TrainConfig(), [DATA]).data_hash.startswith("2:")
    assert not load_checkpoint("definet-2dmd").card.data_hash.startswith("2:")  # of an earlier form
