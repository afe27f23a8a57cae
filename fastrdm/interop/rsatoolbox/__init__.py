"""rsatoolbox's functions on compiled kernels: the same signatures, its own objects in and out.

In come rsatoolbox's datasets, RDMs and models; out go its RDMs and results. What the kernels do not know goes on to
rsatoolbox's own function, which `originals` keeps.

Read `acceleration` first: `accelerate` puts the functions in rsatoolbox's places, and its table lists them; importing
`auto` does so for a program. `calculation` (`calc_rdm`) makes RDMs, of `averages` over observations and folds, and
`comparison` (`compare`) correlates them, with the covariance of patterns by `second_moments`. `files` reads
and writes them.

For inference, read `evaluation` first (all data), then `bootstraps`: all draws of a bootstrap are evaluated together by
`resampling`, from sums of products (`resampled_sums`) or ranks (`resampled_ranks`), of what `evaluation_inputs` takes
out of models and RDMs. `cross_validation` fits models by `fits`, with `noise_ceilings`; `searchlights` has many RDMs at
once. `vectors` compares and pools RDMs whose pairs may be missing.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.interop.rsatoolbox.acceleration import (
        RsatoolboxAcceleration,
        accelerate,
        accelerated,
    )
    from fastrdm.interop.rsatoolbox.bootstraps import (
        eval_bootstrap,
        eval_bootstrap_pattern,
        eval_bootstrap_rdm,
    )
    from fastrdm.interop.rsatoolbox.calculation import calc_rdm
    from fastrdm.interop.rsatoolbox.comparison import compare
    from fastrdm.interop.rsatoolbox.cross_validation import (
        bootstrap_crossval,
        crossval,
        eval_dual_bootstrap,
    )
    from fastrdm.interop.rsatoolbox.evaluation import eval_fixed
    from fastrdm.interop.rsatoolbox.files import read, read_contents, write
    from fastrdm.interop.rsatoolbox.noise_ceilings import boot_noise_ceiling, cv_noise_ceiling
    from fastrdm.interop.rsatoolbox.searchlights import (
        evaluate_models_searchlight,
        get_searchlight_RDMs,
    )
else:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.interop.rsatoolbox.acceleration": [
                "RsatoolboxAcceleration",
                "accelerate",
                "accelerated",
            ],
            "fastrdm.interop.rsatoolbox.bootstraps": [
                "eval_bootstrap",
                "eval_bootstrap_pattern",
                "eval_bootstrap_rdm",
            ],
            "fastrdm.interop.rsatoolbox.calculation": ["calc_rdm"],
            "fastrdm.interop.rsatoolbox.comparison": ["compare"],
            "fastrdm.interop.rsatoolbox.cross_validation": [
                "bootstrap_crossval",
                "crossval",
                "eval_dual_bootstrap",
            ],
            "fastrdm.interop.rsatoolbox.evaluation": ["eval_fixed"],
            "fastrdm.interop.rsatoolbox.files": ["read", "read_contents", "write"],
            "fastrdm.interop.rsatoolbox.noise_ceilings": ["boot_noise_ceiling", "cv_noise_ceiling"],
            "fastrdm.interop.rsatoolbox.searchlights": [
                "evaluate_models_searchlight",
                "get_searchlight_RDMs",
            ],
        },
    )

__all__ = [
    "RsatoolboxAcceleration",
    "accelerate",
    "accelerated",
    "boot_noise_ceiling",
    "bootstrap_crossval",
    "calc_rdm",
    "compare",
    "crossval",
    "cv_noise_ceiling",
    "eval_bootstrap",
    "eval_bootstrap_pattern",
    "eval_bootstrap_rdm",
    "eval_dual_bootstrap",
    "eval_fixed",
    "evaluate_models_searchlight",
    "get_searchlight_RDMs",
    "read",
    "read_contents",
    "write",
]
