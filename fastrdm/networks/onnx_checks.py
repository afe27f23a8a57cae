"""Checks of an ONNX model that was read: its text is text, and its metadata have the form that fastrdm writes."""

from collections.abc import Callable, Mapping
from typing import Any

from fastrdm._base import parse_json

_TAP = {"of", "part", "tokens"}


def check_model(model: Any, name: str) -> None:
    """Raise ValueError, with the model's `name`, if text is not UTF-8 or metadata have another form."""
    if field := _field_without_text(model):
        raise ValueError(f"{name} cannot be read as an ONNX model: its {field} is not UTF-8 text")
    for entry in model.metadata_props:
        if entry.key not in _FORMS:
            continue
        form, is_valid = _FORMS[entry.key]
        try:
            valid = is_valid(parse_json(entry.value))
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"the metadata {entry.key} of {name} are not {form}")


def _field_without_text(message: Any) -> str:
    """The name of a field of text that protobuf could only read as bytes; empty if there is none."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.type == field.TYPE_MESSAGE:
            for each in values:
                if found := _field_without_text(each):
                    return found
        elif field.type == field.TYPE_STRING and not all(isinstance(each, str) for each in values):
            return str(field.name)
    return ""


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _are_taps(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(tap, Mapping)
        and tap.keys() >= _TAP
        and all(isinstance(tap[k], str) for k in _TAP)
        for tap in value.values()
    )


_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "fastrdm.layers": ("a list of names", _are_names),
    "fastrdm.taps": ("a description of layers", _are_taps),
}
