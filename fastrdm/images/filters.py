"""Filters that resize images."""

FILTERS = {"pil-bilinear": "BILINEAR", "pil-bicubic": "BICUBIC"}
"""Filters, and PIL's names of them."""
