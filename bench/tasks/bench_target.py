"""Model RDMs → scores, by a target that is prepared once."""

import pytest

from bench.peers import contenders as peers
from bench.tasks import rdms


@pytest.mark.benchmark(group="prepared score, 1 model × 15 subjects, 118 conditions")
@pytest.mark.parametrize(
    "contender",
    peers.contenders(
        peers.fastrdm_score,
        peers.NUMPY_PREPARED_SPEARMAN,
        peers.SCIPY_LOOP,
        peers.RSATOOLBOX_SPEARMAN,
        peers.MNE_RSA_SPEARMAN,
    ),
    indirect=True,
)
def test_one_model(contender, timed):
    """What a training loop asks after each epoch. fastrdm also makes p, the deviations and the percentage."""
    models, subjects = rdms.models(1), rdms.subjects()
    timed(
        models,
        subjects,
        truth=rdms.spearman(models, subjects),
        targets={"scipy spearmanr loop": 250, "fastrdm cpp-avx2, by numba": 6},
    )


@pytest.mark.benchmark(group="prepared score, 200 models × 15 subjects, 118 conditions")
@pytest.mark.parametrize(
    "contender",
    peers.contenders(
        peers.fastrdm_score,
        peers.NUMPY_PREPARED_SPEARMAN,
        peers.TORCH_SPEARMAN,
        peers.SCIPY_LOOP,
        peers.RSATOOLBOX_SPEARMAN,
        peers.MNE_RSA_SPEARMAN,
    ),
    indirect=True,
)
def test_many_models(contender, timed):
    """What a sweep asks: the layers of a few checkpoints at once."""
    models, subjects = rdms.models(200), rdms.subjects()
    timed(
        models,
        subjects,
        truth=rdms.spearman(models, subjects),
        targets={"rsatoolbox": 30, "numpy argsort + BLAS": 4, "fastrdm cpp-avx2, by numba": 6},
    )
