"""Networks that two processes train, scored by one of them: `two_ranks.py` says what is done."""

from pathlib import Path

import pytest
import torch
from small_study import write_study
from torch import nn
from two_processes import results_of_ranks

from fastrdm.live import distributed
from fastrdm.live.distributed import Ranks
from fastrdm.live.gathering import Gathering

SCRIPT = Path(__file__).with_name("two_ranks.py")
WRAPPED = ["ddp", "fsdp1", "fsdp1_flat_parameters", "fsdp1_rounded", "fsdp2"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    write_study(folder / "study")
    return results_of_ranks(SCRIPT, folder, folder, timeout=240)


@pytest.fixture(params=WRAPPED)
def trained(found, request):
    """What both processes found for one wrapper."""
    if found[0][request.param] is None:
        pytest.skip("fully_shard of this torch does not run on the CPU")
    return [each[request.param] for each in found]


def test_all_processes_have_the_scores_of_the_saved_weights(trained):
    first, second = trained
    assert first["scores"] == second["scores"] == first["expected"]
    assert len(first["scores"]) == 2 and first["scores"][0] != first["scores"][1]
    assert first["scores"][0].keys() == {
        f"brain/study/it/{x}" for x in ("stem", "blocks.0", "blocks.1.conv", "head", "best")
    }


def test_the_first_process_alone_computes_always_with_the_same_object(trained):
    assert [each["places"] for each in trained] == [1, 0]


def test_training_ends_with_the_same_bits_as_without_scores(trained):
    assert all(each["same"] for each in trained)


def test_buffers_are_those_of_the_first_process(found):
    assert found[0]["ddp"]["buffers"] != found[1]["ddp"]["buffers"]


def test_errors_of_the_first_process_reach_all_and_the_next_call_works(found):
    first, second = (each["errors"] for each in found)
    memory = (
        "MemoryError: cuda:0 has too little memory for Net; pass max_memory or a smaller batch_size"
    )
    assert first[0] == second[0] == memory
    assert (first[1], second[1]) == ("Odd: one", "RuntimeError: unexpected Odd: one")
    assert "pickle" in first[2] and first[2] == second[2]
    assert first[3].startswith("KeyboardInterrupt")
    assert second[3] == "RuntimeError: the first process was interrupted (KeyboardInterrupt)"
    assert first[4] == second[4] == "fine"


def test_errors_of_gathering_reach_all(found):
    device, attribute, memory, name = found[0]["errors"][5:]
    assert device.startswith("device 'cuda:77' is not available")
    assert attribute.startswith("the attribute 'lock' of Net cannot be copied (cannot pickle")
    assert memory == "cpu has too little memory for the whole weights of Net"
    assert name == "Net"
    assert found[1]["errors"][5:] == [device, attribute, memory, name]


def test_a_call_in_one_process_alone_ends_with_an_error(found):
    for sentence, later in (each["late"] for each in found):
        assert sentence.startswith("not all of 2 processes called the scorer within 0 s")
        assert sentence.endswith("pass the module inside the wrapper to score in one process")
        assert later == 2


def test_futures_of_the_first_process_are_those_of_all(found):
    for each in found:
        assert each["later"] == [[False] * 3, "TimeoutError", [2, 1], "no value", [True] * 3, 0]


def test_scores_of_a_copy_reach_all(found):
    first, second = (each["asynchronous"] for each in found)
    assert first == second
    assert first[:3] == [True, ["first"], False]
    assert "NaN" in first[3] and "stem" in first[3]


def test_parts_and_other_wrappers_have_the_scores_of_the_plain_network(found):
    for each in found:
        assert len(each["others"]) == 6
        assert all(each["others"].values()), each["others"]


def test_the_first_process_of_a_smaller_group_computes(found):
    assert [each["groups"] for each in found] == [None, 1]


def test_a_wrapper_without_process_group_is_refused(found):
    for each in found:
        assert each["ended"] == (
            "Net is trained by DistributedDataParallel, but torch.distributed has no process group for it; call"
            " init_process_group first, or pass the module inside the wrapper"
        )


def test_a_module_in_this_process_alone_is_passed_as_it_is():
    module = nn.DataParallel(nn.Linear(2, 2))
    assert Gathering().once(module, lambda given: given) is module


def test_weights_divided_by_deepspeed_are_refused():
    module = nn.Linear(2, 2)
    module.weight.ds_id = 0
    with pytest.raises(ValueError, match="ZeRO stage 3 divides the weights of Linear"):
        Gathering().once(module, lambda given: given)


def test_an_engine_of_deepspeed_needs_a_process_group():
    class DeepSpeedEngine(nn.Module):
        __module__ = "deepspeed.runtime.engine"

        def __init__(self, module):
            super().__init__()
            self.module = module

    with pytest.raises(ValueError, match="Linear is trained by DeepSpeed, but torch.distributed"):
        Gathering().once(DeepSpeedEngine(nn.Linear(2, 2)), lambda given: given)


def test_weights_without_values_are_refused():
    with pytest.raises(ValueError, match="Linear has weights on the meta device"):
        Gathering().once(nn.Linear(2, 2, device="meta"), lambda given: given)


def test_a_first_process_that_has_ended_is_an_error(monkeypatch):
    class Lost:
        def add(self, key, amount):
            return 1

        def check(self, keys):
            raise torch.distributed.DistNetworkError("connection reset")

    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: Lost())
    with pytest.raises(ConnectionError, match="the process of rank 0 ended before"):
        Ranks((0, 1), 1).share(lambda: 0)


def test_the_processes_of_a_plain_module_are_none():
    assert distributed.ranks_of(nn.Linear(2, 2)) is None
