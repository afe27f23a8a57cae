"""Models whose RDMs are made on a device get the scores of those on the host."""

import numpy as np
import pytest
import small_sweep
import torch
from small_study import write_study

from fastrdm import TorchModel
from fastrdm.scoring import LayerScoring, RunOptions, scorers_of
from fastrdm.studies import collect_studies


@pytest.fixture
def module():
    names = {}
    exec(small_sweep.NETWORK, names)
    torch.manual_seed(0)
    return names["build"]()


@pytest.mark.parametrize("measures", ["rsa", ["rsa", "cka"]])
def test_scores_on_a_device_are_those_on_the_host(tmp_path, module, measures):
    write_study(tmp_path, regions=("evc", "it"))
    studies = collect_studies(tmp_path, None, "fmri", None, None)
    scorers = scorers_of(studies, measures if isinstance(measures, list) else [measures])
    options = RunOptions(keep_rdms=True, keep_grams="cka" in measures)
    model = TorchModel(module)
    host, device = (
        LayerScoring(studies, scorers, options, {}, where) for where in ("host", "device")
    )
    expected = host.scores(model)
    assert host.start(model) == {}
    for _ in range(2):
        found = device.scores(model)
        assert (
            found["layers"] == expected["layers"]
            and found["scores"].keys() == expected["scores"].keys()
        )
        for key, score in expected["scores"].items():
            np.testing.assert_allclose(found["scores"][key].rho, score.rho, atol=1e-5)
        for name, rdms in expected["rdms"].items():
            np.testing.assert_allclose(found["rdms"][name], rdms, atol=1e-5)


def test_a_model_may_take_other_weights_before_its_scores_are_finished(tmp_path, module):
    write_study(tmp_path)
    studies = collect_studies(tmp_path, None, "fmri", None, None)
    scoring = LayerScoring(studies, scorers_of(studies, ["rsa"]), RunOptions(), {}, "device")
    model = TorchModel(module)
    first = {name: value.clone() for name, value in module.state_dict().items()}
    others = {name: torch.randn_like(value) for name, value in first.items()}
    rho = []
    for weights in (first, others):
        model.load(weights)
        (score,) = scoring.scores(model)["scores"].values()
        rho.append(score.rho)
    assert not np.allclose(*rho)
    model.load(first)
    pending = scoring.start(model)
    model.load(others)
    (score,) = scoring.finish(model, pending)["scores"].values()
    np.testing.assert_array_equal(score.rho, rho[0])
