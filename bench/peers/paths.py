"""The contenders of the whole path, images → RDMs → scores, each as one function that says where its time goes.

A function takes an `Experiment` and a `Stopwatch` and returns the call that is timed; models are open and targets
prepared by then. The call's answer is the scores (layers, regions), in percent of the noise ceiling. Where the call has
an attribute `begin`, that is called before each round, and the call gets what it gives.
"""

import itertools
import tempfile
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import fastrdm
from bench.peers.contenders import Contender
from bench.tasks.stimuli import N_CHECKPOINTS
from fastrdm.images import Preprocessing, clear_cache
from fastrdm.runtimes import host_rdms, model_arguments
from fastrdm.studies import Study

# How far scores may be off, in percentage points: activations in float32 of another runtime change ranks by 1e-4,
# RDMs in float32 by 5e-3. What bf16 does is a target, not an error, unless it is another answer.
FLOAT32, FLOAT32_RDMS, BF16 = 1e-3, 0.05, 1

# Peers take 0.8 GiB for the activations, as much to put batches together, and twice as much for a layer in float64.
FRESH = 4

# Images in one run: fastrdm's own default, and that at which eager torch is fastest (16 took 3.0 s of one thread where
# 118 took 4.6 s and 1 took 3.9 s).
ONNX_BATCH, EAGER_BATCH = 32, 16

# Checkpoints whose scores are timed: those after the first, with one more to open while the last of them runs.
N_TIMED = N_CHECKPOINTS - 2

# Where fastrdm's calls spend their time: what is timed where it is called.
FASTRDM_STAGES = {
    (model_arguments, "cached_pixels"): "decode",
    (Preprocessing, "normalise"): "decode",
    (host_rdms, "run"): "forward",
    (host_rdms, "calc_rdm"): "RDM",
    (host_rdms, "gram"): "RDM",
    (fastrdm.RdmAccumulator, "update"): "RDM",
    (fastrdm.RdmAccumulator, "rdm"): "RDM",
    (fastrdm.Target, "score"): "score",
}


@dataclass(frozen=True)
class Route(Contender):
    """A contender of the whole path.

    `rounds` are odd, so that one of them is the median. `answer` says what its answer is held against. `memory`, where
    it is given, is what `bench.path_memory` takes to do the same. `checkpoints` is how many a call scores, `fresh` how
    much memory, in GiB, it takes anew each time.
    """

    rounds: int = 3
    answer: str = "scores"
    memory: tuple[str, ...] | None = None
    checkpoints: int = 1
    fresh: int = 0


# The yardstick: nothing but the network, on images that are decoded and normalised.


def forward(which):
    def prepare(experiment, watch):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = fastrdm.kernels().n_threads
        session = ort.InferenceSession(getattr(experiment, which), options)
        outputs = [output.name for output in session.get_outputs()]
        n = len(experiment.images)
        batches = [experiment.batch[i : i + ONNX_BATCH] for i in range(0, n, ONNX_BATCH)]

        def call():
            with watch.stage("forward"):
                return np.concatenate([session.run(outputs, {"images": b})[-1] for b in batches])

        return call

    return prepare


FORWARD = Route(
    "ONNX Runtime, forward pass alone", forward("fc_onnx"), "onnxruntime", 1e-4, answer="logits"
)
FORWARD_ALL = Route(
    "ONNX Runtime, forward pass with eleven outputs",
    forward("onnx"),
    "onnxruntime",
    1e-4,
    answer="logits",
)


# fastrdm, its kernels those in force.


def _scores(targets, rdms):
    models = np.stack(list(rdms.values()))
    scores = [target.score(models).percent_nc for target in targets.values()]
    return np.stack(scores, axis=1)


def fastrdm_path(experiment, watch, max_memory=None, provider="cpu", **options):
    n_threads = fastrdm.kernels().n_threads
    model = fastrdm.OnnxModel(experiment.onnx, provider, n_threads=n_threads, **options)
    images, targets = experiment.images, experiment.targets

    def call(_=None):
        return _scores(targets, model.rdms(images, max_memory=max_memory))

    return watch.observing(FASTRDM_STAGES, call)


def fastrdm_first_time(experiment, watch):
    """With nothing in the cache of stimuli."""
    call = fastrdm_path(experiment, watch)
    call.begin = clear_cache
    return call


def fastrdm_openvino(experiment, watch):
    try:
        return fastrdm_path(experiment, watch, provider="openvino", precision="bf16")
    # The network is known to load on the CPU, so it is OpenVINO that is not here or refuses.
    except ValueError as error:
        pytest.skip(str(error))


def fastrdm_checkpoints(experiment, watch):
    """`fastrdm score` for each checkpoint after the first; includes bootstraps and the opening of the next one."""
    study = Study("bench", experiment.images, dict(experiment.targets))

    def begin():
        scores = fastrdm.score_checkpoints(
            experiment.checkpoints, [str(experiment.onnx)], [study], provider="cpu"
        )
        next(scores)
        return scores

    def call(scores):
        scored = list(itertools.islice(scores, N_TIMED))
        if failed := [each.error for each in scored if each.error]:
            raise RuntimeError(failed[0])
        return [
            np.reshape([result.percent_nc for result in each.results], (-1, len(study.targets)))
            for each in scored
        ]

    # The next checkpoint is opened by another thread; what the call waits for it is the cost of its weights.
    observed = watch.observing({**FASTRDM_STAGES, (Future, "result"): "weights"}, call)
    observed.begin = begin
    return observed


OURS = Route("fastrdm", fastrdm_path, "fastrdm", FLOAT32, rounds=7, memory=())
FIRST_TIME = Route("fastrdm, first time", fastrdm_first_time, "fastrdm", FLOAT32)
NEXT_CHECKPOINT = Route(
    "fastrdm, next checkpoint",
    fastrdm_checkpoints,
    "fastrdm",
    FLOAT32,
    answer="scores_by_turns",
    checkpoints=N_TIMED,
)
OPENVINO = Route("fastrdm, openvino bf16", fastrdm_openvino, "fastrdm", BF16)
BOUNDED = Route(
    "fastrdm, max_memory=1GiB",
    partial(fastrdm_path, max_memory="1GiB"),
    "fastrdm",
    FLOAT32,
    memory=("1GiB",),
)


# What people do: torch with hooks, NumPy's corrcoef, SciPy's spearmanr.


def hooked(network, images, batch_size):
    """Activations (images, channels) of each tapped layer, in float32."""
    import torch

    batches = torch.from_numpy(images).split(batch_size)
    seen = {layer: [] for layer in network.taps}
    hooks = [
        network.get_submodule(path).register_forward_hook(
            lambda module, inputs, output, seen=seen[layer]: seen.append(output)
        )
        for layer, path in network.taps.items()
    ]
    with torch.inference_mode():
        for batch in batches:
            network(batch)
    for hook in hooks:
        hook.remove()
    return {layer: torch.cat(outputs).flatten(1).numpy() for layer, outputs in seen.items()}


def _condensed(matrix):
    return matrix[np.triu_indices(len(matrix), 1)]


def _spearman(experiment, models):
    """Scores by SciPy, model by model and subject by subject."""
    return np.stack(
        [
            experiment.percent(
                [[stats.spearmanr(model, rdm).statistic for rdm in subjects] for model in models],
                region,
            )
            for region, subjects in experiment.subjects.items()
        ],
        axis=1,
    )


def eager_torch(experiment, watch):
    images = experiment.batch

    def call():
        with watch.stage("forward"):
            activations = hooked(experiment.network, images, EAGER_BATCH)
        with watch.stage("RDM"):
            models = [_condensed(1 - np.corrcoef(rows)) for rows in activations.values()]
        with watch.stage("score"):
            return _spearman(experiment, models)

    return call


def eager_rsatoolbox(experiment, watch):
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import RDMs, calc_rdm, compare

    images = experiment.batch
    brains = {region: RDMs(rows) for region, rows in experiment.subjects.items()}

    def call():
        with watch.stage("forward"):
            activations = hooked(experiment.network, images, EAGER_BATCH)
        with watch.stage("RDM"):
            models = calc_rdm([Dataset(rows) for rows in activations.values()], "correlation")
        with watch.stage("score"):
            rho = {region: compare(models, rdms, "spearman") for region, rdms in brains.items()}
            return np.stack([experiment.percent(rho[region], region) for region in rho], axis=1)

    return call


def _transforms(preprocessing):
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(preprocessing.size),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )


def files_between(experiment, watch):
    """The development kit's steps: image by image to a file of all layers, files to RDMs, their files to scores.

    The kit itself reads two of these files for each two images of each layer, 306,328 in all; here each is read once
    for each layer, and a layer's RDM is made at once.
    """
    from PIL import Image
    from scipy.io import loadmat, savemat

    transform = _transforms(experiment.network.preprocessing)
    folder = tempfile.TemporaryDirectory()
    activations, rdms = Path(folder.name, "activations"), Path(folder.name, "rdms")
    activations.mkdir()

    def call():
        for path in experiment.images:
            with watch.stage("decode"):
                image = transform(Image.open(path).convert("RGB"))[None].numpy()
            with watch.stage("forward"):
                layers = hooked(experiment.network, image, 1)
            with watch.stage("store"):
                savemat(activations / f"{path.stem}.mat", layers)
        files = sorted(activations.iterdir())
        for layer in layers:
            with watch.stage("store"):
                rows = [loadmat(path, variable_names=[layer])[layer].ravel() for path in files]
            with watch.stage("RDM"):
                rdm = 1 - np.corrcoef(rows)
            with watch.stage("store"):
                (rdms / layer).mkdir(parents=True, exist_ok=True)
                savemat(rdms / layer / "submit_fmri.mat", {"EVC_RDMs": rdm, "IT_RDMs": rdm})
        with watch.stage("store"):
            read = [loadmat(rdms / layer / "submit_fmri.mat")["EVC_RDMs"] for layer in layers]
        with watch.stage("score"):
            return _spearman(experiment, [_condensed(rdm) for rdm in read])

    # The files live as long as the call.
    call.folder = folder
    return call


def thingsvision_path(experiment, watch):
    from thingsvision import get_extractor_from_model
    from thingsvision.core.rsa import compute_rdm, correlate_rdms
    from thingsvision.utils.data import DataLoader, ImageDataset

    from fastrdm import square

    network = experiment.network
    transform = _transforms(network.preprocessing)
    extractor = get_extractor_from_model(network, "cpu", "pt", transform)
    folder = tempfile.TemporaryDirectory()
    dataset = ImageDataset(
        root=str(experiment.images[0].parent),
        out_path=folder.name,
        backend="pt",
        file_names=[path.name for path in experiment.images],
        transforms=transform,
    )
    brains = {region: [square(rdm) for rdm in rows] for region, rows in experiment.subjects.items()}

    def call():
        with watch.stage("forward"):
            features = extractor.extract_features(
                batches=DataLoader(dataset, batch_size=EAGER_BATCH, backend="pt"),
                module_names=list(network.taps.values()),
                flatten_acts=True,
            )
        with watch.stage("RDM"):
            models = [compute_rdm(rows, "correlation") for rows in features.values()]
        with watch.stage("score"):
            rho = {
                region: [[correlate_rdms(m, rdm, "spearman") for rdm in rdms] for m in models]
                for region, rdms in brains.items()
            }
            return np.stack([experiment.percent(rho[region], region) for region in rho], axis=1)

    return watch.observing({(ImageDataset, "__getitem__"): "decode"}, call)


EAGER = Route("eager torch + hooks + numpy + scipy", eager_torch, "torch", FLOAT32, fresh=FRESH)
RSATOOLBOX = Route(
    "eager torch + hooks + rsatoolbox",
    eager_rsatoolbox,
    "rsatoolbox",
    FLOAT32_RDMS,
    rounds=1,
    fresh=FRESH,
)
FILES = Route(
    "eager torch with files in between", files_between, "torch", FLOAT32, rounds=1, fresh=FRESH
)
THINGSVISION = Route(
    "thingsvision", thingsvision_path, "thingsvision", FLOAT32_RDMS, rounds=1, fresh=FRESH
)

ROUTES = (
    FORWARD,
    FORWARD_ALL,
    OURS,
    FIRST_TIME,
    NEXT_CHECKPOINT,
    BOUNDED,
    OPENVINO,
    EAGER,
    FILES,
    THINGSVISION,
    RSATOOLBOX,
)
