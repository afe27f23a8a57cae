"""Importing this module puts fastrdm's functions in the places of rsatoolbox's; `restore` takes them out again."""

from fastrdm.interop.rsatoolbox.acceleration import accelerate

_acceleration = accelerate()


def restore() -> None:
    """Put rsatoolbox's own functions back, unless `accelerate` is in force elsewhere.

    Python runs an imported module once: switch on again with `fastrdm.interop.rsatoolbox.accelerate`.
    """
    _acceleration.restore()
