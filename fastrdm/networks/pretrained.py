"""The preprocessing of pretrained networks from timm, transformers and torchvision."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fastrdm._base import warn_caller
from fastrdm.images import Preprocessing

# PIL's numbers of filters, which image processors store.
_RESAMPLE = {2: "pil-bilinear", 3: "pil-bicubic"}
# timm's defaults, in `timm.data.resolve_data_config`.
_TIMM: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
}
# From this size on, ConvNeXt's image processor does not crop.
_CONVNEXT_WHOLE = 384
# Image processors that take one number, as in files of old versions, as the length of the shorter edge.
_SHORTER = ("AltCLIP", "Bit", "ChineseCLIP", "CLIP", "ConvNext", "Levit", "MobileNet", "PoolFormer")
# A setting of an image processor that Preprocessing cannot state, and what it does.
_UNSUPPORTED = {
    "do_pad": "pads images",
    "rescale_offset": "shifts pixels after scaling",
    "include_top": "normalises images twice",
}


def preprocessing_of(source: Any, crop: bool | None = None) -> Preprocessing:
    """Return the preprocessing of a pretrained network, by default without its crop.

    Pretrained networks crop the centre of images. By default the whole image is resized to the input's size, because
    stimuli are shown whole, and a warning names the crop that is left out.

    Parameters
    ----------
    source : timm model, image processor, torchvision preset or mapping
        A model of timm, whose `pretrained_cfg` is read; an image processor of transformers, because its models have no
        preprocessing; torchvision's ``weights.transforms()``; or the content of timm's `config.json` or of
        transformers' `preprocessor_config.json`.
    crop : bool, optional
        Whether to keep the crop. With False it is left out without a warning.

    Returns
    -------
    Preprocessing
        With a crop, that of timm and torchvision on PIL images to the bit. Image processors of transformers round the
        position of the crop down, so theirs may begin one pixel earlier.

    Raises
    ------
    ValueError
        If `source` is none of these, or has a filter, scale or other step that `Preprocessing` does not support; with
        `crop=True`, also if it changes the shape of images before it crops them, or pads them.

    Warns
    -----
    RuntimeWarning
        If a crop is left out.
    """
    name = type(source).__name__
    config = _pretrained_cfg(source)
    if config is not None:
        name = config.get("architecture", name) if isinstance(source, Mapping) else name
        whole, how = _of_timm(config)
    elif hasattr(source, "resize_size") and hasattr(source, "crop_size"):
        whole, how = _of_torchvision(source)
    elif _settings(source)("image_mean") is not None:
        settings = _settings(source)
        name = settings("image_processor_type") or settings("feature_extractor_type") or name
        if not isinstance(name, str):
            raise ValueError(f"the type of the image processor is {name!r}, not text")
        whole, how = _of_processor(name, settings)
    else:
        raise ValueError(
            f"a {name} is neither a timm model nor an image processor of transformers, nor a preset of torchvision"
        )
    if not how or crop is False:
        return whole
    if isinstance(how, str):
        if crop:
            raise ValueError(f"{name} {how}, which Preprocessing(crop=) cannot state")
        warn_caller(f"{name} {how}; the crop is left out, so that stimuli are shown whole")
        return whole
    if crop is None:
        warn_caller(
            f"the crop of {name} is left out, so that stimuli are shown whole; crop={how} (--crop {how}) keeps it,"
            " crop=False (--crop none) silences this warning"
        )
        return whole
    return replace(whole, crop=how)


def _pretrained_cfg(source: Any) -> Mapping[str, Any] | None:
    if not isinstance(source, Mapping):
        return getattr(source, "pretrained_cfg", None)
    if "pretrained_cfg" in source:
        return {"architecture": source.get("architecture", "timm"), **source["pretrained_cfg"]}
    # Image processors may have a crop_pct too.
    is_timm = "image_mean" not in source and source.keys() & set(_TIMM)
    return source if is_timm else None


def _of_timm(config: Mapping[str, Any]) -> tuple[Preprocessing, int | float | str | None]:
    """The preprocessing without the crop, and the crop; as text if Preprocessing cannot state it."""
    values = _TIMM | {name: config[name] for name in _TIMM if config.get(name)}
    channels, *size = values["input_size"]
    if channels != 3:
        raise ValueError(f"input_size {tuple(values['input_size'])} of timm has not three channels")
    crop, mode = values["crop_pct"], values["crop_mode"]
    whole = Preprocessing(
        size=tuple(size),
        resize=f"pil-{values['interpolation']}",
        mean=values["mean"],
        std=values["std"],
    )
    if mode == "center":
        return whole, float(crop)
    if mode == "squash":
        return whole, None if crop == 1 else f"squashes images, then crops {crop} of them"
    return whole, f"has the crop mode {mode!r}"


def _of_torchvision(preset: Any) -> tuple[Preprocessing, int | str | None]:
    (size, *more), resize = preset.crop_size, preset.resize_size
    size = (size, *(more or [size]))
    whole = Preprocessing(size, f"pil-{preset.interpolation.value}", preset.mean, preset.std)
    if len(resize) == 1:
        return whole, resize[0]
    return whole, None if tuple(resize) == size else "squashes images, then crops them"


def _settings(source: Any) -> Callable[[str], Any]:
    """The settings of an image processor, which is an object or the content of its file; None if there is none."""
    if isinstance(source, Mapping):
        return source.get
    return lambda name: getattr(source, name, None)


def _of_processor(
    name: str, settings: Callable[[str], Any]
) -> tuple[Preprocessing, int | str | None]:
    def is_on(setting: str, default: bool = True) -> bool:
        value = settings(setting)
        return default if value is None else bool(value)

    factor = settings("rescale_factor")
    if not is_on("do_rescale") or abs(255 * (factor or 1 / 255) - 1) > 1e-9:
        raise ValueError(f"{name} does not scale pixels to [0, 1], as Preprocessing does")
    if settings("resample") not in _RESAMPLE:
        raise ValueError(
            f"{name} resizes with PIL's filter {settings('resample')}, not with 2 or 3"
        )
    if not is_on("do_resize"):
        raise ValueError(f"{name} does not resize images; state their size with Preprocessing")
    for setting, does in _UNSUPPORTED.items():
        if is_on(setting, False):
            raise ValueError(f"{name} {does} ({setting}), which Preprocessing cannot state")
    if name.startswith("Perceiver"):
        raise ValueError(f"{name} crops images before it resizes them; use Preprocessing")
    # MobileViT's processor has a mean, which it does not use.
    normalises = is_on("do_normalize", not name.startswith("MobileViT"))
    mean, std = (
        (settings("image_mean"), settings("image_std")) if normalises else ((0,) * 3, (1,) * 3)
    )
    crops = is_on("do_center_crop", False)
    edges = _edges(settings("size"))
    is_shorter = isinstance(settings("size"), int) and name.startswith(_SHORTER)
    shorter = edges[0] if edges[1] is None or is_shorter else 0
    size = _pair(settings("crop_size") if crops else settings("size"))
    order = "BGR" if is_on("do_flip_channel_order", False) else "RGB"
    whole = Preprocessing(size, _RESAMPLE[settings("resample")], mean, std, order)
    fraction = settings("crop_pct")
    if shorter and fraction and (crops or shorter < _CONVNEXT_WHOLE):
        return whole, int(shorter / fraction)
    if not crops:
        return whole, None
    if shorter:
        return whole, int(256 / 224 * shorter) if name.startswith("Levit") else shorter
    return whole, None if edges == size else "squashes images, then crops them"


def _edges(size: Any) -> tuple[Any, Any]:
    """Height and width; of a shorter edge, its length and None."""
    # Files of old versions have one number.
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple):
        height, width = size
        return height, width
    if size.get("height"):
        return size["height"], size["width"]
    return size.get("shortest_edge") or 0, None


def _pair(size: Any) -> tuple[int, int]:
    height, width = _edges(size)
    return height, height if width is None else width
