"""Image files → a network's input.

In come files, PIL images and arrays; out goes an array (n, 3, height, width) of float32, or its pixels. Only this
package decides how images are decoded, so that scores do not depend on the reader.

Read `preprocessing` first: a `Preprocessing` states size, filter (one of `filters`), crop, channel order, mean and
deviation, and computes the array. `listing` finds the images of a folder; `decoding` converts images of every kind to
RGB pixels, in threads that run ahead; `cache` keeps decoded pixels in a file that all processes map, found by the
contents of the images. `facts` describes image files, for the check of a study.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
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
    from fastrdm.images.facts import ImageFacts, inspect_image
    from fastrdm.images.filters import FILTERS
    from fastrdm.images.listing import (
        ORDERS,
        describe_unread,
        list_images,
        name_in,
        natural_key,
        unread_files,
    )
    from fastrdm.images.preprocessing import Preprocessing
else:
    # Imported on first use: the arguments of the command line need only the names of filters.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.images.cache": ["cache_info", "cached_pixels", "clear_cache", "hash_images"],
            "fastrdm.images.decoding": [
                "RULES_VERSION",
                "SUFFIXES",
                "Images",
                "check_background",
                "decode",
                "image_name",
                "in_order",
            ],
            "fastrdm.images.facts": ["ImageFacts", "inspect_image"],
            "fastrdm.images.filters": ["FILTERS"],
            "fastrdm.images.listing": [
                "ORDERS",
                "describe_unread",
                "list_images",
                "name_in",
                "natural_key",
                "unread_files",
            ],
            "fastrdm.images.preprocessing": ["Preprocessing"],
        },
    )

__all__ = [
    "FILTERS",
    "ORDERS",
    "RULES_VERSION",
    "SUFFIXES",
    "ImageFacts",
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
    "inspect_image",
    "list_images",
    "name_in",
    "natural_key",
    "unread_files",
]
