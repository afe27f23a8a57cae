"""Modules and arguments that `TorchModel` refuses, each in one sentence."""

import warnings

import pytest
import torch
from small_torch import IMAGES, PREPARED, SIZE, model_of, small
from torch import nn

from fastrdm import Preprocessing, TorchModel, export_onnx


@pytest.mark.parametrize("kind", ["all", "part", "trace"])
def test_torchscript_is_refused(kind, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = {
            "all": lambda: torch.jit.script(small().eval()),
            "part": lambda: nn.Sequential(torch.jit.script(small().eval())),
            "trace": lambda: torch.jit.trace(small().eval(), torch.zeros(2, 3, SIZE, SIZE)),
        }[kind]()
    message = "'0' of Sequential" if kind == "part" else type(compiled).__name__
    for options in ({}, {"channels_last": True}):
        with pytest.raises(ValueError, match=f"^{message} is a TorchScript module"):
            TorchModel(compiled, preprocessing=PREPARED, **options)
    with pytest.raises(ValueError, match=f"^{message} is a TorchScript module"):
        export_onnx(compiled, tmp_path / "net.onnx", preprocessing=PREPARED)


def test_parameters_and_devices_without_values_are_refused():
    lazy = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(ValueError, match=r"^Sequential has parameters without values \(0.weight,"):
        TorchModel(lazy, preprocessing=PREPARED)
    assert isinstance(lazy[0], nn.LazyConv2d)
    with pytest.raises(ValueError, match="^device 'meta' is not available"):
        model_of(small(), device="meta")


def test_stimuli_of_another_model_and_weights_of_another_kind_are_refused():
    model = model_of(small())
    larger = TorchModel(small(), ["0"], preprocessing=Preprocessing((40, 40)))
    shown = larger.show(larger.preprocessing.pixels(IMAGES))
    with pytest.raises(ValueError, match=r"the stimuli have \(40, 40\) pixels on cpu, but"):
        model.start(shown)
    with pytest.raises(TypeError, match="stimuli must come from TorchModel.show, not ndarray"):
        model.start(PREPARED.pixels(IMAGES))
    with pytest.raises(ValueError, match="sets is empty"):
        model.start_sets([])
    with pytest.raises(TypeError, match="weights must be a state dict, not Sequential"):
        model.load(small())


def test_layers_may_be_an_iterator():
    assert list(model_of(small()).rdms(IMAGES, layers=iter(["3", "0"]))) == ["3", "0"]


class Cropping(nn.Module):
    """Has a layer whose shape depends on the number of images."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.inner(images[:, :, : 20 if len(images) < 5 else 24])


@pytest.mark.parametrize("where", ["host", "device"])
def test_a_shape_that_depends_on_the_number_of_images_is_refused(where):
    model = model_of(Cropping(), ["inner"])
    message = r"'inner' of Cropping has shape \(9, 4, 22, 30\) for 9 images, not \(9, 4, 18, 30\)"
    with pytest.raises(ValueError, match=message):
        model.rdms(IMAGES, where=where)
    with pytest.raises(ValueError, match=message):
        model.activations(IMAGES)


@pytest.mark.parametrize("options", [{}, {"channels_last": True}])
@pytest.mark.parametrize(
    "change",
    [lambda buffer: buffer.resize_(4).fill_(1), lambda buffer: setattr(buffer, "data", buffer + 1)],
    ids=["shape", "memory"],
)
def test_buffers_that_get_another_shape_or_memory_are_put_back(change, options):
    class Observing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(3, 4, 3)
            self.register_buffer("lowest", torch.ones(2))

        def forward(self, images):
            change(self.lowest)
            return self.inner(images)

    module = Observing()
    with pytest.raises(ValueError, match=r"changes its buffers in evaluation mode \(lowest\)"):
        model_of(module, ["inner"], **options)
    assert torch.equal(module.lowest, torch.ones(2))
