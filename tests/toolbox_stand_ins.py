"""Stand-ins for Net2Brain and thingsvision, which cannot be installed beside current packages.

They have the calls that docs/coming-from.md shows, and write the files and return the values that the sources of both
describe. A toolbox that can be imported is left as it is.
"""

import importlib
import sys
import types
from pathlib import Path

import numpy as np


def use_stand_ins(patch):
    for name, build in (("net2brain", _net2brain), ("thingsvision", _thingsvision)):
        try:
            importlib.import_module(name)
        except ImportError:
            for path, members in build().items():
                module = types.ModuleType(path)
                module.__dict__.update(members)
                patch.setitem(sys.modules, path, module)


def _activations(model, folder, taps):
    """Return activations of images by layer, and the names of the images."""
    import fastrdm

    images = fastrdm.images.list_images(folder, "sorted")
    return fastrdm.TorchModel(model, taps=taps).activations(images), images


def _network():
    import torchvision

    return torchvision.models.resnet18()


class _FeatureExtractor:
    layers = ("layer1", "layer2", "layer3", "layer4", "fc")

    def __init__(self, model, netset=None, device="cpu"):
        self.model = _network()

    def extract(self, data_path, save_path=None, layers_to_extract=None):
        """Write a file for each layer, with an array for each image, a batch of one."""
        Path(save_path).mkdir(exist_ok=True)
        found, images = _activations(self.model, data_path, list(self.layers))
        for layer, values in found.items():
            rows = {
                each.name.split(".")[0]: v[None] for each, v in zip(images, values, strict=True)
            }
            np.savez_compressed(Path(save_path, f"{layer}.npz"), **rows)


class _RDMCreator:
    def __init__(self, device="cpu", verbose=False):
        self.device = device

    def create_rdms(self, feature_path, save_path=None, save_format="npz"):
        Path(save_path).mkdir(exist_ok=True)
        for path in sorted(Path(feature_path).glob("*.npz")):
            rows = [values.ravel() for _, values in sorted(np.load(path).items())]
            np.savez(Path(save_path, f"RDM_{path.name}"), rdm=1 - np.corrcoef(rows))
        return save_path


class _RSA:
    def __init__(self, model_rdms_path, brain_rdms_path, model_name="model"):
        self.model_rdms, self.brain_rdms = Path(model_rdms_path), Path(brain_rdms_path)
        self.name = model_name

    def evaluate(self):
        """Return mean ρ² over subjects, in percent of the mean ρ² of each subject with the mean of the others."""
        import pandas as pd
        from scipy.stats import spearmanr

        rows = []
        for roi in sorted(self.brain_rdms.glob("*.npz")):
            (brains,) = (values for _, values in np.load(roi).items())
            upper = np.triu_indices(brains.shape[-1], 1)
            brains = np.array([each[upper] for each in brains])
            rest = [np.delete(brains, i, 0).mean(axis=0) for i in range(len(brains))]
            pairs = zip(brains, rest, strict=True)
            lower = np.mean([spearmanr(*pair)[0] ** 2 for pair in pairs])
            for path in sorted(self.model_rdms.glob("*.npz")):
                model = np.load(path)["rdm"][upper]
                r2 = np.mean([spearmanr(model, each)[0] ** 2 for each in brains])
                row = {"ROI": roi.stem, "Layer": path.stem.removeprefix("RDM_"), "R2": r2}
                rows.append({**row, "%R2": 100 * r2 / lower, "LNC": lower, "Model": self.name})
        return pd.DataFrame(rows)


def _net2brain():
    return {
        "net2brain": {"__path__": []},
        "net2brain.feature_extraction": {"FeatureExtractor": _FeatureExtractor},
        "net2brain.rdm_creation": {"RDMCreator": _RDMCreator},
        "net2brain.evaluations": {"__path__": []},
        "net2brain.evaluations.rsa": {"RSA": _RSA},
    }


class _Extractor:
    def __init__(self):
        self.model = _network()

    def get_backend(self):
        return "pt"

    def get_transformations(self):
        return None

    def extract_features(self, batches, module_name, flatten_acts=True):
        found, _ = _activations(self.model, batches.dataset.root, [module_name])
        return found[module_name].reshape(len(found[module_name]), -1)


class _ImageDataset:
    def __init__(self, root, out_path, backend, transforms=None):
        self.root = root
        Path(out_path).mkdir(exist_ok=True)
        names = [f"{path}\n" for path in sorted(Path(root).iterdir())]
        Path(out_path, "file_names.txt").write_text("".join(names))


class _DataLoader:
    def __init__(self, dataset, batch_size, backend):
        self.dataset = dataset


def _get_extractor(model_name, source, device="cpu", pretrained=True):
    return _Extractor()


def _save_features(features, out_path, file_format):
    assert file_format == "npy"
    np.save(Path(out_path, "features.npy"), features)


def _compute_rdm(features, method):
    assert method == "correlation"
    return 1 - np.corrcoef(features)


def _correlate_rdms(rdm_1, rdm_2, correlation="pearson"):
    import scipy.stats

    upper = np.triu_indices(len(rdm_1), k=1)
    return getattr(scipy.stats, f"{correlation}r")(rdm_1[upper], rdm_2[upper])[0]


def _thingsvision():
    return {
        "thingsvision": {"__path__": [], "get_extractor": _get_extractor},
        "thingsvision.core": {"__path__": []},
        "thingsvision.core.rsa": {
            "compute_rdm": _compute_rdm,
            "correlate_rdms": _correlate_rdms,
        },
        "thingsvision.utils": {"__path__": []},
        "thingsvision.utils.data": {"DataLoader": _DataLoader, "ImageDataset": _ImageDataset},
        "thingsvision.utils.storing": {"save_features": _save_features},
    }
