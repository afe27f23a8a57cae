"""Model RDMs → scores, by a target that is prepared once."""

from bench.peers import comparison as peers
from bench.peers.contenders import task
from bench.tasks import rdms


def score(timed, n_models, targets):
    models, subjects = rdms.models(n_models), rdms.subjects()
    timed(models, subjects, truth=rdms.spearman(models, subjects), targets=targets)


@task(
    "prepared score, 1 model × 15 subjects, 118 conditions",
    peers.fastrdm_score,
    peers.NUMPY_PREPARED_SPEARMAN,
    peers.SCIPY_LOOP,
    peers.RSATOOLBOX_SPEARMAN,
    peers.MNE_RSA_SPEARMAN,
)
def test_one_model(contender, timed):
    """The scores of a training loop after each epoch; fastrdm also computes p, deviations and percentage."""
    score(timed, 1, {"scipy spearmanr loop": 250, "fastrdm cpp-avx2, by numba": 6})


@task(
    "prepared score, 200 models × 15 subjects, 118 conditions",
    peers.fastrdm_score,
    peers.NUMPY_PREPARED_SPEARMAN,
    peers.TORCH_SPEARMAN,
    peers.SCIPY_LOOP,
    peers.RSATOOLBOX_SPEARMAN,
    peers.MNE_RSA_SPEARMAN,
)
def test_many_models(contender, timed):
    """The scores of a sweep: the layers of several checkpoints in one call."""
    targets = {"rsatoolbox": 30, "numpy argsort + BLAS": 4, "fastrdm cpp-avx2, by numba": 6}
    score(timed, 200, targets)
