"""Scores of live modules: keys, arguments, and equality with the scores of their saved files."""

import numpy as np
import pytest
import torch
from small_live import PREPARED, build
from small_study import write_study

from fastrdm import Scorer, TorchModel, open_studies


@pytest.fixture
def module():
    return build()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("live") / "small", regions=("evc", "it"))


def test_scores_are_percent_of_the_ceiling_by_study_region_and_layer(study, module):
    scorer = Scorer(study, preprocessing=PREPARED)
    scores = scorer(module)
    (opened,) = open_studies(study)
    rdms = TorchModel(module, preprocessing=PREPARED).rdms(list(opened.stimuli))
    for region, target in opened.targets.items():
        expected = target.score(np.stack(list(rdms.values()))).percent_nc
        places = [f"brain/small/{region}/{layer}" for layer in rdms]
        np.testing.assert_allclose([scores[place] for place in places], expected, rtol=1e-6)
        assert scores[f"brain/small/{region}/best"] == max(scores[place] for place in places)
    assert len(scores) == 2 * (len(rdms) + 1)
    assert all(type(value) is float for value in scores.values())


def test_a_region_can_be_scored_by_its_layer_alone(study, module):
    scores = Scorer(study, {"IT": "conv2"}, preprocessing=PREPARED)(module)
    assert list(scores) == ["brain/small/it/conv2", "brain/small/it/best"]


def test_calls_in_mode_async_return_the_scores_later_in_their_order(study, module):
    expected = []
    with (
        Scorer(study, preprocessing=PREPARED) as scorer,
        Scorer(study, preprocessing=PREPARED, mode="async") as later,
    ):
        for step in range(4):
            with torch.no_grad():
                module.conv2.weight.normal_()
            expected.append(scorer(module))
            later(module, step)
        pending = later.wait()
        assert [each.label for each in pending] == [0, 1, 2, 3]
        assert [each.result() for each in pending] == expected
