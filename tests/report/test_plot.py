import dataclasses

import numpy as np
import pytest
from PIL import Image

from fastrdm.report import plot_scores
from fastrdm.scoring import Result


def results():
    return [
        Result(
            f"run/{checkpoint}.pth", name, layer, region, 0.01, 0.02, 0.03, 5.0 + i, 0.1, 0.01, 0.2
        )
        for checkpoint in ("one", "two")
        for name in ("92", "118")
        for i, layer in enumerate(("stem", "block1", "fc"))
        for region in ("evc", "it")
    ]


def test_a_figure_is_drawn(tmp_path):
    path = plot_scores(results(), tmp_path / "new" / "scores.png", "a title")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    colours = {tuple(c) for c in pixels.reshape(-1, 3)[::7]}
    assert {(31, 119, 180), (255, 127, 14)} <= colours, "bars of both checkpoints"


def test_bars_of_layers_opposite_to_the_brain_are_hatched(tmp_path):
    opposite = [dataclasses.replace(r, mean_rho=-0.1) for r in results()]
    texts = [
        plot_scores(each, tmp_path / f"{i}.svg").read_text()
        for i, each in enumerate((results(), opposite))
    ]
    assert ["<pattern" in text for text in texts] == [False, True]


@pytest.mark.parametrize("ending", ["pdf", "svg"])
def test_vector_formats(tmp_path, ending):
    assert plot_scores(results(), tmp_path / f"scores.{ending}").stat().st_size > 1000


def test_errors(tmp_path):
    with pytest.raises(ValueError, match=r"scores\.doc must end in one of: .*\.png"):
        plot_scores(results(), tmp_path / "scores.doc")
    with pytest.raises(ValueError, match="no results to draw"):
        plot_scores([], tmp_path / "scores.png")
