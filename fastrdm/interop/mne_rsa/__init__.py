"""mne-rsa's functions on compiled kernels: the same signatures and values.

In come arrays, patches of `mne_rsa.searchlight` and model RDMs; out go RDMs and similarities as mne-rsa returns them.
`accelerate` puts the functions in mne-rsa's places, so that those for evokeds, epochs, source estimates and volumes use
them too.

Read `acceleration` first. `distances` (`compute_rdm`, `compute_rdm_cv`) makes RDMs, `analyses` (`rsa`, `rsa_gen`)
compares them by the metrics in `similarities`, and `arrays` (`rsa_array`, `rdm_array`) does both for each patch, which
`places` brings into the form of `fastrdm.searchlight` and `searchlights` computes. `peer` knows the versions of
mne-rsa, whose own functions compute what the kernels do not know.
"""

from fastrdm.interop.mne_rsa.acceleration import MneRsaAcceleration, accelerate, accelerated
from fastrdm.interop.mne_rsa.analyses import rsa, rsa_gen
from fastrdm.interop.mne_rsa.arrays import rdm_array, rsa_array
from fastrdm.interop.mne_rsa.distances import compute_rdm, compute_rdm_cv

__all__ = [
    "MneRsaAcceleration",
    "accelerate",
    "accelerated",
    "compute_rdm",
    "compute_rdm_cv",
    "rdm_array",
    "rsa",
    "rsa_array",
    "rsa_gen",
]
