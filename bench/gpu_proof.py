"""What fastrdm does on a GPU: python -m bench.gpu_proof --device cuda --out DIR [--images DIR] [--zip ZIP].

Eight minutes at most: sections run one after the other, each within its own limit, and what they find is written to
DIR/proof.json and DIR/proof.md after each row. Needs torch, torchvision, numpy, scipy, numba, onnx, onnxruntime, h5py,
pillow, rich and safetensors; installs nothing and uses no network. `--device cpu --quick` is a rehearsal.
"""

import argparse
import faulthandler
import gc
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

if __name__ == "__main__":
    # In a checkout, its source folder would hide the installed package with the compiled kernels.
    sys.path.append(sys.path.pop(0))

from bench.proof.conditions import conditions
from bench.proof.environment import environment
from bench.proof.goals import goals
from bench.proof.limits import OutOfTime, time_limit
from bench.proof.onnx_device import onnx_device
from bench.proof.parity import parity
from bench.proof.rates import rates
from bench.proof.record import Record, failure
from bench.proof.setting import QUICK, Amounts, Setting, studies_in
from bench.proof.sweeps import sweeps
from bench.proof.tensors import tensors
from bench.proof.training import training

TOTAL_S = 480.0
# After the limit of all sections, for a device that does not respond.
_GRACE_S = 60.0
# Limits of sections are longer by this factor in a rehearsal on a CPU; the total is the same.
_CPU_PATIENCE = 3


class Section(NamedTuple):
    """A part of the proof: what it measures, its limit, its heading, and what its rows are."""

    rows: Callable[[Setting], Iterator[dict[str, Any]]]
    limit_s: float
    title: str
    text: str = ""


SECTIONS: Mapping[str, Section] = {
    "environment": Section(environment, 10, "Environment"),
    "parity": Section(
        parity,
        75,
        "Every network of the study against float64 on the CPU",
        "Random weights, batch norms with statistics of the stimuli. Activations: length of the difference relative to"
        " that of the activations, largest over layers. RDMs: largest difference of 1 − r over layers and pairs.",
    ),
    "rates": Section(
        rates,
        110,
        "Checkpoints a second",
        "ResNet-20, 11 layers, both sets: weights folded in another thread, copied, run, RDMs on the host; `with"
        " scores` also scored there; `start` is the time to the first RDMs. Differences are the largest from float64;"
        " those of scores are in percentage points of the noise ceiling. `busy share` is the share of the time in which"
        " the device computes.",
    ),
    "sweep": Section(
        sweeps,
        25,
        "Checkpoints a second from their files",
        "ResNet-20, 11 layers, both sets, by `fastrdm sweep --provider torch`: files in the page cache are read, hashed"
        " and folded in threads, run, scored, and written to the store.",
    ),
    "conditions": Section(
        conditions,
        75,
        "Many conditions",
        "ResNet-20, 11 layers, RDMs on the host; `difference from few` compares with the RDM of the first conditions"
        " alone.",
    ),
    "tensors": Section(
        tensors,
        15,
        "Functions on tensors of the device",
        "Differences are from float64 on the host, relative to the largest value; `share` is the time of the product"
        " in float32 relative to that of the call.",
    ),
    "onnx": Section(
        onnx_device,
        30,
        "Checkpoints a second by ONNX Runtime",
        "As above, by `fastrdm.runtimes.DeviceModel`; the graph is written by the onnx package alone.",
    ),
    "training": Section(
        training,
        TOTAL_S,
        "Training, scores and submissions",
        "ResNet-20 by `models.train --score`; scores of the best layer in percent of the noise ceiling. Files are"
        " beside this one.",
    ),
}


def prove(
    setting: Setting, names: Sequence[str], sections: Mapping[str, Section], end: float
) -> int:
    """Run sections until `end` (`time.monotonic`), and write what they find; return the exit status."""
    record, failed = Record(setting.out, "What fastrdm does on this device"), False
    for name in names:
        section = sections[name]
        record.begin(name, section.title, section.text)
        patience = 1 if setting.device.type == "cuda" else _CPU_PATIENCE
        limit = min(patience * section.limit_s, end - time.monotonic())
        try:
            if limit <= 0:
                raise OutOfTime
            with time_limit(limit):
                within = replace(setting, deadline=time.monotonic() + limit)
                for row in section.rows(within):
                    print(name, row, flush=True)
                    record.add(name, row)
                    failed |= "error" in row
                    if within.left() < 0:
                        raise OutOfTime
        except OutOfTime:
            record.add(name, {"stopped": f"at the limit of {max(limit, 0.0):.3g} s"})
        except Exception as error:
            record.add(name, failure(error))
            failed = True
        _free(setting.device)
    if setting.device.type != "cpu" and "rates" in names:
        record.begin("goals", "Goals", "")
        for row in goals(record.rows()):
            print("goals", row, flush=True)
            record.add("goals", row)
    return int(failed)


def _free(device: torch.device) -> None:
    """Return the memory of a section to the device, for other processes and libraries."""
    gc.collect()
    if device.type == "cuda":
        # Fails after some errors of a GPU, which no later call of the process survives; training is another process.
        try:
            torch.cuda.empty_cache()
        except RuntimeError:
            traceback.print_exc()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if anything failed."""
    end = time.monotonic() + TOTAL_S
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_proof", description=__doc__)
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for what is found")
    add("--images", type=Path, metavar="DIR", help="the challenge's folder (default: drawn images)")
    add("--zip", type=Path, help="images to train on, as for models.train (default: drawn images)")
    add("--quick", action="store_true", help="small amounts, for a rehearsal")
    add("--sections", default=",".join(SECTIONS), help="some of %(default)s")
    options = parser.parse_args(argv)
    names = options.sections.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --device cpu --quick is a rehearsal")
    if options.zip is not None and not options.zip.exists():
        parser.error(f"{options.zip} does not exist")
    faulthandler.dump_traceback_later(TOTAL_S + _GRACE_S, exit=True, file=sys.__stderr__)
    with tempfile.TemporaryDirectory() as folder:
        try:
            data, studies = studies_in(options.images, Path(folder))
        except (ValueError, OSError) as error:
            parser.error(str(error))
        amounts = QUICK if options.quick else Amounts()
        device = torch.device(options.device)
        setting = Setting(device, options.out, data, studies, amounts, options.zip)
        status = prove(setting, names, SECTIONS, end)
    faulthandler.cancel_dump_traceback_later()
    print(f"wrote {options.out / 'proof.md'}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
