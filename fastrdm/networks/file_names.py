"""The names that entries of a network have in the files of its library, where these are others than in memory.

Networks of transformers are saved under the names of earlier versions.
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def names_in_files(module: "torch.nn.Module") -> dict[str, str]:
    """Return the name in memory of each entry that has another one in files, by this other name."""
    transformers = sys.modules.get("transformers")
    loading = sys.modules.get("transformers.core_model_loading")
    if transformers is None or loading is None:
        return {}
    names: dict[str, str] = {}
    found: list[str] = []
    for path, part in module.named_modules():
        inside = any(path.startswith(f"{each}." if each else "") for each in found)
        if inside or not isinstance(part, transformers.PreTrainedModel):
            continue
        found.append(path)
        state = part.state_dict()
        try:
            saved = loading.revert_weight_conversion(part, dict(state))
        # It is not part of transformers' public interface: without it, names in files are those in memory.
        except Exception:
            continue
        prefix = f"{path}." if path else ""
        names |= {f"{prefix}{k}": f"{prefix}{v}" for k, v in _renamed(state, saved).items()}
    return names


def _renamed(
    state: "Mapping[str, torch.Tensor]", saved: "Mapping[str, torch.Tensor]"
) -> dict[str, str]:
    """New names of the tensors that have the same memory and shape under another name."""
    places = {(value.data_ptr(), value.shape): name for name, value in state.items()}
    pairs = ((name, places.get((value.data_ptr(), value.shape))) for name, value in saved.items())
    return {name: own for name, own in pairs if own is not None and name not in state}
