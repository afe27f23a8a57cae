"""Kernels for jitted code: functions with `numba.njit` that the user's own jitted functions call."""

__all__: list[str] = []
