"""rsatoolbox's functions on compiled kernels: the same signatures, its own objects in and out."""

__all__: list[str] = []
