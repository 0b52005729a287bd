"""Training: deterministic, resumable at any step, the same in one process or two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from avloc import AvlocError, Batch, Features
from avloc.interfaces import Context, Needs, Phase
from avloc.suite import Train
from avloc.training import Fit, Trained, TrainingData, load_weights
from helpers.tasks import task_of
from helpers.world import Blocks, Dot, Plain


def _data(count: int = 12) -> TrainingData:
    splits = {split: Blocks(None, split=split, count=count) for split in ("train", "val")}
    return task_of(splits, Plain()).training_data(Needs(), Train())


def _fit(
    folder: Path,
    *,
    data: TrainingData | None = None,
    method: Dot | None = None,
    save_every: float | None = None,
    source: str = "",
    **changes: Any,
) -> Fit:
    torch.manual_seed(0)
    train = Train(**{"epochs": 3, "batch_size": 5, "lr": 0.05, **changes})
    fresh = method or Dot(Plain().info, Blocks.classes)
    return Fit(
        fresh,
        data or _data(),
        train,
        seed=0,
        folder=folder,
        fabric=Fabric(accelerator="cpu", devices=1),
        save_every=save_every,
        source=source,
    )


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [{**json.loads(line), "seconds": 0} for line in (folder / "train.jsonl").read_text().splitlines()]


def test_training_lowers_the_loss_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    method = Dot(Plain().info, Blocks.classes, dropout=0.0)
    path = _fit(tmp_path, method=method, data=_data(48), epochs=12, batch_size=48).run()
    lines = _lines(tmp_path)
    assert lines[-1]["loss"]["match"] < lines[0]["loss"]["match"]
    scores = [line["validation"]["match"] for line in lines]
    kept = max(n for n, line in enumerate(lines) if line["kept"])
    assert scores[kept] == min(scores)
    assert set(load_weights(path)) == {"weight"}


@pytest.mark.parametrize("shares", [(1.0,), (1, 1), (5, 3, 5, 3, 5, 3, 5), (15, 1), (0.1, 0.2, 3)])
@pytest.mark.parametrize("epochs", [7, 20, 23])
def test_phases_share_exactly_the_epochs_there_are(tmp_path: Path, shares: tuple[float, ...], epochs: int) -> None:
    method = Dot(Plain().info, Blocks.classes)
    method.phases = lambda: [Phase(f"part{n}", share) for n, share in enumerate(shares)]  # type: ignore[method-assign]
    planned = _fit(tmp_path, method=method, epochs=epochs).epochs
    assert sum(planned) == epochs
    exact = [epochs * share / sum(shares) for share in shares]
    assert min(planned) >= 1
    if min(exact) >= 1:
        assert all(abs(count - wanted) < 1 for count, wanted in zip(planned, exact, strict=True))


def test_a_phase_scales_the_learning_rate_of_the_method_only() -> None:
    method, encoder = Dot(Plain().info, Blocks.classes), torch.nn.Linear(2, 2)
    mine, its = Trained(method, encoder).chosen(Phase(lr_scale=10), 1e-4)  # type: ignore[arg-type]
    assert (mine["lr"], its["lr"]) == (pytest.approx(1e-3), 1e-4)
    assert its["params"] == list(encoder.parameters())


def test_the_same_seed_trains_the_same_weights(tmp_path: Path) -> None:
    one, two = (load_weights(_fit(tmp_path / name).run())["weight"] for name in "ab")
    assert torch.equal(one, two)


@pytest.mark.parametrize("stop", range(1, 9))
def test_training_stopped_at_any_step_resumes_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    method = Dot(Plain().info, Blocks.classes, stages=2)
    start = {name: value.clone() for name, value in method.state_dict().items()}
    _fit(tmp_path / "whole", method=method).run()
    method.load_state_dict(start)
    stopped = _fit(tmp_path / "stopped", method=method, save_every=0)
    steps, original = [], Fit._step

    def step(self: Fit, *args: Any) -> None:
        steps.append(1)
        if len(steps) > stop:
            raise KeyboardInterrupt
        original(self, *args)

    monkeypatch.setattr(Fit, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    monkeypatch.setattr(Fit, "_step", original)
    again = Dot(Plain().info, Blocks.classes, stages=2)
    _fit(tmp_path / "stopped", method=again).run()
    assert _lines(tmp_path / "stopped") == _lines(tmp_path / "whole")
    whole, other = (load_weights(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "stopped"))
    assert torch.equal(whole["weight"], other["weight"])
    assert sorted(p.name for p in (tmp_path / "stopped").iterdir()) == ["checkpoint.safetensors", "train.jsonl"]


def test_a_resumed_phase_starts_from_the_phase_before_not_from_a_later_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Dot(Plain().info, Blocks.classes, stages=2)
    start = {name: value.clone() for name, value in method.state_dict().items()}
    _fit(tmp_path / "whole", method=method).run()
    method.load_state_dict(start)
    original = Fit._save_weights

    def save(self: Fit) -> None:
        original(self)
        if self.position.phase == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Fit, "_save_weights", save)
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "stopped", method=method, save_every=1e9).run()  # resume points between phases only
    monkeypatch.setattr(Fit, "_save_weights", original)
    _fit(tmp_path / "stopped", method=Dot(Plain().info, Blocks.classes, stages=2)).run()
    whole, other = (load_weights(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "stopped"))
    assert torch.equal(whole["weight"], other["weight"])


def test_an_edited_method_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_weights(_fit(tmp_path / "whole").run())["weight"]
    started = _fit(tmp_path / "edited", save_every=0, source="one")
    started.method.load_state_dict({"weight": torch.zeros_like(whole)})
    original = Fit._finish_epoch

    def stop(self: Fit, *args: Any) -> None:
        original(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Fit, "_finish_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        started.run()
    monkeypatch.setattr(Fit, "_finish_epoch", original)
    assert (tmp_path / "edited" / "resume.safetensors").is_file()
    assert torch.equal(load_weights(_fit(tmp_path / "edited", source="two").run())["weight"], whole)
    assert _lines(tmp_path / "edited") == _lines(tmp_path / "whole")


def test_a_damaged_resume_file_starts_over(tmp_path: Path) -> None:
    whole = load_weights(_fit(tmp_path / "whole").run())["weight"]
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "resume.safetensors").write_bytes(b"")
    assert torch.equal(load_weights(_fit(tmp_path / "torn").run())["weight"], whole)


class Alone(Dot):
    """Dot, with a loss that compares no clips, so that the parts of a batch add up to it; notes their sizes."""

    def __init__(self) -> None:
        super().__init__(Plain().info, Blocks.classes, dropout=0.0)
        self.sizes: list[int] = []

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        self.sizes += [len(batch.ids)] * self.training
        return {"match": (self.maps(features) ** 2).mean()}


def test_accumulation_splits_a_step(tmp_path: Path) -> None:
    weights, lines, sizes = [], [], []
    for parts in (1, 2):
        torch.manual_seed(0)
        method, folder = Alone(), tmp_path / str(parts)
        train = {"batch_size": 4, "accumulate": parts, "weight_decay": 0.1}  # then a gradient's scale matters
        weights.append(load_weights(_fit(folder, method=method, **train).run())["weight"])
        lines.append([(line["step"], pytest.approx(line["loss"]["match"])) for line in _lines(folder)])
        sizes.append(method.sizes)
    assert sizes == [[4] * 9, [2] * 18]
    assert lines[1] == lines[0]
    torch.testing.assert_close(*weights)


def test_a_loss_that_is_not_finite_stops_with_its_terms(tmp_path: Path) -> None:
    method = Dot(Plain().info, Blocks.classes)
    with torch.no_grad():
        method.weight.fill_(float("nan"))
    with pytest.raises(AvlocError, match="not finite in epoch 0, step 0: match nan"):
        _fit(tmp_path, method=method).run()


def test_no_training_clips_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AvlocError, match="no usable training clips"):
        _fit(tmp_path, data=_data(count=0))


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nonsense")
    with pytest.raises(AvlocError, match=r"checkpoint\.safetensors cannot be read"):
        load_weights(tmp_path / "checkpoint.safetensors")


def _two_processes(fabric: Fabric, folder: str) -> None:
    torch.manual_seed(0)
    method = Dot(Plain().info, Blocks.classes, dropout=0.0)
    train = Train(epochs=2, batch_size=5, lr=0.05)
    Fit(method, _data(), train, seed=0, folder=Path(folder), fabric=fabric).run()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = Dot(Plain().info, Blocks.classes, dropout=0.0)
    alone = load_weights(_fit(tmp_path / "one", method=method, epochs=2).run())["weight"]
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(_two_processes, str(tmp_path / "two"))
    together = load_weights(tmp_path / "two" / "checkpoint.safetensors")["weight"]
    assert torch.allclose(alone, together, atol=1e-6)
