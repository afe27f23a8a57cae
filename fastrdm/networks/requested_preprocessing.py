"""Preprocessing as people ask for it: by the name of its source, by a file, or by the fields that differ."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from fastrdm._base import first_line, list_names, read_json, read_toml, warn_caller
from fastrdm.images import Preprocessing
from fastrdm.networks.pretrained import preprocessing_of

SOURCES = ("timm", "transformers")
_PROCESSOR = "preprocessor_config.json"
_FIELDS = tuple(each.name for each in fields(Preprocessing))


@dataclass(frozen=True)
class PreprocessingRequest:
    """A preprocessing that depends on the network: a source, and fields that replace those of the source.

    The `source` is "timm" (the network's `pretrained_cfg`), "transformers" (a file beside the weights, see `beside`) or
    empty (the network's own).
    """

    source: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the source, if there is one, and the changes as one JSON object."""
        source = {"source": self.source} if self.source else {}
        return json.dumps(source | dict(self.changes))

    def beside(self, folders: Iterable[Path]) -> "Preprocessing | PreprocessingRequest":
        """Return what the image processor's file in the weights' folders states; unchanged for other sources.

        Raise ValueError if there is none, or those of several folders differ.
        """
        if self.source != "transformers":
            return self
        places = sorted({str(folder / _PROCESSOR) for folder in folders})
        files = [place for place in places if Path(place).is_file()]
        if not files:
            where = list_names(places) or "there are none yet"
            raise ValueError(
                f"there is no {_PROCESSOR} beside the weights ({where}); name the file"
            )
        found = [_read_whole(Path(file), self.changes) for file in files]
        for file, each in zip(files, found, strict=True):
            if each != found[0]:
                raise ValueError(f"{files[0]} and {file} state different preprocessing; name one")
        return found[0]

    def of(self, own: Preprocessing, name: str) -> Preprocessing:
        """Return the network's own preprocessing with the changes; ValueError if there is another source."""
        if self.source == "timm":
            raise ValueError(
                f"{name} is not a torch module, so it has no pretrained_cfg of timm; name a file or the fields"
            )
        if self.source:
            raise ValueError(
                f"the preprocessing 'transformers' of {name} is the {_PROCESSOR} beside its weights; name the file"
            )
        return replace(own, **self.changes)

    def of_module(self, module: Any, own: Preprocessing) -> Preprocessing:
        """Return the preprocessing for a torch module; `own` is the module's, or the default."""
        if self.source != "timm":
            return self.of(own, type(module).__name__)
        if not getattr(module, "pretrained_cfg", None):
            raise ValueError(
                f"{type(module).__name__} has no pretrained_cfg, so its preprocessing is not known to timm"
            )
        crop = False if "crop" in self.changes else None
        return replace(preprocessing_of(module, crop=crop), **self.changes)


RequestedPreprocessing: TypeAlias = Preprocessing | PreprocessingRequest
"""A preprocessing, or how to find it when the network is known."""


def request_preprocessing(
    value: "RequestedPreprocessing | str | Path | Mapping[str, Any] | None", folder: Path = Path()
) -> RequestedPreprocessing | None:
    """Return the preprocessing that a user asks for; None if there is nothing to change.

    Parameters
    ----------
    value : Preprocessing, str, path, mapping or None
        "timm" is that of the network's `pretrained_cfg`, "transformers" that of the `preprocessor_config.json` beside
        the weights. A path names such a file, timm's `config.json`, or a JSON or TOML file with fields of
        `Preprocessing`. A mapping has fields that replace those of the network's own preprocessing, or of its
        "source", one of the strings above. `size` may be one number; a crop "none" removes it.
    folder : path
        That of relative paths.

    Raises
    ------
    ValueError
        If a field or value is not valid, or a file cannot be read or states no preprocessing.
    FileNotFoundError
        If a file does not exist.

    Warns
    -----
    RuntimeWarning
        If a crop is left out; see `preprocessing_of`.
    """
    if value is None or isinstance(value, Preprocessing | PreprocessingRequest):
        return value
    if isinstance(value, Mapping):
        rest = {name: each for name, each in value.items() if name != "source"}
        source = str(value.get("source", ""))
        changes = _changes(rest)
    else:
        source, changes = str(value), {}
    if source in {"", *SOURCES}:
        return PreprocessingRequest(source, changes) if source or changes else None
    path = folder / source
    content = _read(path)
    if content and content.keys() <= {*_FIELDS, "source"}:
        source = content.pop("source", "")
        if source not in {"", *SOURCES}:
            raise ValueError(f"{path}: source {source!r} is not one of: {', '.join(SOURCES)}")
        return PreprocessingRequest(source, _changes(content, f"{path}: ") | changes)
    return _read_whole(path, changes)


def preprocessing_for(module: Any, wanted: RequestedPreprocessing | None = None) -> Preprocessing:
    """Return the preprocessing for a torch module: the one wanted, else the module's attribute, else the default.

    Warn if a module of timm or transformers has neither.
    """
    if isinstance(wanted, Preprocessing):
        return wanted
    own: Preprocessing | None = getattr(module, "preprocessing", None)
    if own is None and not (wanted and wanted.source):
        _warn_of_default(module)
    own = own or Preprocessing()
    return own if wanted is None else wanted.of_module(module, own)


def _warn_of_default(module: Any) -> None:
    """Warn if a module comes from a library with preprocessing of its own, which is not used."""
    name = type(module).__name__
    if getattr(module, "pretrained_cfg", None) is not None:
        warn_caller(
            f"{name} has a pretrained_cfg of timm, which is not used; pass --preprocessing timm "
            "(fastrdm.networks.preprocessing_of(module)) to use it, or Preprocessing() for the default",
            UserWarning,
        )
    elif type(module).__module__.startswith("transformers."):
        warn_caller(
            f"{name} of transformers does not state its preprocessing, and the default is used; pass --preprocessing "
            f"transformers or the path of its {_PROCESSOR}, or Preprocessing() for the default",
            UserWarning,
        )


def _changes(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Check fields that replace others, and return them as `Preprocessing` keeps them."""
    if unknown := sorted(values.keys() - set(_FIELDS)):
        raise ValueError(
            f"{where}preprocessing has no field {unknown[0]}; the fields are {', '.join(sorted(_FIELDS))}"
        )
    given = dict(values)
    if isinstance(given.get("size"), int):
        given["size"] = (given["size"],) * 2
    if given.get("crop") == "none":
        given["crop"] = None
    try:
        complete = Preprocessing(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}preprocessing: {error}") from None
    return {name: getattr(complete, name) for name in given}


def _read_whole(path: Path, changes: Mapping[str, Any]) -> Preprocessing:
    """Read the preprocessing of a pretrained network's file."""
    content = _read(path)
    try:
        whole = preprocessing_of(content, crop=False if "crop" in changes else None)
    # The values of a damaged file may be of any type.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if "neither a timm model" in str(error):
            raise ValueError(
                f"{path} states no preprocessing: it is neither transformers' {_PROCESSOR} nor timm's config.json, nor "
                f"has it only fields of Preprocessing ({', '.join(sorted(_FIELDS))})"
            ) from None
        raise ValueError(f"{path}: {first_line(error)}") from None
    return replace(whole, **changes)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"preprocessing {str(path)!r} is neither a file nor one of: {', '.join(SOURCES)}"
        )
    content = read_toml(path) if path.suffix.lower() == ".toml" else read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold the fields of a preprocessing")
    return content
