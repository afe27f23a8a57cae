"""Objects of other libraries in, their objects out.

In come the RDMs, data and models of other toolboxes, and the trainers of other libraries; out go their own objects, and
scores through their loggers and callbacks.

Read `rsatoolbox` and `mne_rsa` first: each has functions with the signatures of that toolbox, which `accelerate` puts
inside it; `acceleration` is what both share. `brainscore` has metrics and ceilings with the interface of Brain-Score,
for its assemblies. `lightning` and `transformers` have one callback each, which asks `fastrdm.live` when to score and
keeps the scores in a history. All need the packages that they are named after.
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
