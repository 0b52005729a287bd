"""T-VSL (Mahmud, Tian and Marculescu, CVPR 2024): as read here, as printed, and as released; see `method`."""

from __future__ import annotations

from .method import TVSL as TVSL
