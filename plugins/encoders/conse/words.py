"""Words to unit vectors: all-MiniLM-L6-v2, with the tokenizer that its authors ship."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

DIM, LAYERS, HEADS, INNER = 384, 6, 12, 1536
WORDS, PLACES = 30_522, 512
LONGEST = 256
"""Tokens that the model was trained to read."""


class MiniLM(nn.Module):
    """Wang et al., "MiniLM", NeurIPS 2020, fine-tuned for sentences (all-MiniLM-L6-v2): the mean of its tokens.

    Args:
        tokenizer: The content of its ``tokenizer.json``.
    """

    def __init__(self, tokenizer: str) -> None:
        super().__init__()
        self.tokenizer = Tokenizer.from_str(tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(LONGEST)
        self.word, self.place = nn.Embedding(WORDS, DIM), nn.Embedding(PLACES, DIM)
        self.norm = nn.LayerNorm(DIM, 1e-12)
        self.layers = nn.ModuleList(_layer() for _ in range(LAYERS))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors ``(N, 384)``; each text by itself, so that it depends on no other."""
        rows = []
        for text in texts:
            ids = torch.tensor(self.tokenizer.encode(text).ids, device=self.word.weight.device)
            tokens = self.norm(self.word(ids) + self.place.weight[: len(ids)])[None]  # (1, T, D)
            for layer in self.layers:
                tokens = layer(tokens)
            rows.append(nn.functional.normalize(tokens.mean(1), dim=1))
        return torch.cat(rows)


def _layer() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(DIM, HEADS, INNER, 0.0, "gelu", 1e-12, batch_first=True)


def minilm_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors under the names of `MiniLM`."""
    kind = published["embeddings.token_type_embeddings.weight"][0]  # all tokens are of the first sentence
    found = {
        "word.weight": published["embeddings.word_embeddings.weight"],
        "place.weight": published["embeddings.position_embeddings.weight"] + kind,
    }
    found |= {f"norm.{part}": published[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias")}
    names = {
        "self_attn.out_proj": "attention.output.dense", "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense", "linear2": "output.dense", "norm2": "output.LayerNorm",
    }  # fmt: skip
    for number in range(LAYERS):
        ours, theirs = f"layers.{number}", f"encoder.layer.{number}"
        for part in ("weight", "bias"):
            own = [published[f"{theirs}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            found[f"{ours}.self_attn.in_proj_{part}"] = torch.cat(own)
            found |= {f"{ours}.{a}.{part}": published[f"{theirs}.{b}.{part}"] for a, b in names.items()}
    return found


def letters() -> str:
    """A stand-in for ``tokenizer.json`` with a token for every letter, between the marks of start and end."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(chr, range(32, 127))]
    made = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks)
    return str(made.to_str())
