"""`TorchModel` in several threads: the numbers of one thread, and modes, hooks and streams as before."""

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_torch import IMAGES, model_of, small

SETS = (IMAGES[:5], IMAGES[4:], IMAGES[2:8])


def in_threads(calls):
    """Results of functions that start together, each in its own thread."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return [call() for _ in range(8)]

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize("options", [{}, {"channels_last": True}])
@pytest.mark.parametrize("shared", [True, False], ids=["one model", "one module"])
def test_threads_get_the_results_of_one_thread(options, shared):
    module = small().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = model_of(module, **options)
    models = [model if shared else model_of(module, **options) for _ in SETS]
    expected = [(model.rdms(images), model.activations(images)) for images in SETS]
    output, random = sys.stdout, torch.get_rng_state()
    results = in_threads(
        [
            lambda model=model, images=images: (model.rdms(images), model.activations(images))
            for model, images in zip(models, SETS, strict=True)
        ]
    )
    for of_thread, wanted in zip(results, expected, strict=True):
        for got in of_thread:
            for values, others in zip(got, wanted, strict=True):
                for layer in others:
                    np.testing.assert_array_equal(values[layer], others[layer])
    assert sys.stdout is output
    assert torch.equal(torch.get_rng_state(), random)
    assert all(part.training and not part._forward_hooks for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_models_can_be_made_and_weights_folded_in_threads():
    module = small()
    model = model_of(module)
    expected = model.rdms(IMAGES)
    made, _, rdms = in_threads(
        [
            lambda: model_of(module).rdms(IMAGES),
            lambda: model.fold(module.state_dict()),
            lambda: model.rdms(IMAGES),
        ]
    )
    for got in (*made, *rdms):
        for layer, values in expected.items():
            np.testing.assert_array_equal(got[layer], values)
    assert all(not part._forward_hooks for part in model._session.module.modules())


def test_threads_leave_the_filters_of_warnings():
    models = [model_of(small()), model_of(small())]
    filters, show = list(warnings.filters), warnings._showwarnmsg_impl

    def score(model):
        for _ in range(30):
            model.rdms(IMAGES)

    thread = threading.Thread(target=score, args=(models[0],))
    thread.start()
    score(models[1])
    thread.join()
    assert warnings.filters == filters
    assert warnings._showwarnmsg_impl is show
