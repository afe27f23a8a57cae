"""RDMs, results of `scoring` and times → figures.

In come RDMs, results of `scoring` and times; out go matplotlib's Axes. Each function takes `ax=` and draws one figure.

Read `style` first: the colours, sizes and fonts that all figures have. `rdm_maps` draws an RDM (`rdm`), with the
stimuli as `thumbnails`; `comparisons` the differences between models (`compare`); `mds_maps` many RDMs as points
(`mds`), which `scaling` places and `point_names` labels. `measure_maps` draws the scores by one measure against those
by another (`measures`), `stage_bars` where the time went (`stages`), `benchmark_dots` how contenders compare
(`benchmarks`).

Of files, `stored_figures` draws what a store keeps, which `stored_rdms` reads and chooses, and `benchmark_files` what
pytest-benchmark wrote.
"""

from typing import TYPE_CHECKING

from fastrdm._base import lazy_attributes

if TYPE_CHECKING:
    from fastrdm.plot.benchmark_dots import benchmarks
    from fastrdm.plot.benchmark_files import figure_of_benchmarks, figure_of_stages
    from fastrdm.plot.comparisons import compare
    from fastrdm.plot.mds_maps import mds
    from fastrdm.plot.measure_maps import measures
    from fastrdm.plot.rdm_maps import rdm
    from fastrdm.plot.stage_bars import stages
    from fastrdm.plot.stored_figures import figure_of_comparisons, figure_of_maps, figure_of_rdms
    from fastrdm.plot.style import COLOURS, new_axes, styled
else:
    # Imported on first use: a figure needs few of these modules.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm.plot.benchmark_dots": ["benchmarks"],
            "fastrdm.plot.benchmark_files": ["figure_of_benchmarks", "figure_of_stages"],
            "fastrdm.plot.comparisons": ["compare"],
            "fastrdm.plot.mds_maps": ["mds"],
            "fastrdm.plot.measure_maps": ["measures"],
            "fastrdm.plot.rdm_maps": ["rdm"],
            "fastrdm.plot.stage_bars": ["stages"],
            "fastrdm.plot.stored_figures": [
                "figure_of_comparisons",
                "figure_of_maps",
                "figure_of_rdms",
            ],
            "fastrdm.plot.style": ["COLOURS", "new_axes", "styled"],
        },
    )

__all__ = [
    "COLOURS",
    "benchmarks",
    "compare",
    "figure_of_benchmarks",
    "figure_of_comparisons",
    "figure_of_maps",
    "figure_of_rdms",
    "figure_of_stages",
    "mds",
    "measures",
    "new_axes",
    "rdm",
    "stages",
    "styled",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
