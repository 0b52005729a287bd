"""What every method must do so that a table can trust it, tried in the planted world of `avloc.testing.scenes`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from avloc.components import wrong_attribute
from avloc.hints import HINT_LEVELS
from avloc.interfaces import Context, Method
from avloc.testing.findings import ConformanceError, named, require, require_attributes, require_parameters
from avloc.testing.harness import (
    Subject,
    degenerate,
    difference,
    equal,
    leaves,
    localize,
    rank,
    rows,
    shape_difference,
    tensors,
)
from avloc.testing.scenes import CLASSES, Prism, Scene, pairs, scene
from avloc.training import Trained
from avloc.types import AvlocError, Batch, Features

ATTEMPTS = ((0, 6), (0, 12), (1, 12), (2, 12))
"""Seed and epochs: a head that starts at random may start badly, but one of these must have learned."""
LIT = 0.6
"""The least probability that a cell of the source ranks above another one; a map that knows nothing has one half."""
SAME = 1e-3
"""Maps that differ by less than this share of their peak are the same."""


def described(subject: Subject) -> None:
    """Tables and lists print them."""
    require_attributes(subject.kind, ("title", "paper"))


def parametrized(subject: Subject) -> None:
    """So that a suite can set them and a run's id can hold them."""
    require_parameters(subject.kind, ("encoder", "classes"))
    subject.build()


def declared(subject: Subject) -> None:
    """Else the bench would ask for what there is not."""
    wrong = wrong_attribute(subject.kind)
    require(not wrong, wrong)
    able = "neighbor" not in subject.needs.views or subject.kind.neighbors is not Method.neighbors
    require(able, "It needs the view 'neighbor', but has no method 'neighbors' that names them.")


def maps_sources(subject: Subject) -> None:
    """In any proportion of tiles, given the sounding classes."""
    method = subject.taught
    for tiles in (1, 2):
        tried = subject.given(scene(2, sources=(1, 2, 3, 4), tiles=tiles), "oracle")
        h, w = tried.features.image_map.shape[2:]
        for prediction, truth in zip(localize(method, tried), tried.truths, strict=True):
            where = f"For a clip with {len(truth.labels)} sources on {h} x {w} tokens"
            asked, names, (count, *shape) = sorted(truth.labels), sorted(prediction.labels), prediction.maps.shape
            require(count, f"{where} it gave no map.")
            require(names in ([], asked), f"{where}, given {asked}, it named {names}; name each given class once.")
            require(shape[0] * w == shape[1] * h, f"{where} its maps are {shape[0]} x {shape[1]}: other proportions.")


def honors_needs(subject: Subject) -> None:
    """From the least that it declared upwards, with class names in whatever order."""
    method, world = subject.taught, scene(2, sources=(1, 2, 3))
    for level in HINT_LEVELS[HINT_LEVELS.index(subject.needs.hints) :]:
        tried = subject.given(world, level)
        for prediction, truth in zip(localize(method, tried), world.truths, strict=True):
            if prediction.labels and level in ("count", "oracle"):
                count, named = len(truth.labels), len(prediction.labels)
                require(named == count, f"Told that {count} sources sound, it named {named}; name as many.")
    if subject.needs.hints != "none":
        _reads_names(method, subject.given(world, "oracle"))


def _reads_names(method: Method, tried: Scene) -> None:
    """Class names in another order give the same maps: numbers in a batch are places in its own list of names."""
    sources = tried.batch.sources
    assert sources is not None
    moved = torch.where(sources >= 0, len(CLASSES) - 1 - sources, -1)
    turned = replace(tried.batch, classes=CLASSES[::-1], sources=moved)
    text = None if tried.features.text is None else tried.features.text.flip(0)
    found = localize(method, replace(tried, features=replace(tried.features, text=text), batch=turned))
    change = max(map(difference, localize(method, tried), found))
    require(change < SAME, "Its maps change with the order of batch.classes: sources, labels and text index that list.")


def lonely(subject: Subject) -> None:
    """Alone, in company and in another order it has the same map."""
    method = subject.taught
    for tiles in (1, 2):
        tried = subject.given(scene(2, sources=(1, 2, 3, 4), tiles=tiles), "oracle")
        count = len(tried.batch)
        whole = localize(method, tried)
        turned = localize(method, rows(tried, range(count)[::-1]))[::-1]
        alone = [localize(method, rows(tried, [n]))[0] for n in range(count)]
        for what, found in (("in a batch of other order", turned), ("alone", alone)):
            change = max(map(difference, whole, found))
            require(change < SAME, f"A clip's map {what} differs by {change:.2g} of its peak: clips must not mix.")


def deterministic(subject: Subject) -> None:
    """Built, trained and asked twice."""
    tried = subject.given(scene(8), "oracle")
    one, other = subject.build(), subject.build()
    require(equal(one.state_dict(), other.state_dict()), "One seed builds different weights; draw with torch.")
    first, second = (localize(one, tried) for _ in range(2))
    require(max(map(difference, first, second)) == 0, "The same clips give different maps in eval mode.")
    if subject.learns:
        same = equal(subject.briefly_fitted[1], subject.fit()[1])
        require(same, "Training twice with one seed gives different weights; draw with torch's generator.")


def leaves_inputs(subject: Subject) -> None:
    """Other methods and steps read the same tensors."""
    method = subject.build()
    tried = subject.given(scene(2, sources=(1, 2)), "oracle")
    with _untouched("localize()", tried.features, tried.batch):
        localize(method, tried)
    for features, batch, context in subject.steps(method) if subject.learns else ():
        with _untouched("loss()", features, batch):
            method.train().loss(features, batch, context)


@contextmanager
def _untouched(what: str, *items: Features | Batch) -> Iterator[None]:
    before = [{name: tensor.clone() for name, tensor in tensors(item).items()} for item in items]
    yield
    for item, kept in zip(items, before, strict=True):
        changed = [name for name, tensor in tensors(item).items() if not torch.equal(tensor, kept[name])]
        require(not changed, f"{what} changes {', '.join(changed)} in place; others read the same tensors.")


def survives(subject: Subject) -> None:
    """Silent, black and constant clips are in every data set."""
    method = subject.taught
    for tiles in (1, 2):
        tried = subject.given(scene(1, sources=(1, 2, 3, 4), tiles=tiles), "oracle")
        for what, features in degenerate(tried.features).items():
            with named(f"localizing {what}"):
                localize(method, replace(tried, features=features))


def finite(subject: Subject) -> None:
    """A single step that is not finite ends a training run."""
    if not subject.learns:
        return
    method = subject.build()
    for features, batch, context in subject.steps(method):
        for what, changed in degenerate(features).items():
            for moment in (context, replace(context, epoch=99, epochs=100)):  # some terms start after a while
                _learn(method, changed, batch, moment, what)
    method = subject.build()
    for features, batch, context in subject.steps(method, count=2):
        _learn(method, features, batch, context, "a batch of two")


def _learn(method: Method, features: Features, batch: Batch, context: Context, what: str) -> None:
    """Loss and gradients, in training and as on held-out clips; gradients reach an encoder that learns, too."""
    for mode in (False, True):
        features = leaves(features)
        method.train(mode).zero_grad()
        with named(f"the loss of {what}"):
            terms = method.loss(features, batch, context)
        require(terms, "loss() returned no terms, but the method has weights; trainable = False if it never learns.")
        for name, term in terms.items():
            where = f"The loss term {name!r} of {what}, in phase {context.phase!r},"
            require(isinstance(term, Tensor) and term.ndim == 0, f"{where} is no scalar tensor.")
            require(torch.isfinite(term), f"{where} is {float(term.detach())}.")
        _step_back(method, features, terms, f"{what}, in phase {context.phase!r}, epoch {context.epoch}")


def _step_back(method: Method, features: Features, terms: Mapping[str, Tensor], what: str) -> None:
    total = torch.stack(list(terms.values())).sum()
    require(total.requires_grad, f"No weight has a part in the loss of {what}.")
    total.backward()  # type: ignore[no-untyped-call]
    inputs = [(f"features.{name}", leaf) for name, leaf in tensors(features).items()]
    for name, leaf in (*method.named_parameters(), *inputs):
        bad = leaf.grad is not None and not torch.isfinite(leaf.grad).all()
        require(not bad, f"The gradient of {name} is not finite on {what}.")


def without_extras(subject: Subject) -> None:
    """Not every encoder has them."""
    if subject.needs.text:
        return  # it said so, and is skipped where there is no text
    info = replace(Prism.info, has_text=False, backbone_dim=0)
    tried = subject.given(scene(2, sources=(1, 2)), subject.needs.hints)
    bare = replace(tried.features, backbone_map=None, text=None)
    try:
        localize(subject.build(info=info), replace(tried, features=bare))
    except AvlocError:
        return  # a sentence that says what it misses
    except ConformanceError:
        raise
    except Exception as error:
        remedy = "Declare needs = Needs(text=True), or raise an AvlocError that says what it needs."
        what = f"With an encoder without text and backbone map it crashes ({error!r})."
        raise ConformanceError(f"{what} {remedy}") from error


def keeps_state(subject: Subject) -> None:
    """The bench localizes with a fresh object that read the checkpoint."""
    if not subject.learns:
        return
    tried = subject.given(scene(2, sources=(1, 2)), "oracle")
    fitted, kept = subject.briefly_fitted
    learned = any(not torch.equal(kept[name], value) for name, value in subject.build().named_parameters())
    require(learned, "Training changed no weight.")
    fresh = subject.build(seed=1)
    Trained(fresh, None).put(kept)
    found = (localize(method, tried) for method in (fitted, fresh))
    change = max(map(difference, *found))
    remedy = "keep all that they depend on in parameters or buffers"
    require(change < SAME, f"Loaded from its checkpoint, its maps differ by {change:.2g} of their peak: {remedy}.")


def lights_up(subject: Subject) -> None:
    """Higher means more likely sounding, and of two objects the one that sounds is higher."""
    if not subject.kind.uses_audio:
        return  # a control that does not look for the source
    alone, beside = subject.given(scene(32), "oracle"), subject.given(pairs(32), "oracle")
    best = (0.0, 0.0)
    for attempt in ATTEMPTS if subject.learns else ATTEMPTS[:1]:
        method = subject.fitted(*attempt)
        found = _mean_rank(method, alone), _mean_rank(method, beside)
        if min(found) >= LIT:
            return
        best = max(best, found, key=min)
    raise ConformanceError(
        "Its map does not light up where the clip's sound and name are planted: a cell there ranks above another one "
        f"with probability {best[0]:.2f}, and above one of an object that is silent with {best[1]:.2f}; {LIT} is the "
        "least. Higher must mean more likely sounding."
    )


@torch.no_grad()
def _mean_rank(method: Method, tried: Scene) -> float:
    """Of the source over the silent object where there is one, else over all that is not the source."""
    ranks = []
    for prediction, truth in zip(localize(method, tried), tried.truths, strict=True):
        source = truth.masks[0] > 0
        ranks.append(rank(prediction, source, truth.masks[1] > 0 if len(truth.masks) > 1 else ~source))
    return sum(ranks) / len(ranks)


def uses_audio(subject: Subject) -> None:
    """Unless it is a control."""
    method, tried = subject.fitted(*ATTEMPTS[0]), subject.given(scene(8), "oracle")
    audio, audio_map = tried.features.audio.roll(1, 0), tried.features.audio_map.roll(1, 0)
    other = replace(tried, features=replace(tried.features, audio=audio, audio_map=audio_map))
    one, two = localize(method, tried), localize(method, other)
    if subject.kind.uses_audio:
        finding = "Another clip's sound changes nothing in its maps but their scale"
        require(max(map(shape_difference, one, two)) >= SAME, f"{finding}; a control declares uses_audio = False.")
    else:
        finding = "It declares uses_audio = False, but another clip's sound changes its maps."
        require(max(map(difference, one, two)) == 0, finding)


CHECKS: dict[str, Callable[[Subject], None]] = {
    "title, paper and docstring are there": described,
    "parameters are keyword-only JSON values with defaults": parametrized,
    "needs are possible": declared,
    "one map per source on 7x7 and 7x14 for 1 to 4 sources": maps_sources,
    "works with the hints it needs, and no more": honors_needs,
    "a clip does not depend on its batch": lonely,
    "one seed, one result": deterministic,
    "inputs are left as they are": leaves_inputs,
    "silence and constant images have maps": survives,
    "loss and gradients are finite on degenerate features": finite,
    "an encoder without text or backbone map is no crash": without_extras,
    "trains, and localizes the same from its checkpoint": keeps_state,
    "a planted source lights up": lights_up,
    "another sound gives another map": uses_audio,
}
