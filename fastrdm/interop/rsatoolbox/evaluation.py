"""rsatoolbox's evaluation of models on all data."""

from typing import Any

import numpy as np

from fastrdm.interop.rsatoolbox.noise_ceilings import boot_noise_ceiling
from fastrdm.interop.rsatoolbox.originals import toolbox
from fastrdm.interop.rsatoolbox.vectors import similarities


def eval_fixed(models: Any, data: Any, theta: Any = None, method: str = "cosine") -> Any:
    """Evaluate models on data without fits or draws, as `rsatoolbox.inference.eval_fixed`.

    Parameters
    ----------
    models : Model or list of Model
        rsatoolbox's models.
    data : RDMs
        rsatoolbox's RDMs of the data.
    theta : list, optional
        The parameters of each model.
    method : str
        A similarity of `compare`.

    Returns
    -------
    rsatoolbox.inference.Result
        ``evaluations`` (1, models, RDMs), their variances over RDMs and the noise ceiling.
    """
    models, evaluations, theta, _ = toolbox("util.inference_util").input_check_model(
        models, theta, None, 1
    )
    evaluations = np.repeat(evaluations[:, None], data.n_rdm, axis=1)
    for i, model in enumerate(models):
        evaluations[i] = similarities(model.predict_rdm(theta=theta[i]), data, method)
    evaluations = evaluations.reshape((1, len(models), data.n_rdm))
    ceiling = boot_noise_ceiling(data, method=method, rdm_descriptor="index")
    variances = np.cov(evaluations[0], ddof=0) / data.n_rdm if data.n_rdm > 1 else None
    result = toolbox("inference.result").Result(
        models,
        evaluations,
        method=method,
        cv_method="fixed",
        noise_ceiling=ceiling,
        variances=variances,
        dof=max(data.n_rdm - 1, 0),
        n_rdm=data.n_rdm,
        n_pattern=None,
    )
    result.n_pattern = data.n_cond
    return result
