"""Bulk calls over Ray datasets: paced for the whole cluster, and nothing billed twice.

May import bulk, client and below.
"""

from memories_async.ray.actors import RayLedger, RayLimiter
from memories_async.ray.datasets import (
    add_images,
    add_videos,
    caption_images,
    caption_videos,
    embed_images,
    report,
    results,
)

__all__ = [
    "RayLedger",
    "RayLimiter",
    "add_images",
    "add_videos",
    "caption_images",
    "caption_videos",
    "embed_images",
    "report",
    "results",
]
