import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.training.batches import Batches

CPU = torch.device("cpu")
N = 23


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (N, 3, 4, 4), np.uint8), rng.integers(0, 5, N)


@pytest.mark.parametrize("where", ["host", "device"])
@given(order=st.lists(st.integers(0, N - 1), max_size=40), size=st.integers(1, 30))
def test_batches_have_the_requested_order(images, where, order, size):
    pixels, labels = images
    batches = Batches(pixels, labels, CPU, where)
    assert batches.resident == (where == "device") and len(batches) == N
    order = np.array(order, np.int64)
    served = list(batches.iterate(order, size))
    assert [len(rows) for rows, _ in served] == [
        min(size, len(order) - i) for i in range(0, len(order), size)
    ]
    for i, (rows, own) in enumerate(served):
        part = order[i * size : (i + 1) * size]
        assert rows.dtype == torch.uint8 and own.dtype == torch.int64
        np.testing.assert_array_equal(rows.numpy(), pixels[part])
        np.testing.assert_array_equal(own.numpy(), labels[part])


def test_a_mapped_file_works_like_an_array(images, tmp_path):
    pixels, labels = images
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    for where in ("host", "device"):
        (batch,) = Batches(mapped, labels, CPU, where).iterate(np.arange(N), N)
        np.testing.assert_array_equal(batch[0].numpy(), pixels)


def test_auto_does_not_copy_images_on_the_cpu(images):
    assert not Batches(*images, CPU).resident


@pytest.mark.parametrize(("free", "resident"), [(2 * N * 48, True), (2 * N * 48 - 1, False)])
def test_auto_copies_images_to_a_gpu_with_twice_as_much_free_memory(
    images, monkeypatch, free, resident
):
    from models.training import batches

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    assert batches._fits(images[0].nbytes, torch.device("cuda")) == resident


def test_readers_stop_when_iteration_ends_early(images):
    served = Batches(*images, CPU, "host").iterate(np.zeros(1000, np.int64), 1)
    next(served)
    served.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_a_read_error_is_raised(images, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("the disk is gone")

    batches = Batches(*images, CPU, "host")
    monkeypatch.setattr(np, "take", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        list(batches.iterate(np.arange(3), 1))


def test_wrong_arguments_are_named(images):
    pixels, labels = images
    with pytest.raises(ValueError, match="where 'moon' is not one of: auto, device, host"):
        Batches(pixels, labels, CPU, "moon")
    with pytest.raises(ValueError, match="23 images and 22 labels"):
        Batches(pixels, labels[:-1], CPU)
