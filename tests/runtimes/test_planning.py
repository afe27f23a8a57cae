import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrdm.runtimes import Workspace
from fastrdm.runtimes.planning import BatchNeeds, ChannelRange

widths = st.lists(st.integers(1, 50), min_size=1, max_size=6).map(
    lambda sizes: {f"layer{i}": size for i, size in enumerate(sizes)}
)


def columns(parts):
    return sum(part.end - part.begin for part in parts)


def test_without_a_limit_there_is_one_pass():
    need = BatchNeeds({"a": 5, "b": 7}, 10, 100)
    assert need.plan(32, None).passes == ((ChannelRange("a", 0, 5), ChannelRange("b", 0, 7)),)
    assert need.plan(32, None).batch_size == 32


def test_smaller_batches_come_before_more_passes():
    need = BatchNeeds({"a": 5, "b": 7}, 10, 100)
    assert need.plan(32, 32 * 2 * 100 + 480).batch_size == 32
    tighter = need.plan(32, 3 * 2 * 100 + 480)
    assert (tighter.batch_size, len(tighter.passes)) == (2, 1)


def test_a_fixed_batch_is_kept():
    need = BatchNeeds({"a": 5, "b": 7}, 10, 100)
    assert need.plan(4, 4 * 2 * 100 + 480, fixed=True).batch_size == 4
    tighter = need.plan(4, 3 * 2 * 100 + 480, fixed=True)
    assert (tighter.batch_size, len(tighter.passes)) == (4, 6)
    with pytest.raises(ValueError, match="too small"):
        need.plan(4, 900, fixed=True)


def test_layers_are_split_at_the_limit():
    need = BatchNeeds({"a": 5, "b": 7, "c": 2}, 10, 1)
    # One image takes 2 bytes and its outputs 56; a column 40.
    split = need.plan(1, 58 + 6 * 40)
    assert split.passes == (
        (ChannelRange("a", 0, 5), ChannelRange("b", 0, 1)),
        (ChannelRange("b", 1, 7),),
        (ChannelRange("c", 0, 2),),
    )


def test_ranked_layers_are_not_split():
    need = BatchNeeds({"a": 5, "b": 7, "c": 2}, 10, 1, copied=True)
    # There is also room for the ranks of the widest.
    whole = need.plan(1, 58 + 7 * 40 + 8 * 40)
    assert whole.passes == (
        (ChannelRange("a", 0, 5),),
        (ChannelRange("b", 0, 7),),
        (ChannelRange("c", 0, 2),),
    )


@given(widths, st.integers(2, 20), st.integers(0, 500), st.integers(1, 9), st.booleans(), st.data())
def test_passes_keep_every_channel_once_within_the_limit(
    widths, n, image_bytes, batch_size, copied, data
):
    need = BatchNeeds(widths, n, image_bytes, copied)
    bound = data.draw(st.integers(1, need.batch_bytes(batch_size) + need.total_bytes + 100))
    try:
        chosen = need.plan(batch_size, bound)
    except ValueError as error:
        enough = int(str(error).split("; ")[1].split()[0])
        assert bound < enough
        chosen = need.plan(batch_size, enough)
        bound = enough
    assert 1 <= chosen.batch_size <= batch_size
    kept = [part for parts in chosen.passes for part in parts]
    for layer, width in widths.items():
        ranges = [part for part in kept if part.layer == layer]
        assert [part.begin for part in ranges] == [0, *(part.end for part in ranges[:-1])]
        assert ranges[-1].end == width
        assert not copied or len(ranges) == 1
    several = len(chosen.passes) > 1
    working = need.batch_bytes(chosen.batch_size, list(widths) if several else ())
    for parts in chosen.passes:
        assert parts
        assert working + need.column_bytes * columns(parts) <= bound


def test_the_error_of_a_small_limit_gives_a_sufficient_one():
    need = BatchNeeds({"a": 1000, "b": 7}, 10, 100)
    with pytest.raises(
        ValueError, match=r"300 bytes is too small for 10 conditions of 2 layers.*1000 channels"
    ):
        need.plan(4, 300)


def test_a_workspace_reuses_its_memory():
    workspace = Workspace()
    with workspace.arrays([(3, 4), (3, 5)]) as first:
        assert [a.shape for a in first] == [(3, 4), (3, 5)]
        first[0][:], first[1][:] = 1, 2
        assert (first[0] == 1).all()
    with workspace.arrays([(2, 2)]) as second:
        assert np.shares_memory(first[0], second[0])


def test_concurrent_calls_do_not_share_memory():
    workspace, inside, done = Workspace(), threading.Event(), threading.Event()
    others = []

    def other():
        with workspace.arrays([(2, 2)]) as arrays:
            others.extend(arrays)
            inside.set()
            done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    with workspace.arrays([(4, 4)]) as mine:
        assert not np.shares_memory(mine[0], others[0])
    done.set()
    thread.join()
