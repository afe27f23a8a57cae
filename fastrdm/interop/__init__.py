"""Objects of other libraries in, their objects out: callbacks of training frameworks that score the network.

In come the trainers of other libraries; out go scores, through their loggers and callbacks.

Read `lightning` or `transformers`: each has one callback, which asks `fastrdm.live` when to score and keeps the scores
in a history. The modules need the packages that they are named after.

`brainscore` has metrics and ceilings with the interface of Brain-Score, for its assemblies.

`acceleration` is what the accelerations of rsatoolbox and mne-rsa share.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.interop.lightning import LightningScoring
    from fastrdm.interop.transformers import TransformersScoring
else:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.interop.lightning": ["LightningScoring"],
            "fastrdm.interop.transformers": ["TransformersScoring"],
        },
    )

__all__ = ["LightningScoring", "TransformersScoring"]
