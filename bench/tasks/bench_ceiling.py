"""Subject RDMs → noise ceiling."""

import reference

from bench.peers import comparison as peers
from bench.peers.contenders import task
from bench.tasks import rdms


@task(
    "noise ceiling, 15 subjects, 118 conditions, spearman",
    peers.fastrdm_ceiling,
    peers.SCIPY_CEILING,
    peers.RSATOOLBOX_CEILING,
)
def test_ceiling(contender, timed):
    """Both bounds as rsatoolbox defines them: ranks pooled, not squared."""
    subjects = rdms.subjects()
    truth = reference.noise_ceiling(subjects[:, None], "spearman", pool="rank", squared=False)
    timed(subjects, truth=truth, targets={"rsatoolbox": 100, "fastrdm cpp-avx2, by numba": 6})
