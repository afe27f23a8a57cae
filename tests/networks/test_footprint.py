import itertools

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fastrdm.networks import bytes_per_image
from fastrdm.networks.footprint import most_alive


def chain(value_info):
    """images → relu → conv to twice the channels → relu → mean."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, (6, 3, 1, 1), np.zeros(18, np.float32))
    nodes = [
        helper.make_node("Relu", ["images"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["d"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("images", TensorProto.FLOAT, ("batch", 3, 4, 4))],
        [value("d", TensorProto.FLOAT, (1, 1, 1, 1))],
        [weights],
    )
    model = helper.make_model(graph)
    return onnx.shape_inference.infer_shapes(model) if value_info else model


def test_peak_memory_of_a_graph():
    # b and c, 6 × 4 × 4 floats each.
    for value_info in (True, False):
        assert bytes_per_image(chain(value_info), []) == 2 * 6 * 16 * 4
    assert bytes_per_image(chain(True), ["c"]) == (3 + 6) * 16 * 4


def test_values_that_are_used_later_stay_alive():
    steps = [(["x"], ["a"]), (["a"], ["b"]), (["b"], ["c"]), (["c", "a"], ["d"])]
    sizes = {"a": 10, "b": 1, "c": 2, "d": 4}
    assert most_alive(steps, sizes) == 10 + 2 + 4


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_a_chain_holds_two_neighbours(sizes):
    names = [str(i) for i in range(len(sizes))]
    steps = [([names[i - 1]] if i else [], [names[i]]) for i in range(len(sizes))]
    pairs = itertools.pairwise(sizes)
    assert most_alive(steps, dict(zip(names, sizes, strict=True))) == max(
        sizes[0], *(a + b for a, b in pairs), 0
    )
