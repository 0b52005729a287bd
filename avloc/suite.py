"""A suite: YAML -> `Suite` -> list of `Run`. One YAML is one table. Pure: reads no data and trains nothing.

Components are written ``name`` or ``{name: ..., parameter: ...}``; unknown keys are errors that name the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from avloc.components import Component
from avloc.hints import HINT_LEVELS, Hints
from avloc.types import AvlocError, StrictModel, require_list, unknown

Section = Literal["methods", "controls", "untrained", "shuffled_audio"]
UNTRAINED, SHUFFLED_AUDIO = "untrained", "shuffled_audio"
"""The two controls that are not methods of their own: a method before training, and one that gets another clip."""


class Train(StrictModel):
    """How heads are trained.

    Attributes:
        epochs: Passes over the training clips, all phases together.
        batch_size: Clips per optimizer step, over all devices.
        lr: Adam's learning rate.
        weight_decay: Adam's.
        accumulate: Micro-batches that one optimizer step is split into.
        precision: Lightning Fabric's name, such as ``32-true`` or ``bf16-mixed``.
        select: Which epoch is kept: the one with the lowest loss on the held-out part of train, or the last.
        train_encoder: Whether the encoder's image and audio towers learn with the method; its text tower never does.
        cache: Whether a frozen encoder's features come from the cache (half precision) or are computed in every step.
        copies: Altered copies of every training clip, encoded for the methods that train on them.
    """

    epochs: int = Field(default=20, ge=0)
    batch_size: int = Field(default=256, ge=1)
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    accumulate: int = Field(default=1, ge=1)
    precision: str = "32-true"
    select: Literal["loss", "last"] = "loss"
    train_encoder: bool = False
    cache: bool = True
    copies: int = Field(default=2, ge=1)

    @property
    def computed(self) -> bool:
        """Whether features are computed in every step."""
        return self.train_encoder or not self.cache


class SuiteMethod(Component):
    """A method (or control) of a suite."""

    train: dict[str, Any] = Field(default_factory=dict)
    """What differs from the suite's ``train`` for this method."""
    of: tuple[str, ...] = ()
    """For the controls ``untrained`` and ``shuffled_audio``: the methods they apply to; empty: all."""


class SuiteDataset(Component):
    """A dataset of a suite.

    Attributes:
        encoder: What the methods see it through.
        obtain: The command that puts the data on the machine. Only a dataset that has one may be absent: the table
            then says so.
        printed: The column of the paper's table that it stands beside, where that is not its name.
        title: As the table prints it, where that is not the dataset's own.
    """

    encoder: Component
    obtain: str = ""
    printed: str = ""
    title: str = ""


class Suite(StrictModel):
    """What one table compares.

    Attributes:
        name, title: Of the table.
        paper: Whose table it regenerates, such as ``T-VSL, Table 2``; empty: nobody's.
        datasets, methods, controls: Columns and rows.
        protocol: A preset's name, or a preset with keys changed.
        hints: What is disclosed to methods; several levels give several rows each.
        metrics: Columns under each dataset.
        train: How heads are trained.
        seeds: Of everything random.
        limit: Only the first clips of every split.
        reference: The method that the others are tested against.
    """

    name: str
    title: str
    paper: str = ""
    datasets: tuple[SuiteDataset, ...] = Field(min_length=1)
    protocol: dict[str, Any]
    hints: tuple[Hints, ...] = Field(default=("oracle",), min_length=1)
    metrics: tuple[Component, ...] = Field(min_length=1)
    methods: tuple[SuiteMethod, ...]
    controls: tuple[SuiteMethod, ...] = ()
    train: Train = Train()
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    limit: int | None = Field(default=None, ge=1)
    reference: str = ""

    @field_validator("protocol", "hints", mode="before")
    @classmethod
    def _one(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        return {"preset": value} if info.field_name == "protocol" else (value,)

    @field_validator("seeds")
    @classmethod
    def _once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(value))

    def runs(self) -> list[Run]:
        """The product of datasets, methods, hints and seeds, in table order."""
        return [
            Run(section, entry, dataset, hints, seed, self._train(entry, section), self.limit)
            for dataset in self.datasets
            for section, entry in self._rows()
            for hints in self.hints
            for seed in self.seeds
        ]

    def _rows(self) -> list[tuple[Section, SuiteMethod]]:
        rows: list[tuple[Section, SuiteMethod]] = [("methods", entry) for entry in self.methods]
        for control in self.controls:
            if control.name == UNTRAINED or control.name == SHUFFLED_AUDIO:
                rows += [(control.name, e) for e in self.methods if not control.of or e.name in control.of]  # type: ignore[misc]
            elif control.name not in {entry.name for entry in self.methods}:
                rows.append(("controls", control))
        return rows

    def _train(self, entry: SuiteMethod, section: Section) -> Train:
        changes = {**entry.train, **({"epochs": 0} if section == UNTRAINED else {})}
        return _validated(Train, {**self.train.model_dump(), **changes}, f"suite {self.name!r}, method {entry.name!r}")

    def override(
        self,
        *,
        methods: Sequence[str] | None = None,
        datasets: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        encoder: str | None = None,
        hints: Sequence[str] | None = None,
        limit: int | None = None,
        settings: Sequence[str] = (),
    ) -> Suite:
        """The suite with what the arguments say in place of what the file says; they are those of `avloc.bench`.

        Raises:
            AvlocError: A setting that cannot be read, or that names no method of the suite.
        """
        for what, given in (("methods", methods), ("datasets", datasets), ("settings", settings)):
            require_list(what, given)
        data = self.model_dump()
        if methods is not None:
            data["methods"] = _chosen(methods, data["methods"], {})
        if datasets is not None:
            first = encoder or data["datasets"][0]["encoder"]
            data["datasets"] = _chosen(datasets, data["datasets"], {"encoder": first})
        if encoder is not None:
            data["datasets"] = [{**entry, "encoder": encoder} for entry in data["datasets"]]
        simple = {"seeds": seeds, "hints": hints, "limit": limit}
        data.update({key: value for key, value in simple.items() if value is not None})
        for setting in settings:
            _apply(setting, data)
        return _validated(Suite, data, f"suite {self.name!r} with the command line's options")


@dataclass(frozen=True, slots=True)
class Run:
    """One row and column of a table, for one seed."""

    section: Section
    method: SuiteMethod
    dataset: SuiteDataset
    hints: Hints
    seed: int
    train: Train
    limit: int | None

    def __str__(self) -> str:
        return f"{self.method.name} on {self.dataset.name}, seed {self.seed}"

    @property
    def shuffled_audio(self) -> bool:
        """Whether the method gets another clip's audio when it localizes."""
        return self.section == SHUFFLED_AUDIO


def suite_names() -> list[str]:
    """The suites that ship with avloc."""
    shipped = (Path(file.name) for file in files("avloc_benchmarks").iterdir())
    return sorted(file.stem for file in shipped if file.suffix == ".yaml" and file.stem != "protocols")


def load_suite(name_or_path: str | Path) -> Suite:
    """A shipped suite by name, or any YAML file by path.

    Args:
        name_or_path: Such as ``multi_source`` or ``mine.yaml``.

    Raises:
        AvlocError: No such suite ("did you mean"), not YAML, or a key or type that does not fit; names the file,
            the key and what was expected.

    Example:
        >>> suite = avloc.load_suite("multi_source")
        >>> [method.name for method in suite.methods]
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in suite_names():
            raise AvlocError(unknown("suite", str(name_or_path), suite_names()))
        path = Path(str(files("avloc_benchmarks"))) / f"{name_or_path}.yaml"
    elif not path.is_file():
        raise AvlocError(f"Suite file {path} does not exist.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise AvlocError(f"Suite {name_or_path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise AvlocError(f"Suite {name_or_path} must be a mapping of keys such as 'datasets' and 'methods'.")
    suite = _validated(Suite, {"name": path.stem, **data}, f"suite {name_or_path}")
    listed = {entry.name for entry in suite.methods}
    for control in suite.controls:
        if control.name not in (UNTRAINED, SHUFFLED_AUDIO):
            continue
        for key in control.params:
            wrong = unknown(f"key of the control {control.name!r} named", key, ["of"])
            raise AvlocError(f"In suite {suite.name}: {wrong}")
        for method in [name for name in control.of if name not in listed]:
            raise AvlocError(f"In suite {suite.name}, {control.name}: {unknown('method', method, listed)}")
    return suite


def _chosen(names: Sequence[str], entries: Sequence[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of these names, all of them where a suite lists one twice; a name it does not list is new."""
    found = []
    for name in names:
        found += [entry for entry in entries if entry["name"] == name] or [{"name": name, **new}]
    return found


def _apply(setting: str, data: dict[str, Any]) -> None:
    left, equals, right = setting.partition("=")
    target, dot, key = left.partition(".")
    if not (equals and dot and key):
        raise AvlocError(f"--set {setting!r} cannot be read; write method.parameter=value or train.epochs=5.")
    value = yaml.safe_load(right)
    if target == "train":
        data["train"] = {**data["train"], key: value}
        return
    entries = [*data["methods"], *data["controls"]]
    if target not in (known := [entry["name"] for entry in entries]):
        raise AvlocError(f"--set {setting!r}: {unknown('method of this suite', target, [*known, 'train'])}")
    part, name = ("train", key.removeprefix("train.")) if key.startswith("train.") else ("params", key)
    for entry in entries:
        if entry["name"] == target:
            entry[part] = {**entry.get(part, {}), name: value}


Model = TypeVar("Model", bound=BaseModel)


def _validated(model: type[Model], data: Mapping[str, Any], where: str) -> Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise AvlocError(f"In {where}: " + " ".join(_sentence(model, e) for e in error.errors())) from error


def _sentence(model: type[BaseModel], error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        *parent, key = map(str, error["loc"])
        nested: dict[str, type[BaseModel]] = {"train": Train, "datasets": SuiteDataset, "methods": SuiteMethod}
        known = nested.get(parent[0], model).model_fields if parent else model.model_fields
        return unknown(f"key under {'.'.join(parent)!r} named" if parent else "key", key, known)
    if error["type"] == "missing":
        return f"The key {place!r} is missing."
    if error["loc"][:1] == ("hints",):
        return f"The key {place!r}: it must be one of {', '.join(HINT_LEVELS)}, but is {error['input']!r}."
    expected = error["msg"].replace("tuple", "list").replace("Input should be", "it should be")
    return f"The key {place!r}: {expected}, but it is {error['input']!r}."
