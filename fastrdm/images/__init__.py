"""Image files → a network's input.

In come files, bytes, PIL images and arrays; out goes an array (n, 3, height, width) of float32, or the pixels that it
is made of. What an image looks like is decided here alone, so that a score depends on no reader's habits.

Read `preprocessing` first: a `Preprocessing` says size, filter, order of channels, mean and deviation, and makes the
array. `decoding` makes RGB pixels of whatever kind of image a file holds, in threads that run ahead; `cache` keeps
decoded pixels in a file that all processes map, found by the names, sizes and contents of the images.
"""

from fastrdm.images.cache import cache_info, cached_pixels, clear_cache, hash_images
from fastrdm.images.decoding import (
    RULES_VERSION,
    SUFFIXES,
    Images,
    check_background,
    decode,
    image_name,
    in_order,
)
from fastrdm.images.preprocessing import (
    ORDERS,
    Preprocessing,
    describe_unread,
    list_images,
    unread_files,
)

__all__ = [
    "ORDERS",
    "RULES_VERSION",
    "SUFFIXES",
    "Images",
    "Preprocessing",
    "cache_info",
    "cached_pixels",
    "check_background",
    "clear_cache",
    "decode",
    "describe_unread",
    "hash_images",
    "image_name",
    "in_order",
    "list_images",
    "unread_files",
]
