"""One of two processes that train networks together on the CPU, and score them: python two_ranks.py RANK FOLDER.

FOLDER has a study. What the process found is written there as JSON, by the names of the functions below.
"""

import json
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    FullyShardedDataParallel,
    MixedPrecision,
    ShardingStrategy,
    fully_shard,
)
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from fastrdm import Preprocessing, Scorer
from fastrdm.live import distributed as ranks_module
from fastrdm.live import gathering as gathering_module
from fastrdm.live.gathering import Gathering

RANK, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
SIZE, TAPS = 12, ["stem", "blocks.0", "blocks.1.conv", "head"]


class Block(nn.Module):
    def __init__(self, width, norm):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = norm(width)
        self.scale = 1.0

    def forward(self, x):
        return x + self.scale * torch.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    """With batch norms, dropout, tied weights, a block in an attribute, and a hook of the user's."""

    def __init__(self, norm):
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 3, stride=2)
        self.blocks = nn.Sequential(Block(7, norm), Block(7, norm))
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(7, 5)
        self.tied = nn.Linear(7, 5)
        self.tied.weight = self.head.weight
        self.unregistered = [self.blocks[1]]
        self.register_buffer("offset", torch.full((7, 1, 1), 0.1))
        self.register_buffer("factor", torch.full((7, 1, 1), 0.5), persistent=False)
        self.seen = None
        self.stem.register_forward_hook(lambda part, args, output: 2 * output)

    def forward(self, x):
        x = self.blocks[0](self.stem(x)) * self.factor + self.offset
        x = self.unregistered[0](x)
        self.seen = x * 1
        x = self.drop(x.mean((2, 3)))
        return self.head(x) + self.tied(x)


def network(norm=nn.BatchNorm2d):
    torch.manual_seed(0)
    return Net(norm)


def batch(step, rank=RANK):
    return torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(10 * step + rank))


def train(module, optimiser, step):
    torch.manual_seed(step)
    optimiser.zero_grad()
    module(batch(step)).square().sum().backward()
    optimiser.step()


def scorer(**options):
    return Scorer(
        FOLDER / "study",
        **{"taps": TAPS, "preprocessing": Preprocessing((SIZE, SIZE)), **options},
    )


def fingerprint(module):
    """This process' part of the weights, and gradients."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    tensors = [*module.parameters(), *module.buffers()]
    tensors += [p.grad for p in module.parameters() if p.grad is not None]
    local = (t.to_local() if hasattr(t, "to_local") else t for t in tensors)
    return [t.detach().double().sum().item() for t in local]


def trained(wrap, whole, between=None, compiled=False, norm=nn.BatchNorm2d):
    """Scores at two steps through one Gathering, those of the saved weights, and whether training is the same."""
    score, gathering = scorer(), Gathering()
    places, scores, expected = set(), [], []

    def compute(plain):
        places.add(id(plain))

    prints = []
    for is_scored in (True, False):
        module = wrap(network(norm))
        optimiser = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
        for step in range(2):
            train(module, optimiser, step)
            if between is not None:
                between(module)
            if is_scored:
                state = torch.get_rng_state()
                passed = torch.compile(module) if compiled else module
                scores.append(score(passed))
                gathering.once(passed, compute)
                assert torch.equal(state, torch.get_rng_state())
                saved = network(norm)
                saved.load_state_dict(whole(module))
                expected.append(score(saved.eval()))
        prints.append(fingerprint(module))
    return {
        "scores": scores,
        "expected": expected,
        "places": len(places),
        "same": prints[0] == prints[1],
    }


def ddp():
    # The buffers of the two processes differ after a step.
    first = {}

    def whole(module):
        state = module.module.state_dict()
        first["rank"] = state["blocks.0.norm.running_mean"].tolist()
        box = [state]
        dist.broadcast_object_list(box, 0)
        return box[0]

    return trained(DistributedDataParallel, whole, compiled=True) | {"buffers": first["rank"]}


def whole_state(module):
    return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True))


def flat(use_orig_params, norm=nn.BatchNorm2d, **options):
    options["device_id"] = torch.device("cpu")

    def wrap(net):
        net.blocks[0] = FullyShardedDataParallel(
            net.blocks[0], use_orig_params=use_orig_params, **options
        )
        net.blocks[1] = FullyShardedDataParallel(
            checkpoint_wrapper(net.blocks[1]), use_orig_params=use_orig_params, **options
        )
        net.unregistered = [net.blocks[1]]
        return FullyShardedDataParallel(net, use_orig_params=use_orig_params, **options)

    return trained(wrap, whole_state, norm=norm)


def fsdp1():
    return flat(True)


def fsdp1_flat_parameters():
    return flat(False)


def fsdp1_rounded():
    low = torch.bfloat16
    return flat(True, nn.Identity, mixed_precision=MixedPrecision(low, buffer_dtype=low))


def fsdp2():
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7):
        return None

    def wrap(net):
        for block in net.blocks:
            fully_shard(block)
        return fully_shard(net)

    def validate(module):
        # Afterwards the weights of the outermost module are whole.
        with torch.no_grad():
            module.eval()
            module(batch(99))
            module.train()

    return trained(wrap, whole_state, validate)


def out_of_memory(*args):
    raise torch.OutOfMemoryError("CUDA out of memory")


def errors():
    """What is raised if the first process cannot compute, return, gather or copy; then a result."""
    module = DistributedDataParallel(network())
    gathering, found = Gathering(), []

    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    def interrupted(plain):
        raise KeyboardInterrupt

    def wrong(plain):
        raise MemoryError(
            "cuda:0 has too little memory for Net; pass max_memory or a smaller batch_size"
        )

    def odd(plain):
        raise Odd("one", "two")

    for compute in (wrong, odd, lambda plain: lambda: 0, interrupted, lambda plain: "fine"):
        try:
            found.append(gathering.once(module, compute))
        except BaseException as error:
            found.append(f"{type(error).__name__}: {error}")
    sharded = fully_shard(network())
    try:
        gathering.once(sharded, lambda plain: 0, device="cuda:77")
    except ValueError as error:
        found.append(str(error))
    sharded.lock = threading.Lock()
    try:
        gathering.once(sharded, lambda plain: 0)
    except ValueError as error:
        found.append(str(error))
    del sharded.lock
    if RANK == 0:
        placed, gathering_module._placed = gathering_module._placed, out_of_memory
    try:
        gathering.once(sharded, lambda plain: 0)
    except MemoryError as error:
        found.append(str(error))
    if RANK == 0:
        gathering_module._placed = placed
    return [*found, gathering.once(sharded, lambda plain: type(plain).__name__)]


def late():
    """The second process does not call the scorer in time."""
    module = DistributedDataParallel(network())
    found = "not called"
    if RANK == 0:
        ranks_module._LATE = ranks_module._READ = 0.05
        try:
            Gathering().once(module, lambda plain: 1)
        except TimeoutError as error:
            found = str(error)
        ranks_module._LATE, ranks_module._READ = 600.0, 10.0
    dist.barrier()
    if RANK == 1:
        try:
            Gathering().once(module, lambda plain: 1)
        except TimeoutError as error:
            found = str(error)
    return [found, Gathering().once(module, lambda plain: 2)]


def later():
    """Futures of the first process: two results, of which the first is late, an error, and the end of waiting."""
    module, gathering = fully_shard(network()), Gathering()
    released, found = threading.Event(), []

    def job(value):
        released.wait()
        if value is None:
            raise ValueError("no value")
        return value

    with ThreadPoolExecutor(1) as pool:

        def submit(value):
            return gathering.later(module, lambda plain: pool.submit(job, value))

        futures = [submit(1), submit(2), submit(None)]
        found.append([future.done() for future in futures])
        try:
            futures[0].result(0.05)
        except TimeoutError as error:
            found.append(type(error).__name__)
        dist.barrier()
        released.set()
        found.append([futures[1].result(), futures[0].result(60)])
        found.append(str(futures[2].exception()))
        found.append([future.done() for future in futures])
    dist.barrier()
    gathering_module._clear(gathering._sent)
    return [*found, len(gathering._sent)]


def asynchronous():
    """Scores of a copy, also after the weights have changed, and an error."""
    module = fully_shard(network())
    expected = scorer()(module)
    with scorer(mode="async") as score, torch.no_grad():
        first = score(module, "first")
        for value in module.parameters():
            value.mul_(2)
        waited = [each.label for each in score.wait()]
        second = score(module)
        module.stem.weight.fill_(torch.nan)
        broken = score(module)
        found = [first.result() == expected, waited, second.result() == scorer()(network())]
        return [*found, str(broken.exception())]


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.other = network(), nn.Linear(2, 2)

    def forward(self, x):
        return self.net(x)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.up, self.down = nn.Conv2d(3, 6, 3), nn.Linear(6, 16), nn.Linear(16, 8)

    def forward(self, x):
        return self.down(torch.relu(self.up(self.stem(x).mean((2, 3)))))


class DeepSpeedEngine(nn.Module):
    """Wraps a network under the name that DeepSpeed uses."""

    __module__ = "deepspeed.runtime.engine"

    def __init__(self):
        super().__init__()
        self.module = network()


def others():
    """Whether scores are those of the plain network: parts, compiled modules, tensor parallelism."""
    expected, cpu = scorer()(network()), torch.device("cpu")
    whole = FullyShardedDataParallel(
        network(), sharding_strategy=ShardingStrategy.NO_SHARD, device_id=cpu
    )
    compiled = network()
    compiled.compile()
    compiled.blocks[0] = torch.compile(compiled.blocks[0])
    found = {
        "part of fsdp1": scorer(network="net")(FullyShardedDataParallel(Holder(), device_id=cpu)),
        "part of fsdp2": scorer(network="net")(fully_shard(Holder())),
        "fsdp1, not sharded": scorer()(whole),
        "fsdp2, compiled": scorer()(fully_shard(compiled)),
        "deepspeed": scorer()(DeepSpeedEngine()),
    }
    found = {name: scores == expected for name, scores in found.items()}
    torch.manual_seed(0)
    plain, score = Mlp(), scorer(taps=["stem", "up", "down"])
    expected = score(plain)
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    parallel = parallelize_module(plain, init_device_mesh("cpu", (2,)), plan)
    return found | {"tensor parallel": score(parallel) == expected}


def groups():
    """A network that the second process trains alone, and one of a group that the first is not in."""
    alone = dist.new_group([1])
    if RANK == 0:
        return None
    module = DistributedDataParallel(network(), process_group=alone)
    return Gathering().once(module, lambda plain: dist.get_rank())


def ended():
    """A network whose process group has ended."""
    module = DistributedDataParallel(network())
    dist.destroy_process_group()
    try:
        Gathering().once(module, lambda plain: 0)
    except ValueError as error:
        return str(error)


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{FOLDER}/store", rank=RANK, world_size=2)
    parts = [
        ddp,
        fsdp1,
        fsdp1_flat_parameters,
        fsdp1_rounded,
        fsdp2,
        errors,
        late,
        later,
        asynchronous,
        others,
        groups,
        ended,
    ]
    found = {}
    for part in parts:
        found[part.__name__] = part()
        (FOLDER / f"rank{RANK}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        main()
