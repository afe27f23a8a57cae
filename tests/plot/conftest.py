"""Figures without text, compared with reference images in `baseline`."""

import os
from pathlib import Path

import pytest

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
matplotlib.use("Agg")

BASELINE = Path(__file__).parent / "baseline"
# RMS of pixel values; other versions of matplotlib and FreeType place edges differently by a fraction of a pixel.
TOLERANCE = 10


@pytest.fixture(autouse=True)
def close_figures():
    """Close the figures of a test."""
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.fixture
def check_image(tmp_path):
    """Compare a figure without its text with a reference image; FASTRDM_DRAW_BASELINE=1 draws the reference."""

    def check(axes, name):
        from matplotlib.testing.compare import compare_images
        from matplotlib.text import Text

        figure = axes.figure
        for text in figure.findobj(Text):
            text.set_visible(False)
        update = os.environ.get("FASTRDM_DRAW_BASELINE") == "1"
        path = (BASELINE if update else tmp_path) / f"{name}.png"
        with matplotlib.rc_context({"savefig.dpi": 60}):
            figure.savefig(path, metadata={"Software": None})
        problem = compare_images(str(BASELINE / f"{name}.png"), str(path), TOLERANCE)
        assert problem is None, problem

    return check
