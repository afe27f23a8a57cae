"""mne-rsa's functions on compiled kernels: the same signatures and values."""

__all__: list[str] = []
