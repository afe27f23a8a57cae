"""The preprocessing of pretrained networks from timm and transformers."""

from collections.abc import Mapping
from typing import Any

from fastrdm.images import Preprocessing

# PIL's numbers of filters, which image processors store.
_RESAMPLE = {2: "pil-bilinear", 3: "pil-bicubic"}


def preprocessing_of(source: Any) -> Preprocessing:
    """Return the preprocessing of a timm model, or of an image processor of transformers, without the crop.

    Both libraries resize the shorter edge to more than the input's size and crop the centre; here the whole image is
    resized to the input's size, because stimuli are shown whole. Models of transformers have no preprocessing; pass
    their image processor. Raise ValueError if `source` is neither, or has a filter or scale that `Preprocessing` does
    not support.
    """
    config = getattr(source, "pretrained_cfg", None)
    if config is not None:
        return Preprocessing(
            size=config["input_size"][1:],
            resize=f"pil-{config['interpolation']}",
            mean=config["mean"],
            std=config["std"],
        )
    if not hasattr(source, "image_mean"):
        raise ValueError(
            f"a {type(source).__name__} is neither a timm model nor an image processor of transformers"
        )
    name = type(source).__name__
    if not source.do_rescale or abs(255 * source.rescale_factor - 1) > 1e-9:
        raise ValueError(f"{name} does not scale pixels to [0, 1], as Preprocessing does")
    if source.resample not in _RESAMPLE:
        raise ValueError(f"{name} resizes with PIL's filter {source.resample}, not with 2 or 3")
    mean, std = (
        (source.image_mean, source.image_std) if source.do_normalize else ((0,) * 3, (1,) * 3)
    )
    cropped = getattr(source, "do_center_crop", None)
    size = _edges(source.crop_size if cropped else source.size)
    return Preprocessing(size, _RESAMPLE[source.resample], mean, std)


def _edges(size: Mapping[str, int]) -> tuple[int, int]:
    edge = size.get("shortest_edge", 0)
    return size.get("height", edge), size.get("width", edge)
