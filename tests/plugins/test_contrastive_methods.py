"""The contrastive methods: shared properties, identities between them, and the details of each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avloc import Batch, Context, EncoderInfo, Features, Method
from avloc.functional import Heads, cosine_map, identity_heads, l2_normalize, matched_maps, sigmoid_weighted_mean
from avloc_plugins.methods.alignment import Alignment, alignment_loss, local_loss
from avloc_plugins.methods.audioclip import AudioCLIP
from avloc_plugins.methods.ezvsl import EZVSL, ezvsl_loss
from avloc_plugins.methods.fnac import FNAC, fnac_loss
from avloc_plugins.methods.lvs import LVS, lvs_loss
from avloc_plugins.methods.marginnce import MarginNCE, marginnce_loss
from avloc_plugins.methods.slavc import SLAVC, slavc_loss
from avloc_plugins.methods.wav2clip import Wav2CLIP

D = 16
INFO = EncoderInfo(D)
FAMILY: list[type[Method]] = [EZVSL, MarginNCE, LVS, SLAVC, FNAC, Alignment, Wav2CLIP, AudioCLIP]
LATE = Context(epoch=99, epochs=100)
"""After every warm-up."""

Loss = Callable[[Tensor, Tensor], Tensor]


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


LOSSES: dict[str, Loss] = {
    "ezvsl": ezvsl_loss,
    "marginnce": marginnce_loss,
    "lvs": lvs_loss,
    "fnac": lambda v, a: _total(fnac_loss(v, a)),
    "slavc": lambda v, a: slavc_loss(((v, a), (v, a)), ((v, a), (v, a))),
    "alignment": lambda v, a: _total(alignment_loss([(v, a)], [(l2_normalize(v.amax((2, 3))), a)])),
}


def build(kind: type[Method], **params: Any) -> Method:
    """A method in eval mode whose heads are the identity, so that planted sounds find their cells."""
    torch.manual_seed(0)
    dim = {} if kind in (AudioCLIP, Wav2CLIP) else {"dim": D}
    method = kind(INFO, ("a", "b"), **dim, **params).eval()
    for module in method.modules():
        if isinstance(module, Heads):
            module.load_state_dict(identity_heads(D).state_dict())
    return method


def plant(count: int, width: int = 7, *, seed: int = 0, views: bool = True) -> tuple[Features, Batch, Tensor]:
    """Features whose sound is found in one block of cells, a batch, and where: ``(B, 7, width)``."""
    torch.manual_seed(seed)
    image_map, audio = torch.randn(count, D, 7, width), 3 * torch.randn(count, D)
    where = torch.zeros(count, 7, width, dtype=torch.bool)
    for n in range(count):
        y, x = int(torch.randint(6, ())), int(torch.randint(width - 2, ()))
        where[n, y : y + 2, x : x + 3] = True
        image_map[n, :, where[n]] += audio[n, :, None]
    ids = tuple(f"clip{n}" for n in range(count))
    features = Features(image_map, image_map.mean((2, 3)), audio[..., None, None], audio)
    batch = Batch(ids, torch.full((count,), width // 7), ids)
    if views:
        others = {name: plant(count, width, seed=seed + 1 + n, views=False) for n, name in enumerate(VIEWS)}
        features = replace(features, views={name: other[0] for name, other in others.items()})
        batch = replace(batch, views={name: other[1] for name, other in others.items()})
    return features, batch, where


VIEWS = ("augmented", "neighbor")


def changed(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    """Apply a function to every tensor of the features and of their views."""
    names = ("image_map", "image", "audio_map", "audio")
    views = {name: changed(view, change) for name, view in features.views.items()}
    return replace(features, **{name: change(getattr(features, name)) for name in names}, views=views)


def maps(method: Method, features: Features, batch: Batch) -> np.ndarray[Any, Any]:
    return np.stack([prediction.maps for prediction in method.localize(features, batch)])


def spread(count: int = 6, dim: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random unit vectors in float64."""
    torch.manual_seed(seed)
    return l2_normalize(torch.randn(count, dim, 7, 7).double(), 1), l2_normalize(torch.randn(count, dim).double())


@pytest.mark.parametrize("kind", FAMILY)
class TestEveryMethod:
    @pytest.mark.parametrize("width", [7, 14])
    def test_the_map_peaks_on_the_planted_block(self, kind: type[Method], width: int) -> None:
        features, batch, where = plant(12, width)
        found = maps(build(kind).evaluation_module(), features, batch)
        assert found.shape == (12, 1, 7, width) and np.abs(found).max() <= 1 + 1e-5
        assert np.mean([mask.flatten()[one.argmax()] for one, mask in zip(found, where.numpy(), strict=True)]) > 0.9

    @pytest.mark.parametrize("shape", [(7, 7), (7, 14), (3, 5)])
    def test_a_clip_does_not_depend_on_its_batch_mates(self, kind: type[Method], shape: tuple[int, int]) -> None:
        features, batch, _ = plant(4, 14)
        features = changed(features, lambda x: x[..., : shape[0], : shape[1]] if x.shape[-1] == 14 else x)
        method = build(kind).evaluation_module()
        together = maps(method, features, batch)
        for n, id in enumerate(batch.ids):
            alone = Batch((id,), batch.tiles[n : n + 1], (id,))
            np.testing.assert_allclose(
                maps(method, changed(features, lambda x, n=n: x[n : n + 1]), alone)[0], together[n], atol=1e-5
            )

    def test_the_map_needs_no_views_and_uses_the_audio(self, kind: type[Method]) -> None:
        features, batch, _ = plant(4, views=False)
        method = build(kind).evaluation_module()
        deaf = replace(features, audio=features.audio.roll(1, 0), audio_map=features.audio_map.roll(1, 0))
        assert np.abs(maps(method, features, batch) - maps(method, deaf, batch)).max() > 0.1

    def test_the_order_of_the_batch_does_not_matter(self, kind: type[Method]) -> None:
        features, batch, _ = plant(5)
        method, order = build(kind), torch.tensor([3, 0, 4, 2, 1])
        turned = method.loss(changed(features, lambda x: x[order]), batch, LATE)
        for name, term in method.loss(features, batch, LATE).items():
            torch.testing.assert_close(turned[name], term, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("count", [1, 2, 5])
    @pytest.mark.parametrize("broken", ["nothing", "black", "silence", "equal", "opposed"])
    def test_degenerate_features_leave_everything_finite(self, kind: type[Method], count: int, broken: str) -> None:
        features, batch, _ = plant(count)
        features = changed(features, {
            "nothing": torch.zeros_like,
            "black": lambda x: x * (x.dim() == 2),
            "silence": lambda x: x * (x.dim() == 4),
            "equal": lambda x: x[:1].expand_as(x),
            "opposed": lambda x: torch.ones_like(x) * (1 if x.dim() == 4 else -1),
        }[broken])  # fmt: skip
        for method in (build(kind), build(kind).train()):
            total = _total(method.loss(features, batch, LATE))
            assert torch.isfinite(total)
            total.backward()  # type: ignore[no-untyped-call]
            for name, parameter in method.named_parameters():
                assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
        assert np.isfinite(maps(method.eval(), features, batch)).all()

    def test_half_precision_stays_near(self, kind: type[Method]) -> None:
        features, batch, _ = plant(6)
        method = build(kind)
        expected = method.loss(features, batch, LATE)
        with torch.autocast("cpu", torch.bfloat16):
            found = method.loss(features, batch, LATE)
        for name, term in expected.items():
            assert found[name].dtype == torch.float32
            torch.testing.assert_close(found[name], term, rtol=0.1, atol=0.2)

    def test_training_lowers_the_loss(self, kind: type[Method]) -> None:
        method = build(kind, **({"dropout": 0.2} if kind in (FNAC, SLAVC) else {}))
        for module in method.modules():
            if isinstance(module, Heads):
                module.audio.weight.data = torch.linalg.qr(torch.randn(D, D))[0]  # a gap between the modalities
        chosen = [p for n, p in method.named_parameters() if n.startswith(method.phases()[0].parameters)]
        optimizer = torch.optim.Adam(chosen, lr=1e-2)
        features, batch, _ = plant(16)
        before = _total(method.loss(features, batch, LATE)).item()
        for step in range(30):
            method.before_step(Context(step=step))
            optimizer.zero_grad()
            _total(method.train().loss(*plant(16, seed=step)[:2], LATE)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert _total(method.eval().loss(features, batch, LATE)).item() < before

    def test_inputs_are_not_modified(self, kind: type[Method]) -> None:
        features, batch, _ = plant(3)
        before = changed(features, torch.clone)
        method = build(kind).train()
        method.loss(features, batch, LATE)
        method.localize(features, batch)
        for name in ("image_map", "image", "audio_map", "audio"):
            assert torch.equal(getattr(features, name), getattr(before, name))


class TestIdentities:
    def test_marginnce_without_margin_is_ezvsl(self) -> None:
        v, a = spread()
        torch.testing.assert_close(marginnce_loss(v, a, margin=0), ezvsl_loss(v, a), rtol=0, atol=0)

    def test_fnac_without_weights_is_ezvsl(self) -> None:
        v, a = spread()
        total = _total(fnac_loss(v, a, fns1=0, tns=0, fns2=0))
        torch.testing.assert_close(total, ezvsl_loss(v, a), rtol=1e-12, atol=0)

    def test_alignment_of_one_version_without_wholes_is_lvs_without_hard_negatives(self) -> None:
        v, a = spread()
        expected = lvs_loss(v, a, hard_negative=False)
        torch.testing.assert_close(local_loss(v, a), expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(alignment_loss([(v, a)], [(a, a)])["local"], expected, rtol=1e-12, atol=0)

    def test_audioclip_and_wav2clip_are_one_head_on_two_encoders(self) -> None:
        features, batch, _ = plant(4)
        for trained in (True, False):
            one, other = build(AudioCLIP, trained=trained), build(Wav2CLIP, trained=trained)
            np.testing.assert_allclose(maps(one, features, batch), maps(other, features, batch), atol=1e-6)
            assert one.loss(features, batch, LATE) == other.loss(features, batch, LATE)
            assert len(one.phases()) == len(other.phases()) == int(trained)

    def test_pooling_far_below_the_threshold_is_a_softmax_weighted_mean(self) -> None:
        x = torch.rand(5, 7, 7).double() * 0.1 - 0.3
        expected = (x * (x / 0.03).flatten(1).softmax(1).view_as(x)).sum((1, 2))
        torch.testing.assert_close(sigmoid_weighted_mean(x, 0.65, 0.03), expected, rtol=1e-9, atol=0)

    def test_pooling_is_the_weighted_mean_on_either_side(self) -> None:
        x = torch.rand(5, 7, 7).double()
        for sign in (1, -1):
            weights = (sign * (x - 0.4) / 0.03).sigmoid()
            expected = (weights * x).sum((1, 2)) / weights.sum((1, 2))
            torch.testing.assert_close(sigmoid_weighted_mean(x, 0.4, sign * 0.03), expected)

    def test_pooling_half_precision_where_the_weights_underflow(self) -> None:
        x = torch.full((2, 7, 7), -0.9, dtype=torch.float16, requires_grad=True)
        pooled = sigmoid_weighted_mean(x, 0.65, 0.03)
        pooled.sum().backward()  # type: ignore[no-untyped-call]
        assert pooled.dtype == torch.float32 and x.grad is not None and torch.isfinite(x.grad).all()
        torch.testing.assert_close(pooled, torch.full((2,), -0.9), rtol=1e-3, atol=0)

    @pytest.mark.parametrize("name", LOSSES)
    def test_perfect_alignment_leaves_less_than_chance(self, name: str) -> None:
        _, a = spread(6, 32)
        v = torch.zeros(6, 32, 7, 7).double()
        v[:, :, 2:4, 2:4] = a[:, :, None, None]
        chance = LOSSES[name](torch.zeros_like(v), a)
        assert LOSSES[name](v, a) < chance * (1 if name == "fnac" else 0.5)  # not all of FNAC's terms can vanish

    @pytest.mark.parametrize("name", LOSSES)
    @pytest.mark.parametrize("case", ["zero", "identical", "negative"])
    def test_losses_and_gradients_stay_finite(self, name: str, case: str) -> None:
        v, a = spread()
        v, a = {
            "zero": (torch.zeros_like(v), a),
            "identical": (a[:1, :, None, None].expand(6, -1, 7, 7), a[:1].expand(6, -1)),
            "negative": (-a[:1, :, None, None].expand(6, -1, 7, 7), a[:1].expand(6, -1)),
        }[case]
        inputs = [x.clone().requires_grad_() for x in (v, a)]
        loss = LOSSES[name](*inputs)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(loss) and all(x.grad is not None and torch.isfinite(x.grad).all() for x in inputs)


class TestLVS:
    def test_a_hard_negative_only_adds(self) -> None:
        v, a = spread()
        assert lvs_loss(v, a) > lvs_loss(v, a, hard_negative=False)

    def test_against_loops(self) -> None:
        v, a = spread(4, 8)
        total = torch.zeros(()).double()

        def mean(x: Tensor, w: Tensor) -> Tensor:
            return (w * x).sum() / w.sum()

        for n in range(4):
            s = [torch.einsum("dhw,d->hw", v[n], a[m]) for m in range(4)]
            pooled = [mean(x, ((x - 0.5) / 0.1).sigmoid()) for x in s]
            background = mean(s[n], 1 - ((s[n] - 0.3) / 0.1).sigmoid())
            total += torch.stack([*pooled, background]).div(0.2).logsumexp(0) - pooled[n] / 0.2
        found = lvs_loss(v, a, epsilon_p=0.5, epsilon_n=0.3, tau=0.1, temperature=0.2)
        torch.testing.assert_close(found, total / 4)


class TestMarginNCE:
    def test_a_negative_margin_lowers_the_loss_and_a_positive_one_raises_it(self) -> None:
        v, a = spread()
        losses = [marginnce_loss(v, a, margin=margin) for margin in (-0.2, 0, 0.2)]
        assert losses == sorted(losses)

    def test_the_map_does_not_depend_on_the_margin(self) -> None:
        features, batch, _ = plant(3)
        found = [maps(build(MarginNCE, margin=margin), features, batch) for margin in (-0.2, 0.2)]
        np.testing.assert_array_equal(*found)


class TestFNAC:
    def test_the_warm_up_trains_the_contrastive_term_alone(self) -> None:
        features, batch, _ = plant(4)
        method = build(FNAC, warmup=2).train()
        names = [set(method.loss(features, batch, Context(epoch=epoch))) for epoch in range(4)]
        assert names == [{"contrastive"}] * 2 + [{"contrastive", "fns1", "tns", "fns2"}] * 2

    def test_held_out_losses_are_comparable_over_the_epochs(self) -> None:
        features, batch, _ = plant(4)
        method = build(FNAC)
        early, late = (method.loss(features, batch, Context(epoch=epoch)) for epoch in (0, 9))
        assert early == late and len(early) == 4

    def test_dropout_is_active_only_in_training(self) -> None:
        features, batch, _ = plant(4)
        method = build(FNAC)
        assert method.loss(features, batch, LATE) == method.loss(features, batch, LATE)
        method.train()
        assert method.loss(features, batch, LATE) != method.loss(features, batch, LATE)

    def test_matched_maps(self) -> None:
        x = torch.randn(3, 3, 4, 5)
        torch.testing.assert_close(matched_maps(x), torch.stack([x[n, n] for n in range(3)]))


class TestSLAVC:
    def test_the_teacher_is_updated_before_every_step(self) -> None:
        method = build(SLAVC, momentum=0.9)
        assert isinstance(method, SLAVC)
        with torch.no_grad():
            for parameter in method.student.parameters():
                parameter.fill_(1)
            for parameter in method.teacher.parameters():
                parameter.fill_(0)
        for step in range(3):
            method.before_step(Context(step=step))
        for parameter in method.teacher.parameters():
            torch.testing.assert_close(parameter, torch.full_like(parameter, 1 - 0.9**3))

    def test_the_map_uses_the_averaged_heads(self) -> None:
        features, batch, _ = plant(4)
        method = build(SLAVC)
        assert isinstance(method, SLAVC)
        with torch.no_grad():
            for parameter in method.student.parameters():
                parameter.copy_(torch.randn_like(parameter))
        expected = cosine_map(features.image_map, features.audio[:, None])
        before = maps(method, features, batch)
        np.testing.assert_allclose(maps(method.evaluation_module(), features, batch), expected, atol=1e-5)
        np.testing.assert_array_equal(maps(method, features, batch), before)  # the student is as it was

    def test_the_map_is_the_mean_of_both_cosines(self) -> None:
        features, batch, _ = plant(4)
        method = build(SLAVC)
        assert isinstance(method, SLAVC)
        method.student.localization.audio.weight.data.neg_()
        np.testing.assert_allclose(maps(method, features, batch), 0, atol=1e-6)  # opposite heads cancel out

    def test_only_the_student_is_trained_and_both_heads_get_the_same_dropout(self) -> None:
        features, batch, _ = plant(4)
        method = build(SLAVC).train()
        assert isinstance(method, SLAVC)
        (phase,) = method.phases()
        trained = {name for name, _ in method.named_parameters() if name.startswith(phase.parameters)}
        assert trained == {f"student.{name}" for name, _ in method.student.named_parameters()}
        method.student.localization.load_state_dict(method.student.correspondence.state_dict())
        one, two = method.student(features)
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
        _total(method.loss(features, batch, LATE)).backward()  # type: ignore[no-untyped-call]
        assert all(parameter.grad is None for parameter in method.teacher.parameters())


class TestAlignment:
    def test_every_image_version_is_paired_with_every_sound_version(self) -> None:
        features, batch, _ = plant(4)
        method = build(Alignment)
        assert isinstance(method, Alignment)
        versions = [features, features.views["augmented"], features.views["neighbor"]]
        local = [method.heads(f.image_map, f.audio) for f in versions]
        expected = sum(local_loss(i[0], j[1]) for i, j in itertools.product(local, repeat=2))
        torch.testing.assert_close(method.loss(features, batch, LATE)["local"], expected)
