"""fastrdm's functions in the places of mne-rsa's: `accelerate`."""

from typing import Any

from fastrdm.interop.acceleration import LOCK, Acceleration
from fastrdm.interop.mne_rsa.analyses import rsa, rsa_gen
from fastrdm.interop.mne_rsa.arrays import rdm_array, rsa_array
from fastrdm.interop.mne_rsa.distances import compute_rdm, compute_rdm_cv
from fastrdm.interop.mne_rsa.peer import REPLACED, modules, original, peer, with_signature_of

_OURS: dict[str, Any] = {
    "compute_rdm": compute_rdm,
    "compute_rdm_cv": compute_rdm_cv,
    "rdm_array": rdm_array,
    "rsa": rsa,
    "rsa_array": rsa_array,
    "rsa_gen": rsa_gen,
}
# Name → what is in the place of the original.
_PLACED: dict[str, Any] = {}


class MneRsaAcceleration(Acceleration):
    """Functions of fastrdm inside mne-rsa, until the end of the ``with`` block or `restore`."""

    def _take_out(self) -> None:
        # Modules that were imported in the meantime are searched too.
        for name, placed in _PLACED.items():
            _exchange(name, placed, original(name))
        _PLACED.clear()


def accelerate() -> MneRsaAcceleration:
    """Put fastrdm's functions in the places of mne-rsa's, in all of its modules.

    ``with accelerate(): ...`` takes them out at the end, also after an error; as a plain call, `restore` of the result
    does. Accelerations may be nested. `rsa_evokeds`, `rsa_epochs`, `rsa_stcs`, `rsa_nifti`, the functions ``rdm_*`` and
    others of mne-rsa call the functions that are replaced (see `accelerated`) and become faster with them. What the
    kernels do not know goes on to mne-rsa's own functions. Names that were imported from mne-rsa before stay as they
    are: call ``mne_rsa.rsa_array``, or import the name afterwards.

    Returns
    -------
    MneRsaAcceleration
        A context manager with the method `restore`.

    Raises
    ------
    ImportError
        If mne-rsa is not installed (`MissingExtraError`), or its version is not known.

    Examples
    --------
    >>> from fastrdm.interop.mne_rsa import accelerate
    >>> with accelerate():  # doctest: +SKIP
    ...     scores = mne_rsa.rsa_epochs(epochs, model, spatial_radius=0.04, temporal_radius=0.05)
    """
    with LOCK:
        peer()
        for name in REPLACED:
            if name not in _PLACED:
                _PLACED[name] = with_signature_of(original(name), _OURS[name])
            _exchange(name, original(name), _PLACED[name])
        return MneRsaAcceleration()


def accelerated() -> tuple[str, ...]:
    """Return the names of mne-rsa's functions in whose places fastrdm's are now; empty without `accelerate`.

    Returns
    -------
    tuple of str
        Such as ``"mne_rsa.rsa.rsa_array"``, sorted.
    """
    with LOCK:
        return tuple(sorted(f"mne_rsa.{REPLACED[name]}.{name}" for name in _PLACED))


def _exchange(name: str, old: Any, new: Any) -> None:
    for module in modules():
        if vars(module).get(name) is old:
            setattr(module, name, new)
