"""Files and constants of the Algonauts 2019 challenge (Cichy et al. 2019, arXiv:1905.05675)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    CELL,
    NUMBERS,
    STRUCT,
    Contents,
    as_floats,
    check_choice,
    kind_of,
    list_names,
    n_conditions,
    open_contents,
    rdm_labels,
)
from fastrdm.images import describe_unread, list_images
from fastrdm.similarity import Target
from fastrdm.studies.rdm_files import read_stored
from fastrdm.studies.rdm_values import condensed_square, pairs_of
from fastrdm.studies.time_values import times_of

#: Region → key in the challenge's files, by modality.
REGIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "fmri": MappingProxyType({"evc": "EVC_RDMs", "it": "IT_RDMs"}),
        "meg": MappingProxyType({"early": "MEG_RDMs_early", "late": "MEG_RDMs_late"}),
    }
)

#: Published noise ceilings (R²) of each image set and region.
CEILINGS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        name: MappingProxyType(dict(zip(("evc", "it", "early", "late"), values, strict=True)))
        for name, values in {
            "92": (0.1589, 0.3075, 0.4634, 0.2275),
            "118": (0.1048, 0.0728, 0.3468, 0.2265),
            "78": (0.0640, 0.0647, 0.3562, 0.4452),
        }.items()
    }
)

#: Window after stimulus onset, in ms, of the MEG targets of each image set.
MEG_WINDOWS: Mapping[str, Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "92": MappingProxyType({"early": (70, 90), "late": (140, 160)}),
        "118": MappingProxyType({"early": (100, 120), "late": (165, 185)}),
        "78": MappingProxyType({"early": (70, 90), "late": (140, 160)}),
    }
)

_FOLDERS = {
    "92": "Training_Data/92_Image_Set",
    "118": "Training_Data/118_Image_Set",
    "78": "Test_Data",
}

_AXES = {3: ("subject", "row", "column"), 4: ("subject", "time", "row", "column")}


def subject_rdms(array: Any, name: str, nan_policy: str = "raise") -> NDArray[np.floating[Any]]:
    """Check the square RDMs of a region's subjects and condense them.

    Parameters
    ----------
    array : array_like, shape (subjects, n, n), (subjects, times, n, n) or (n, n)
        Symmetric dissimilarities of n ≥ 3 conditions; the diagonal is not read. A single RDM is
        that of a single subject: MATLAB's `squeeze` drops the first axis.
    name : str
        Name of the array in errors.
    nan_policy : str
        ``"raise"``: NaN is an error. Otherwise NaN is kept, but must be on both sides of the diagonal. Infinity is
        always an error.

    Returns
    -------
    ndarray, shape (subjects, pairs) or (subjects, times, pairs)
        Condensed RDMs.

    Raises
    ------
    ValueError
        If the shape is wrong, or values are not numbers, not finite (the message gives the place of the first), masked
        or not symmetric, or labels of rows and columns differ.

    Warns
    -----
    RuntimeWarning
        If matrices look like similarities: the largest entry of each row is on the diagonal.
    """
    rdms = as_floats(array, name, masked_as_nan=True)
    shape = rdms.shape
    if rdms.ndim == 2:
        rdms = rdms[np.newaxis]
    *leading, n_rows, n = rdms.shape if rdms.ndim in _AXES else (0, 0, 0)
    if n_rows != n or n < 3 or 0 in leading:
        is_reversed = len(shape) in _AXES and shape[0] == shape[1]
        hint = "; the conditions seem to come first, so transpose it" if is_reversed else ""
        raise ValueError(
            f"{name} has shape {shape}; expected (subjects, n, n) or (subjects, times, n, n)"
            f" for n >= 3 conditions{hint}"
        )
    rdm_labels(array, name, square=True)
    return condensed_square(rdms, name, _AXES[rdms.ndim], nan_policy)


def read_target(
    path: str | Path, modality: str | None = None, set: str = "infer"
) -> dict[str, Target]:
    """Read the subjects' RDMs of each region.

    Parameters
    ----------
    path : path-like
        A file of any format that `read_rdms` reads, with the keys `EVC_RDMs` and `IT_RDMs`, or `MEG_RDMs_early` and
        `MEG_RDMs_late`: arrays of shapes as for `subject_rdms`, condensed RDMs, or MATLAB's structs and cells.
    modality : {"fmri", "meg"}, optional
        Which regions to read; by default those in the file.
    set : {"infer", "92", "118", "78", "none"}
        The image set; its published ceilings are used. By default it is inferred from the number of
        conditions. With "none", or if no set is inferred, ceilings are computed from the subjects.

    Returns
    -------
    dict of str to Target
        By region: "evc" and "it", "early" and "late".

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file cannot be read, lacks a key, holds RDMs that are not square, symmetric and
        finite, or differs from the set in the number of conditions.
    """
    contents = open_contents(path)
    arrays = {k: v for k, v in contents.entries.items() if v.kind in (NUMBERS, STRUCT, CELL)}
    if modality is None:
        modalities = modalities_of(arrays, path)
    else:
        check_choice(modality, REGIONS, "modality")
        modalities = (modality,)
    targets = {}
    keys = {region: key for name in modalities for region, key in REGIONS[name].items()}
    for region, key in keys.items():
        check_key(arrays, key, path)
        source = f"{key} of {path}"
        rdms = _subjects_of(contents, key, source)
        image_set = published_set(set, n_conditions(rdms.shape[-1]), source)
        ceiling = None if image_set is None else CEILINGS[image_set][region]
        has_times = rdms.ndim == 3 and rdms.shape[1] > 1
        times = times_of(contents, None, rdms.shape[1], source, "times") if has_times else None
        try:
            targets[region] = Target(rdms, "algonauts2019", ceiling, region, times=times)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
    return targets


@dataclass(frozen=True)
class ChallengeImages:
    """One of the challenge's image sets on disk.

    Attributes
    ----------
    name : str
        "92", "118" or "78".
    images : tuple of Path
        Sorted by file name: the order of the conditions.
    targets : dict of str to Path
        Target file by modality; empty for the test set: its targets were not published.
    """

    name: str
    images: tuple[Path, ...]
    targets: dict[str, Path] = field(default_factory=dict)

    def read_targets(self, modality: str) -> dict[str, Target]:
        """Return targets by region; ValueError if there are none or their conditions are not the images."""
        check_choice(modality, REGIONS, "modality")
        path = self.targets.get(modality)
        if path is None:
            raise ValueError(f"{self.images[0].parent.parent} has no target_{modality}.mat")
        targets = read_target(path, modality)
        for region, target in targets.items():
            if target.n_conditions != len(self.images):
                folder = self.images[0].parent
                raise ValueError(
                    f"{path} has {target.n_conditions} conditions for {region}, but"
                    f" {folder} has {len(self.images)} images{describe_unread(folder)}"
                )
        return targets


def image_sets(root: str | Path) -> dict[str, ChallengeImages]:
    """Find the challenge's image sets.

    Parameters
    ----------
    root : path-like
        The unpacked download, with `Training_Data/92_Image_Set/92images` and so on, or the
        folder that holds it as `algonauts2019`.

    Returns
    -------
    dict of str to ChallengeImages
        By name, those found of "92", "118" and "78"; empty if `root` holds none.

    Raises
    ------
    ValueError
        If a folder of images is empty.
    """
    root = Path(root)
    base = root / "algonauts2019" if (root / "algonauts2019").is_dir() else root
    found = {}
    for name, relative in _FOLDERS.items():
        folder = base / relative
        images = folder / f"{name}images"
        if images.is_dir():
            targets = {m: path for m in REGIONS if (path := folder / f"target_{m}.mat").is_file()}
            found[name] = ChallengeImages(name, tuple(list_images(images)), targets)
    return found


def _subjects_of(contents: Contents, key: str, source: str) -> NDArray[np.floating[Any]]:
    """Return the condensed RDMs of a key, of square RDMs or of another form."""
    value = np.asarray(contents.read(key))
    is_square = value.ndim > 1 and value.shape[-1] == value.shape[-2]
    if kind_of(value) == NUMBERS and (
        is_square or pairs_of(value.shape[-1] if value.ndim else 0) is None
    ):
        return subject_rdms(value, source)
    return read_stored(contents.path, key, (), None, None).rdms


def modalities_of(arrays: Mapping[str, Any], path: str | Path) -> tuple[str, ...]:
    """Return the modalities of a file; one region's key is enough to recognise one."""
    present = tuple(name for name, keys in REGIONS.items() if {*keys.values()} & arrays.keys())
    if not present:
        raise ValueError(_missing(arrays, path, *REGIONS))
    return present


def check_key(arrays: Mapping[str, Any], key: str, path: str | Path) -> None:
    """Raise a ValueError that lists the file's keys if one is missing."""
    if key not in arrays:
        modality = next(name for name, keys in REGIONS.items() if key in keys.values())
        raise ValueError(_missing(arrays, path, modality))


def _missing(arrays: Mapping[str, Any], path: str | Path, *modalities: str) -> str:
    wanted = " or ".join(" and ".join(REGIONS[name].values()) for name in modalities)
    return f"{path} lacks {wanted}; it holds {list_names(arrays, 20) or 'no array'}"


def published_set(name: str, n_conditions: int, source: str) -> str | None:
    """Return the image set whose published ceilings apply; None if they are to be computed."""
    check_choice(name, ("infer", *CEILINGS, "none"), "set")
    if name == "infer":
        return str(n_conditions) if str(n_conditions) in CEILINGS else None
    if name == "none":
        return None
    if n_conditions != int(name):
        raise ValueError(f"{source} has {n_conditions} conditions, but set {name} was requested")
    return name
