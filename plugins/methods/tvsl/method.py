"""T-VSL: text embeddings of the sounding classes disentangle a mixture, in the audio and in the image.

A detector reads off pooled audio and image which classes sound; the text embedding of each of them gates the audio
tokens and the image tokens that resemble it. Per class, the gated sound then looks for its own place among the image
tokens, and a contrastive loss makes the two meet.

Mahmud, Tian and Marculescu, "T-VSL: Text-Guided Visual Sound Source Localization in Mixtures", CVPR 2024, equations
(2) to (9), for any number of sources. With x+ = max(0, x), v_j and a_m the projected tokens, u = x / |x|, e_n the unit
text of class n, (b, k) a clip and one of its sources, the default variant ``paired`` is::

    (3)      BCE((cos(P_f [Mean a; Mean v], e_n) + beta) / .07), mean over clips and classes
    (5, 7)   f(b, n) = P_x Mean_j cos(x_j, e_n)+ u_j for every class n;  CE over n of <f(b, n), e_n> / .01, target k
    (8)      q(b, k) = P_av Mean_m cos(a_m, e_k)+ a_m;  g(b'; b, k) = P_va Mean_j cos(u_j, e_k)+ cos(u_j, q)+ u_j
    (9)      CE over the batch's images b' of <g(b'; b, k), q / |q|> / .01, target b
    map      (<v_j, e_k>+ <v_j, q / |q|>+)^(1/4) at token j

The paper's: the detector, both gates, both halves of L_cls, the correspondence and the sum of the terms. Ours, and why:

* Pairing. The paper does not say how a negative of equations (7) and (9) is conditioned. As printed (``printed``), a
  feature is gated by its own class or query first and compared with all others afterwards, so the positive always
  fits, a negative never does, and the loss falls without looking at the image. Here every logit is gated by its own.
* Classes that also sound in the clip, and images that also contain the class, are no negatives.
* Gates drop negative cosines. A cosine inside a cosine keeps only its sign, so the printed map ignores the text.
* The map keeps the tokens' length, which is large on objects (``length: false`` shows what that gives), and the fourth
  root of the product makes it wide enough for a cut at half of its range; the root does not change the order of pixels.
* Projections start as the identity and P_f as the average, so that an untrained T-VSL compares the encoder's tokens.
* The temperatures and beta, which is learned from -0.5: the paper has none, and cosines alone cannot fit labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import (
    labelled_sources,
    named_predictions,
    queried_sources,
    require_labels,
    require_text,
    tokens,
)

from .paired import PairedHead
from .parts import Switches
from .printed import PrintedHead
from .released import ReleasedHead

VARIANTS = {"paired": PairedHead, "printed": PrintedHead, "released": ReleasedHead}
TERMS = ("detection", "image", "audio", "correspondence")


class TVSL(Method):
    """T-VSL: paired, as printed, or as released.

    Args:
        encoder: What the features come from.
        classes: Not used: class names reach this method as text only, so it can be asked for unseen ones.
        variant: ``paired``: every logit conditioned by its own class or query; ``printed``: the paper's equations to
            the letter; ``released``: the authors' head, with gated MLPs, learned temperatures and gates normalized over
            the tokens, without equation (8).
        audio_conditioning, image_conditioning, correspondence, prompt_length: See `Switches`.
        terms: The loss terms to train with; ``None``: all of ``detection``, ``image`` and ``audio`` (both halves of
            equation 7) and ``correspondence``.
        length: Of ``paired``: the map keeps the length of the image tokens.
        gate, map, projector, tau, cls_temperature: Of ``printed``, see `PrintedHead`.

    Raises:
        AvlocError: An unknown variant or term, or a parameter of another variant.
    """

    title = "T-VSL"
    paper = "Mahmud, Tian and Marculescu, T-VSL: Text-Guided Visual Sound Source Localization in Mixtures, CVPR 2024"
    needs = Needs(hints="vocabulary", labels=True, text=True)
    revision = 2
    map_parameters = ("length",)

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        variant: str = "paired",
        audio_conditioning: bool = True,
        image_conditioning: bool = True,
        correspondence: bool = True,
        prompt_length: int = 0,
        terms: Sequence[str] | None = None,
        length: bool = True,
        gate: str = "signed",
        map: str = "cosine",
        projector: str = "linear",
        tau: float = 0.07,
        cls_temperature: float | None = None,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise AvlocError(f"T-VSL: variant must be paired, printed or released, not {variant!r}.")
        terms = TERMS if terms is None else terms
        unknown = [term for term in terms if term not in TERMS]
        if unknown or not terms:
            raise AvlocError(f"T-VSL: terms must be among {', '.join(TERMS)}, not {', '.join(unknown) or 'none'}.")
        switched_on = {"image": image_conditioning, "audio": audio_conditioning, "correspondence": correspondence}
        if not any(switched_on.get(term, True) for term in terms):
            raise AvlocError(f"T-VSL: nothing is left to train of the terms {', '.join(terms)}; switch one of them on.")
        own = _of_variant(variant, {
            "paired": {"length": (length, True)},
            "printed": {
                "gate": (gate, "signed"), "map": (map, "cosine"), "projector": (projector, "linear"),
                "tau": (tau, 0.07), "cls_temperature": (cls_temperature, None),
            },
        })  # fmt: skip
        self.terms = tuple(terms)
        switches = Switches(audio_conditioning, image_conditioning, correspondence, prompt_length)
        self.head: PairedHead | PrintedHead | ReleasedHead = VARIANTS[variant](encoder.dim, switches, **own)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        image, audio, text = tokens(features.image_map), tokens(features.audio_map), require_text(features)
        labels = require_labels(batch)
        found = self.head.loss(image, audio, text, labels, labelled_sources(labels))
        return {name: value for name, value in found.items() if name in self.terms}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image, audio, text = tokens(features.image_map), tokens(features.audio_map), require_text(features)
        probabilities = self.head.detect(image, audio, text).sigmoid()
        sources = queried_sources(batch, probabilities)
        maps = self.head.maps(image, audio, text, sources)
        maps = maps.reshape(*maps.shape[:2], *features.image_map.shape[2:])  # (B, K, h, w)
        return named_predictions(batch, sources, maps, probabilities)


def _of_variant(variant: str, options: dict[str, dict[str, tuple[Any, Any]]]) -> dict[str, Any]:
    """The values that belong to a variant; those of others must be at their defaults."""
    for other, values in options.items():
        changed = [name for name, (value, default) in values.items() if value != default]
        if other != variant and changed:
            raise AvlocError(
                f"T-VSL: {', '.join(changed)} belongs to variant {other}, not {variant}. Leave it out, or use variant: "
                f"{other}."
            )
    return {name: value for name, (value, _) in options.get(variant, {}).items()}
