"""A synthetic study to try fastrdm: drawn stimuli, simulated subjects, and a known answer.

Each region's subjects have the geometry of one known layer of a small network, plus noise. The noise ceilings of their
RDMs equal those published for the Algonauts 2019 challenge's 92 images; or, if responses are asked for, their units are
random sums of the layer's channels. Scoring that network finds the known layers best.
"""

import argparse
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastrdm._base import require
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import complain, echo_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Region → layer of the sample's network from which its subjects are simulated.
LAYERS: Mapping[str, str] = {"evc": "conv1", "it": "fc"}

_NETWORK = "network.onnx"
# What a later sample replaces, apart from the README, which marks the folder as a sample.
_CONTENTS = (
    "study.toml",
    "order.csv",
    "targets.npz",
    "responses.npz",
    _NETWORK,
    "stimuli",
    "test_stimuli",
)
_MARK = "This is a synthetic study, made by fastrdm. No brain was measured for it."
_N_TEST = 12
# Of the simulated responses: units and repeats of each subject, and the noise of a repeat for a signal of 1.
_UNITS, _REPEATS, _NOISE = 40, 3, 1.0

_README = """{mark}

The stimuli are drawn by a program. The subjects are simulated: {how}
A score on this study tests the software and says nothing about brains.

The real data: the Algonauts Project 2019 challenge, Cichy et al. (2019), arXiv:1905.05675,
http://algonauts.csail.mit.edu. Unpack its download like this:

    DATA/algonauts2019/Training_Data/92_Image_Set/92images/*.jpg
    DATA/algonauts2019/Training_Data/92_Image_Set/target_fmri.mat  (and target_meg.mat)
    DATA/algonauts2019/Training_Data/118_Image_Set/118images/*.jpg
    DATA/algonauts2019/Training_Data/118_Image_Set/target_fmri.mat  (and target_meg.mat)
    DATA/algonauts2019/Test_Data/78images/*.jpg

and pass DATA to fastrdm, or set the environment variable FASTRDM_DATA to it.
"""


_OF_RDMS = """each region's RDMs are those of one
layer of {network}, named under [truth] in study.toml, plus random noise. The noise is chosen such
that the noise ceilings equal those published for the 92 images of the Algonauts 2019 challenge (EVC
{evc}, IT {it})."""
_OF_RESPONSES = """each region's units are random
sums of the channels of one layer of {network}, named under [truth] in study.toml, plus random noise
in each repeat."""


def add_sample(sample: argparse.ArgumentParser) -> None:
    """Add the arguments of `sample`."""
    sample.add_argument("folder", metavar="DIR")
    responses = "write responses of simulated units with repeats, in place of RDMs"
    sample.add_argument("--responses", action="store_true", help=responses)
    add_json(sample, "a JSON object with the folder and the network")
    sample.set_defaults(run=_sample)


def _sample(arguments: argparse.Namespace) -> int:
    folder = write_sample(arguments.folder, responses=arguments.responses)
    complain(
        f"wrote {folder}: a SYNTHETIC study with simulated subjects and no brains; see its README.txt"
    )
    if arguments.json:
        echo_json({"folder": str(folder), "network": str(folder / _NETWORK), "synthetic": True})
    else:
        command = ["fastrdm", "score", str(folder / _NETWORK), "--data", str(folder)]
        complain(f"try: {shlex.join(command)}")
    return 0


def write_sample(
    folder: str | Path,
    *,
    seed: int = 2019,
    n_conditions: int = 60,
    n_subjects: int = 15,
    responses: bool = False,
) -> Path:
    """Write a synthetic study into a folder and return it; the same arguments write the same files.

    A subject's RDM is 1 + (z + σ e) / (10 √(1 + σ²)), with z the layer's standardised RDM, e standard normal noise of
    each subject, and σ such that the noise ceiling equals the published one of the challenge's 92 images: 0.1589
    for "evc", 0.3075 for "it". An earlier sample in the folder is replaced, file by file. A sample has at least 10
    conditions and 8 subjects: with fewer subjects, noise alone has a ceiling above the published one.

    With `responses`, a subject has 40 units with 3 repeats instead: standardised sums of the layer's channels with
    random weights of each subject, plus standard normal noise.
    """
    import numpy as np

    from fastrdm._base import square
    from fastrdm.cli.sample_network import write_network
    from fastrdm.runtimes import OnnxModel
    from fastrdm.studies import CEILINGS

    folder = Path(folder)
    _check(folder, n_conditions, n_subjects)
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CONTENTS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    # The README comes first, so that an interrupted sample is recognised and can be replaced.
    published = CEILINGS["92"]
    how = (_OF_RESPONSES if responses else _OF_RDMS).format(network=_NETWORK, **published)
    (folder / "README.txt").write_text(_README.format(mark=_MARK, how=how), encoding="utf-8")
    stimuli = _draw_all(folder / "stimuli", n_conditions, seed)
    _draw_all(folder / "test_stimuli", _N_TEST, seed + 1)
    network = folder / _NETWORK
    write_network(network, seed)
    model, layers = OnnxModel(network), sorted(LAYERS.values())
    arrays: dict[str, Any] = {}
    if responses:
        activations = model.activations(stimuli, layers=layers)
        for i, (region, layer) in enumerate(LAYERS.items()):
            arrays[region] = _respond(activations[layer], n_subjects, (seed, i))
        np.savez(folder / "responses.npz", **arrays)
    else:
        rdms = model.rdms(stimuli, layers=layers)
        for i, (region, layer) in enumerate(LAYERS.items()):
            subjects = _simulate(rdms[layer], published[region], n_subjects, (seed, i), region)
            arrays[region] = square(subjects)
        np.savez(folder / "targets.npz", **arrays)
    lines = ["stimulus,category", *(f"{path.name},{path.stem.split('_')[0]}" for path in stimuli)]
    (folder / "order.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "study.toml").write_text(_settings(n_subjects, responses), encoding="utf-8")
    return folder


def _check(folder: Path, n_conditions: int, n_subjects: int) -> None:
    if n_conditions < 10:
        raise ValueError(f"n_conditions is {n_conditions}; a sample has 10 or more")
    if n_subjects < 8:
        raise ValueError(f"n_subjects is {n_subjects}; a sample has 8 or more")
    for module in ("PIL", "onnx", "onnxruntime"):
        require(module, "onnx", "to write a sample")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a sample needs a folder")
    if folder.is_dir() and any(folder.iterdir()):
        readme = folder / "README.txt"
        if not readme.is_file() or not readme.read_bytes().startswith(_MARK.encode()):
            raise ValueError(
                f"{folder} is not empty and not an earlier sample; name another folder"
            )


def _settings(n_subjects: int, responses: bool) -> str:
    description = f"{_MARK} {n_subjects} simulated subjects: layers of {_NETWORK} plus noise."
    source = 'responses = "responses.npz"' if responses else 'file = "targets.npz"'
    tables = [f'[targets.{region}]\n{source}\nkey = "{region}"\n' for region in LAYERS]
    truth = [f'{region} = "{layer}"' for region, layer in LAYERS.items()]
    lines = [
        f'name = "sample"\ndescription = "{description}"\nsynthetic = true',
        'stimuli = "stimuli"\ntest_stimuli = "test_stimuli"\norder = "order.csv"',
        *['measures = ["rsa", "cka", "ridge"]'] * responses,
        f'truth_network = "{_NETWORK}"\n',
        *tables,
        "# The layer from which each region was simulated.\n[truth]",
        *truth,
    ]
    return "\n".join(lines) + "\n"


def _simulate(
    rdm: "NDArray[np.float64]", ceiling: float, n_subjects: int, seed: tuple[int, int], name: str
) -> "NDArray[np.float64]":
    """Return RDMs (subjects, pairs): `rdm` plus as much noise as gives the noise ceiling."""
    import numpy as np

    from fastrdm.similarity import Target

    noise = np.random.default_rng(seed).standard_normal((n_subjects, len(rdm)))
    signal = (rdm - rdm.mean()) / rdm.std()

    def subjects(sigma: float) -> "NDArray[np.float64]":
        return np.asarray(1 + 0.1 * (signal + sigma * noise) / np.hypot(1, sigma))

    low, high = 0.0, 16.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        above = Target(subjects(middle), name=name).ceiling > ceiling
        low, high = (middle, high) if above else (low, middle)
    return subjects(high)


def _respond(
    activations: "NDArray[np.floating[Any]]", n_subjects: int, seed: tuple[int, int]
) -> "NDArray[np.float32]":
    """Return responses (subjects, repeats, conditions, units): random sums of channels, plus noise."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = activations.reshape(len(activations), -1).astype(np.float64)
    shape = (n_subjects, _REPEATS, len(rows), _UNITS)
    signals = rows @ rng.standard_normal((n_subjects, rows.shape[1], _UNITS))
    signals -= signals.mean(axis=1, keepdims=True)
    signals /= signals.std(axis=1, keepdims=True)
    noise = _NOISE * rng.standard_normal(shape)
    return np.asarray(signals[:, None] + noise, np.float32)


def _draw_all(folder: Path, n: int, seed: int) -> list[Path]:
    import numpy as np

    from fastrdm.cli.drawings import CATEGORIES, draw

    folder.mkdir()
    names = list(CATEGORIES)
    paths = []
    for i in range(n):
        category = names[i % len(names)]
        path = folder / f"{category}_{i // len(names) + 1:02d}.png"
        # One generator per picture: the first pictures do not depend on their number.
        draw(category, np.random.default_rng((seed, i))).save(path)
        paths.append(path)
    return paths
