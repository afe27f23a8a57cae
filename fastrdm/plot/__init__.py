"""RDMs, results of `scoring` and times → figures.

In come RDMs, results of `scoring` and times; out go matplotlib's Axes. Each function takes `ax=` and draws one figure.

Read `style` first: the colours, sizes and fonts that all figures have. `rdm_maps` draws an RDM (`rdm`), with the
stimuli as `thumbnails`; `comparisons` the differences between models (`compare`); `mds_maps` many RDMs as points
(`mds`), which `scaling` places and `point_names` labels. `measure_maps` draws the scores by one measure against those
by another (`measures`), `stage_bars` where the time went (`stages`), `benchmark_dots` how contenders compare
(`benchmarks`).

`series` groups results and names the groups: `layer_dots` draws the scores of layers (`layers`), `epoch_lines` those of
checkpoints over the epochs of training (`epochs`), `time_lines` those of time points (`time`), and `best_bars` the best
layers (`figure4`, `figure5`), by `best_layer_scores`. `legends` explains colours and line styles.
`ceiling_strips` draws the noise ceiling, above a broken axis if it is far. `panels` puts several Axes into a figure and
writes it.

Of files, `stored_figures` draws what a store keeps, which `stored_rdms` reads and chooses, and `benchmark_files` what
pytest-benchmark wrote.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.plot.benchmark_dots import benchmarks
    from fastrdm.plot.benchmark_files import figure_of_benchmarks, figure_of_stages
    from fastrdm.plot.best_bars import figure4, figure5
    from fastrdm.plot.best_layer_scores import BestScore, best_scores
    from fastrdm.plot.comparisons import compare
    from fastrdm.plot.epoch_lines import epochs
    from fastrdm.plot.layer_dots import layers
    from fastrdm.plot.mds_maps import mds
    from fastrdm.plot.measure_maps import measures
    from fastrdm.plot.panels import (
        check_figure,
        draw_panels,
        panel_size,
        panels_of,
        plot_scores,
        write_figure,
    )
    from fastrdm.plot.rdm_maps import rdm
    from fastrdm.plot.stage_bars import stages
    from fastrdm.plot.stored_figures import figure_of_comparisons, figure_of_maps, figure_of_rdms
    from fastrdm.plot.style import COLOURS, new_axes, plain_text, styled
    from fastrdm.plot.time_lines import time
else:
    # Imported on first use: a figure needs few of these modules.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.plot.benchmark_dots": ["benchmarks"],
            "fastrdm.plot.benchmark_files": ["figure_of_benchmarks", "figure_of_stages"],
            "fastrdm.plot.best_bars": ["figure4", "figure5"],
            "fastrdm.plot.best_layer_scores": ["BestScore", "best_scores"],
            "fastrdm.plot.comparisons": ["compare"],
            "fastrdm.plot.epoch_lines": ["epochs"],
            "fastrdm.plot.layer_dots": ["layers"],
            "fastrdm.plot.mds_maps": ["mds"],
            "fastrdm.plot.measure_maps": ["measures"],
            "fastrdm.plot.panels": [
                "check_figure",
                "draw_panels",
                "panel_size",
                "panels_of",
                "plot_scores",
                "write_figure",
            ],
            "fastrdm.plot.rdm_maps": ["rdm"],
            "fastrdm.plot.stage_bars": ["stages"],
            "fastrdm.plot.stored_figures": [
                "figure_of_comparisons",
                "figure_of_maps",
                "figure_of_rdms",
            ],
            "fastrdm.plot.style": ["COLOURS", "new_axes", "plain_text", "styled"],
            "fastrdm.plot.time_lines": ["time"],
        },
    )

__all__ = [
    "COLOURS",
    "BestScore",
    "benchmarks",
    "best_scores",
    "check_figure",
    "compare",
    "draw_panels",
    "epochs",
    "figure4",
    "figure5",
    "figure_of_benchmarks",
    "figure_of_comparisons",
    "figure_of_maps",
    "figure_of_rdms",
    "figure_of_stages",
    "layers",
    "mds",
    "measures",
    "new_axes",
    "panel_size",
    "panels_of",
    "plain_text",
    "plot_scores",
    "rdm",
    "stages",
    "styled",
    "time",
    "write_figure",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
