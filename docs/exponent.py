"""Draws docs/exponent.svg: what a power of the stored maps does to CAP and to a success rate.

After ``avloc bench --methods tvsl,avgn --suite multi_source``: ``pip install -e '.[docs]' && python docs/exponent.py``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from avloc.results import rescore

EXPONENTS = (0.25, 0.5, 1, 2, 4)
METRICS = {"cap": "CAP", "ciou_success@0.3": "cIoU success rate @0.3"}
METHODS = {"tvsl": "T-VSL", "avgn": "AVGN", "saliency": "Saliency", "text_only": "Text only", "center": "Center"}


def main() -> None:
    """Score one seed's maps on duets at every exponent, and plot both metrics side by side."""
    found = rescore("multi_source", exponents=EXPONENTS, datasets=["toybox_duet"], metrics=list(METRICS))
    rows = found.scores()
    rows = rows[
        rows["section"].isin(["methods", "controls"])
        & (rows["seed"] == 0)
        & ~rows["params"].astype(str).str.contains("length")
    ]
    exponent = rows["dataset"].str.extract(r"\^([\d.]+)\)$")[0].fillna("1").astype(float)
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
    for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
        for method, label in METHODS.items():
            mine = rows["method"] == method
            means = 100 * rows[mine].groupby(exponent[mine])[metric].mean()
            axis.plot(means.index, means, marker="o", label=label)
        axis.set(title=title, xlabel="exponent of the map", xscale="log", ylim=(0, 60))
        axis.set_xticks(EXPONENTS, [f"{value:g}" for value in EXPONENTS])
        axis.minorticks_off()
    axes[0].set_ylabel("percent")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
