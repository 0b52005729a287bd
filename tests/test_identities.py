"""Which field changes which id: a verdict on every field of the classes that declare them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from inspect import get_annotations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from avloc import Dataset, Encoder, EncoderInfo, Method, Metric, Needs, get_component, hookimpl
from avloc.components import Component, make_metrics, parameters
from avloc.features import feature_set as features
from avloc.registry import registry
from avloc.runner import run
from avloc.runner.run import build, fit_identity, predict_identity
from avloc.runner.task import open_task
from avloc.scoring import Protocol, load_protocol, scores
from avloc.scoring.maps import Data as Rule
from avloc.scoring.protocol import _presets
from avloc.scoring.scores import score_identity
from avloc.store import content_id
from avloc.suite import Run, Suite, SuiteDataset, SuiteMethod, Train
from avloc.types import Status
from helpers.world import Blocks, Dot, Plain

# The world: fingerprints are constant, so that they hide no other change. test1 is broken, test3 is missing.


class Clips(Blocks):
    """Blocks with a fingerprint and contents that a test sets, whatever the clips are."""

    prints, contents = ("train", "val", "test"), dict[str, str]()

    def fingerprint(self) -> str:
        return next(name for name in self.prints if name.startswith(self.split))

    def content(self, id: str) -> str:
        return self.contents.get(id, id)


class Seen(Plain):
    """Plain, whose info a test can change."""

    changes: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__(scale=scale)
        known = {field.name: getattr(self.info, field.name) for field in fields(EncoderInfo)}
        self.info = EncoderInfo(**{**known, **self.changes})

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        (height, width), dim = self.info.image_grid, self.info.dim
        width *= images.shape[3] // images.shape[2]
        backbone = torch.ones(len(images), self.info.backbone_dim, height, width) if self.info.backbone_dim else None
        return torch.ones(len(images), dim, height, width), torch.ones(len(images), dim), backbone

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(len(waves), self.info.dim, *self.info.audio_grid), torch.ones(len(waves), self.info.dim)

    def encode_text(self, prompts: Any) -> Tensor:
        return torch.ones(len(prompts), self.info.dim)

    def fingerprint(self) -> str:
        return "seen"


class Learner(Dot):
    """Dot, trained with augmented views."""

    needs = Needs(views=("augmented",))

    def __init__(self, encoder: EncoderInfo, classes: Any, *, dropout: float = 0.2) -> None:
        super().__init__(encoder, classes, dropout=dropout)


class Twins:
    """Every component under two names."""

    @hookimpl
    def avloc_datasets(self) -> dict[str, type]:
        return {"clips": Clips, "clips2": Clips}

    @hookimpl
    def avloc_encoders(self) -> dict[str, type]:
        return {"seen": Seen, "seen2": Seen}

    @hookimpl
    def avloc_methods(self) -> dict[str, type]:
        return {"learner": Learner, "learner2": Learner}


SUITE: dict[str, Any] = {
    "name": "identities", "title": "Identities",
    "datasets": [{"name": "clips", "encoder": {"name": "seen"}, "count": 4, "bad": ["test1"], "gone": ["test3"]}],
    "protocol": {"preset": "avloc", "size": 28}, "metrics": [{"name": "ciou_success", "at": 0.3}],
    "methods": [{"name": "learner"}], "train": {"epochs": 1, "batch_size": 2},
}  # fmt: skip


def ids_of(data: dict[str, Any]) -> dict[str, str]:
    """The ids of a suite's last run."""
    suite = Suite.model_validate(data)
    run = suite.runs()[-1]
    task = open_task(run.dataset, None, run.limit)
    method = build(run, registry().get("method", run.method.name), task)
    fitted = fit_identity(run, method, task)
    predicted = content_id(predict_identity(run, method, task, fitted))
    rules = load_protocol(suite.protocol)
    scored = score_identity(predicted, rules, make_metrics(suite.metrics))
    return {"fit": content_id(fitted) if fitted else "", "predict": predicted, "score": content_id(scored)}


# Changes, and verdicts on them.

Change = Callable[[dict[str, Any], pytest.MonkeyPatch], object]


def put(path: str, value: Any) -> Change:
    """Set a key of the suite, such as ``train.lr`` or ``methods.0.dropout``."""

    def change(data: dict[str, Any], _: pytest.MonkeyPatch) -> None:
        *parents, last = path.split(".")
        found: Any = data
        for name in parents:
            found = found[int(name)] if name.isdigit() else found.setdefault(name, {})
        found[last] = copy.deepcopy(value)

    return change


def patch(target: object, name: str, value: Any) -> Change:
    """Set an attribute of a class, or a key of a dictionary."""

    def change(_: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        if isinstance(target, dict):
            monkeypatch.setitem(target, name, value)
        else:
            monkeypatch.setattr(target, name, value)

    return change


def both(*changes: Change) -> Change:
    return lambda data, monkeypatch: [change(data, monkeypatch) for change in changes]


def nothing(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No change."""


class Verdict(NamedTuple):
    """The ids that change: where the method is trained, and where there is nothing to train (``epochs: 0``)."""

    trained: str
    untrained: str


ALL = Verdict("fit predict score", "predict score")
TRAINING = Verdict("fit predict score", "")
WHETHER = Verdict("fit predict score", "fit predict score")
PREDICTIONS = Verdict("predict score", "predict score")
SCORES = Verdict("score", "score")
NONE = Verdict("", "")


@dataclass(frozen=True)
class Row:
    """Changing `field` of `owner` (a class or a subject) changes the ids of `verdict`; both sides start `before`."""

    owner: type | str
    field: str
    change: Change
    verdict: Verdict
    before: Change = nothing

    def __str__(self) -> str:
        owner = self.owner if isinstance(self.owner, str) else self.owner.__name__
        return f"{owner}.{self.field}".replace(" ", "_")


REFINE = {"alpha": 0.4, "control": "saliency"}


def rule(key: str, value: Any) -> Change:
    return put(f"protocol.{key}", value)


def info(name: str, value: Any) -> Change:
    return patch(Seen.changes, name, value)


def attribute(name: str, value: Any) -> Change:
    """Of a metric."""
    return lambda data, monkeypatch: monkeypatch.setattr(get_component("metric", "ciou_success"), name, value)


def lost(split: str, **states: dict[str, str]) -> Change:
    """Clips of a split that are missing or broken, with the reasons; its other ones are present."""

    def found(self: Blocks) -> Status:
        gone = {id for clips in states.values() for id in clips}
        return Status(tuple(id for id in self.ids() if id not in gone), **states)

    return patch(Clips, "status", lambda self: found(self) if self.split == split else Blocks.status(self))


def listed(split: str, *numbers: int) -> Change:
    """The clips that a split lists."""
    return patch(
        Clips, "ids", lambda self: [f"{self.split}{n}" for n in (numbers if self.split == split else range(4))]
    )


def classes_of(changed: str, *names: str) -> Change:
    """Other class names for one split."""

    def init(self: Clips, root: Path | None, *, split: str, **rest: Any) -> None:
        Blocks.__init__(self, root, split=split, **rest)
        self.classes = names if split == changed else self.classes

    return patch(Clips, "__init__", init)


TWIN_METHOD, TWIN_DATA = put("methods", [{"name": "learner2"}]), put("datasets.0.name", "clips2")
TWIN_ENCODER, CONTROLS = put("datasets.0.encoder.name", "seen2"), put("controls", ["shuffled_audio"])
BRIGHTER, WARM = put("datasets.0.encoder.scale", 2.0), put("train.lr", 0.5)
BARE = put("datasets", [{"name": "clips", "encoder": {"name": "seen"}, "count": 4}])
STRICTER, LARGER = put("metrics.0.at", 0.5), rule("size", 32)

FIELDS = [
    # What the user writes.
    Row(Suite, "name", put("name", "other"), NONE),
    Row(Suite, "title", put("title", "Other"), NONE),
    Row(Suite, "paper", put("paper", "Other, Table 1"), NONE),
    Row(Suite, "reference", put("reference", "learner"), NONE),
    Row(Suite, "datasets", TWIN_DATA, PREDICTIONS),
    Row(Suite, "protocol", LARGER, SCORES),
    Row(Suite, "hints", put("hints", "count"), PREDICTIONS),
    Row(Suite, "metrics", STRICTER, SCORES),
    Row(Suite, "methods", TWIN_METHOD, ALL),
    Row(Suite, "controls", CONTROLS, PREDICTIONS),
    Row(Suite, "controls", put("controls", ["untrained"]), TRAINING),
    Row(Suite, "train", WARM, TRAINING),
    Row(Suite, "seeds", put("seeds", [1]), ALL),
    Row(Suite, "limit", put("limit", 2), ALL),
    Row(Suite, "limit", put("limit", 99), NONE),
    Row(Run, "section", CONTROLS, PREDICTIONS),
    Row(Run, "section", put("controls", ["learner2"]), NONE, TWIN_METHOD),
    Row(Run, "method", TWIN_METHOD, ALL),
    Row(Run, "dataset", TWIN_DATA, PREDICTIONS),
    Row(Run, "hints", put("hints", "none"), PREDICTIONS),
    Row(Run, "seed", put("seeds", [1]), ALL),
    Row(Run, "train", WARM, TRAINING),
    Row(Run, "limit", put("limit", 2), ALL),
    Row(Component, "name", TWIN_ENCODER, ALL),
    Row(Component, "name", put("metrics.0.name", "nsa"), SCORES),
    Row(Component, "params", BRIGHTER, ALL),
    Row(Component, "params", put("datasets.0.encoder.scale", 1.0), NONE),
    Row(Component, "params", STRICTER, SCORES),
    Row(Component, "params", put("metrics.0.strict", False), NONE),
    Row(SuiteMethod, "name", TWIN_METHOD, ALL),
    Row(SuiteMethod, "params", put("methods.0.dropout", 0.3), ALL),
    Row(SuiteMethod, "params", put("methods.0.dropout", 0.2), NONE),
    Row(SuiteMethod, "train", put("methods.0.train", {"lr": 0.5}), TRAINING),
    Row(SuiteMethod, "of", put("methods.0.of", ["learner"]), NONE),
    Row(SuiteDataset, "name", TWIN_DATA, PREDICTIONS),
    Row(SuiteDataset, "params", put("datasets.0.bad", ["test1", "nowhere"]), PREDICTIONS),
    Row(SuiteDataset, "encoder", TWIN_ENCODER, ALL),
    Row(SuiteDataset, "obtain", put("datasets.0.obtain", "avloc data prepare clips"), NONE),
    Row(SuiteDataset, "printed", put("datasets.0.printed", "other"), NONE),
    Row(SuiteDataset, "title", put("datasets.0.title", "Other"), NONE),
    # How methods learn. Untrained methods do not depend on it.
    Row(Train, "epochs", put("train.epochs", 5), WHETHER),
    Row(Train, "batch_size", put("train.batch_size", 3), TRAINING),
    Row(Train, "lr", WARM, TRAINING),
    Row(Train, "weight_decay", put("train.weight_decay", 0.1), TRAINING),
    Row(Train, "accumulate", put("train.accumulate", 2), TRAINING),
    Row(Train, "precision", put("train.precision", "bf16-mixed"), TRAINING),
    Row(Train, "select", put("train.select", "last"), TRAINING),
    Row(Train, "train_encoder", put("train.train_encoder", True), ALL),
    Row(Train, "cache", put("train.cache", False), ALL),
    Row(Train, "cache", put("train.cache", False), TRAINING, put("train.train_encoder", True)),
    Row(Train, "copies", put("train.copies", 3), TRAINING),
    # From maps to numbers.
    Row(Protocol, "preset", both(patch(_presets(), "avloc2", _presets()["avloc"]), rule("preset", "avloc2")), NONE),
    Row(Protocol, "canvas", rule("canvas", "tile"), SCORES),
    Row(Protocol, "size", LARGER, SCORES),
    Row(Protocol, "resize", rule("resize", "bicubic"), SCORES),
    Row(Protocol, "align_corners", rule("align_corners", True), SCORES),
    Row(Protocol, "normalize", rule("normalize", "relu_max"), SCORES),
    Row(Protocol, "invert", rule("invert", True), SCORES),
    Row(Protocol, "exponent", rule("exponent", 0.5), SCORES),
    Row(Protocol, "refine", rule("refine", REFINE), SCORES),
    Row(Protocol, "binarize", rule("binarize", {"top": 0.5}), SCORES),
    Row(Protocol, "strict", rule("strict", True), SCORES),
    Row(Protocol, "confidence", rule("confidence", "top_quarter"), SCORES),
    Row(Protocol, "match", rule("match", "greedy"), SCORES),
    Row(Protocol, "truth", rule("truth", "boxes_union"), SCORES),
    Row(Protocol, "empty_truth", rule("empty_truth", "miss"), SCORES),
    *(Row(Protocol, prose, rule(prose, "other words"), NONE) for prose in ("source", "note", "warning", "checked")),
    Row("Range", "range", rule("normalize.range", [0, 2]), SCORES, rule("normalize", {"range": [0, 1]})),
    Row("Binarize", "top", rule("binarize.top", 0.4), SCORES, rule("binarize", {"top": 0.5})),
    Row("Binarize", "at", rule("binarize.at", 0.4), SCORES, rule("binarize", {"at": 0.5})),
    Row("Binarize", "truth_area", rule("binarize", {"truth_area": True}), SCORES),
    Row("Binarize", "quantile", rule("binarize.quantile", "truth"), SCORES, rule("binarize", {"quantile": 0.5})),
    Row("Binarize", "keep_ones", rule("binarize.keep_ones", True), SCORES, rule("binarize", {"quantile": 0.5})),
    Row("Binarize", "of_max", rule("binarize.of_max", 0.4), SCORES, rule("binarize", {"of_max": 0.5})),
    Row("Refine", "alpha", rule("refine.alpha", 0.5), SCORES, rule("refine", REFINE)),
    Row("Refine", "control", rule("refine.control", "center"), NONE, rule("refine", REFINE)),
    Row("Refine", "prior_range", rule("refine.prior_range", 2.5), SCORES, rule("refine", REFINE)),
    # What plugins declare. Ids contain `revision` instead of the code.
    Row(EncoderInfo, "dim", info("dim", 4), ALL),
    Row(EncoderInfo, "image_size", info("image_size", 32), ALL),
    Row(EncoderInfo, "image_mean", info("image_mean", (0.4, 0.4, 0.4)), ALL),
    Row(EncoderInfo, "image_std", info("image_std", (0.4, 0.4, 0.4)), ALL),
    Row(EncoderInfo, "image_grid", info("image_grid", (8, 8)), ALL),
    Row(EncoderInfo, "stereo", info("stereo", True), ALL),
    Row(EncoderInfo, "audio_rate", info("audio_rate", 1000), ALL),
    Row(EncoderInfo, "audio_seconds", info("audio_seconds", 2.0), ALL),
    Row(EncoderInfo, "audio_grid", info("audio_grid", (2, 1)), ALL),
    Row(EncoderInfo, "backbone_dim", info("backbone_dim", 5), ALL),
    Row(EncoderInfo, "has_text", info("has_text", False), ALL),
    Row(EncoderInfo, "weights", info("weights", "other"), NONE),
    Row(Encoder, "info", info("dim", 4), ALL),
    Row(Encoder, "revision", patch(Seen, "revision", 2), ALL),
    Row(Method, "needs", patch(Learner, "needs", Needs(labels=True, views=("augmented",))), NONE),
    Row(Method, "title", patch(Learner, "title", "Other"), NONE),
    Row(Method, "paper", patch(Learner, "paper", "Other"), NONE),
    Row(Method, "revision", patch(Learner, "revision", 2), ALL),
    Row(Method, "uses_audio", patch(Learner, "uses_audio", False), NONE),
    Row(Method, "map_parameters", patch(Learner, "map_parameters", ("dropout",)), TRAINING),
    Row(Method, "trainable", patch(Learner, "trainable", False), TRAINING),
    Row(Method, "map_parameters", patch(Learner, "map_parameters", ("dropout",)), TRAINING),
    Row(Dataset, "title", patch(Clips, "title", "Other"), NONE),
    Row(Dataset, "license", patch(Clips, "license", "other"), NONE),
    Row(Dataset, "citation", patch(Clips, "citation", "other"), NONE),
    Row(Dataset, "leaks", patch(Clips, "leaks", True), NONE),
    Row(Dataset, "url", patch(Clips, "url", "other"), NONE),
    Row(Dataset, "revision", patch(Clips, "revision", 2), ALL),
    Row(Dataset, "classes", patch(Clips, "classes", ("red", "green", "blue")), ALL),
    Row(Dataset, "classes", classes_of("train", "cat", "dog", "emu"), ALL),
    Row(Dataset, "classes", classes_of("test", "cat", "dog", "emu"), PREDICTIONS),
    Row(Dataset, "notes", patch(Clips, "notes", ("Other.",)), NONE),
    Row(Metric, "title", attribute("title", "Other"), NONE),
    Row(Metric, "higher_is_better", attribute("higher_is_better", False), NONE),
    Row(Metric, "revision", attribute("revision", 99), SCORES),
    Row(Metric, "undefined", attribute("undefined", "no other"), NONE),
]
"""All fields of the classes that they name; `test_every_field_has_a_verdict` says which are lacking."""

FOUND = [
    # What is determined when a run starts.
    Row("method", "default", patch(Learner.__init__.__kwdefaults__, "dropout", 0.3), ALL),
    Row("encoder", "default", patch(Seen.__init__.__kwdefaults__, "scale", 2.0), ALL),
    Row("dataset", "default", patch(Blocks.__init__.__kwdefaults__, "gone", ("nowhere",)), PREDICTIONS, BARE),
    Row("encoder", "fingerprint", patch(Seen, "fingerprint", lambda self: "other"), ALL),
    Row("fingerprint", "train", patch(Clips, "prints", ("train2", "val", "test")), NONE),
    Row("fingerprint", "val", patch(Clips, "prints", ("train", "val2", "test")), NONE),
    Row("fingerprint", "test", patch(Clips, "prints", ("train", "val", "test2")), PREDICTIONS),
    Row("content", "train", patch(Clips.contents, "train0", "other"), TRAINING),
    Row("content", "val", patch(Clips.contents, "val0", "other"), TRAINING),
    Row("content", "test", patch(Clips.contents, "test0", "other"), PREDICTIONS),
    Row("order", "train", listed("train", 1, 0, 2, 3), TRAINING),
    Row("order", "val", listed("val", 1, 0, 2, 3), TRAINING),
    Row("order", "test", listed("test", 2, 1, 0, 3), PREDICTIONS),
    Row("usable", "train", lost("train", broken={"train0": "cut"}), TRAINING),
    Row("usable", "val", lost("val", broken={"val0": "cut"}), TRAINING),
    Row("usable", "test", lost("test", broken={"test0": "cut"}, missing={"test3": "no file"}), PREDICTIONS),
    Row("unusable", "unlisted and not missing", listed("test", 0, 1, 2), PREDICTIONS),
    Row("unusable", "unlisted and not broken", listed("test", 0, 2, 3), PREDICTIONS),
    Row("unusable", "broken and not missing", lost("test", broken={"test3": "cut"}), PREDICTIONS),
    Row("unusable", "for another reason", lost("test", missing={"test3": "lost"}), NONE),
    Row("revision", "preprocessing", patch(features, "PREPROCESSING", 99), ALL),
    Row("revision", "views", patch(run, "VIEWS_REVISION", 99), TRAINING),
    Row("revision", "scoring", patch(scores, "SCORING_REVISION", 99), SCORES),
]

WRITTEN = (Suite, Run, Component, SuiteMethod, SuiteDataset, Train, *Rule.__subclasses__())  # of rules: Protocol too
DECLARING = (*WRITTEN, EncoderInfo, Encoder, Method, Dataset, Metric)


@pytest.fixture(autouse=True)
def twins(world: Any) -> None:
    registry().add_module("twins", Twins())


def declared_by(kind: type) -> set[str]:
    """Fields of a model or a dataclass, annotated attributes of an interface."""
    if is_dataclass(kind):
        return {field.name for field in fields(kind)}
    return set(getattr(kind, "model_fields", get_annotations(kind)))


@pytest.mark.parametrize("kind", DECLARING, ids=lambda kind: kind.__name__)
def test_every_field_has_a_verdict(kind: type) -> None:
    assert {row.field for row in FIELDS if row.owner in (kind, kind.__name__)} == declared_by(kind)


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "untrained"])
@pytest.mark.parametrize("row", [*FIELDS, *FOUND], ids=str)
def test_a_change_changes_these_ids_and_no_other(row: Row, trained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = copy.deepcopy(SUITE)
    put("train.epochs", int(trained))(data, monkeypatch)
    row.before(data, monkeypatch)
    before = ids_of(data)
    row.change(data, monkeypatch)
    after = ids_of(data)
    assert bool(before["fit"]) == trained
    changed = [stage for stage in before if before[stage] != after[stage]]
    assert changed == (row.verdict.trained if trained else row.verdict.untrained).split()


@pytest.mark.parametrize("name", sorted(registry().entries("metric")))
def test_every_parameter_of_a_metric_is_in_its_key(name: str) -> None:
    kind = get_component("metric", name)
    for parameter, default in parameters(kind).items():
        assert kind(**{parameter: _other(default)}).key != kind().key, parameter


def _other(value: Any) -> Any:
    """Another value for a parameter of a metric."""
    if isinstance(value, bool):
        return not value
    return {"all": "visible", "sound": "slavc"}[value] if isinstance(value, str) else value / 2
