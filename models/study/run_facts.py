"""What a reader must know of kept runs: recipes, images, devices and versions, in sentences."""

import json
from collections.abc import Sequence
from typing import Any

import fastrdm
from fastrdm.studies import Study, synthetic_notice
from models.study.kept import Kept

_AUGMENTED = {
    "none": "images as they are",
    "flip": "half of the images mirrored",
    "crop": "random crops",
}


def facts_of(kept: Sequence[Kept], studies: Sequence[Study]) -> list[str]:
    """Return a fact for each recipe and device of the runs, and facts about what was scored.

    ValueError if the ``.json`` of a run is damaged.
    """
    groups: dict[str, dict[str, list[int]]] = {}
    for run in {each.run: each for each in kept}.values():
        seeds = groups.setdefault(_sentence(run), {}).setdefault(run.network, [])
        seeds += [] if run.seed is None else [run.seed]
    facts = [
        f"**{'; '.join(_named(name, seeds) for name, seeds in networks.items())}:** {sentence}"
        for sentence, networks in groups.items()
    ]
    scored = (f"{s.name} ({len(s.stimuli)} images)" for s in studies)
    facts.append(f"**Scored** against {', '.join(scored)} with fastrdm {fastrdm.__version__}")
    if notice := synthetic_notice(studies):
        facts.append(f"**{notice}**")
    return facts


def _named(network: str, seeds: Sequence[int]) -> str:
    if not seeds:
        return network
    return f"{network}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _sentence(run: Kept) -> str:
    """The recipe, the images and the device of a run."""
    path = run.path.with_name(f"{run.run}.json")
    if not path.is_file():
        return "pretrained on ImageNet" if run.epoch is None else "recipe unknown"
    try:
        config = json.loads(path.read_text("utf-8"))
        recipe, data, where = config["recipe"], config["data"], config["surroundings"]
        return ", ".join(
            [*_recipe(recipe), *_images(data), where["device"], f"torch {where['torch']}"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the description of a run: {error!r}") from None


def _recipe(recipe: dict[str, Any]) -> list[str]:
    size = recipe["image_size"]
    return [
        f"SGD {recipe['lr']:g}",
        f"momentum {recipe['momentum']:g}",
        f"weight decay {recipe['weight_decay']:g}",
        f"{recipe['decay_by']:g} of the rate after every {recipe['decay_every']} epochs",
        f"batches of {recipe['batch_size']}",
        _AUGMENTED[recipe["augment"]],
        "fp32" if recipe["amp"] == "off" else recipe["amp"],
        f"{size} × {size} pixels",
    ]


def _images(data: dict[str, Any]) -> list[str]:
    classes = data["classes"]
    n = classes if isinstance(classes, int) else len(classes)
    return [f"{data['train_images']:,} images of {n} classes"]
