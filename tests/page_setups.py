"""What the pages of the documentation take for granted: for each page, its files, and the names that its code uses.

A setup fills the current folder, which is empty, and yields a dict of names for the page's Python blocks. What follows
its `yield` checks what the page has done. A page without a setup begins with no files and no names.
"""

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from page_files import (
    RNG,
    N,
    as_square,
    find_challenge,
    make_assembly,
    make_layer,
    make_network,
    make_rdms,
    make_responses,
    use_small_networks,
    write_challenge,
    write_checkpoints,
    write_features,
    write_h5ad,
    write_images,
    write_meg_study,
    write_responses_study,
)
from page_runners import COMPARED
from small_study import write_study
from toolbox_stand_ins import use_stand_ins


def readme(patch):
    pytest.importorskip("torch")
    from fastrdm.cli.sample import write_sample

    use_small_networks(patch)
    write_sample("DIR", n_conditions=N, n_subjects=8)
    shutil.copytree("DIR", "study")
    write_checkpoints(Path(), "weights.pth")
    write_checkpoints(Path("runs"), "epoch01.pth", "epoch02.pth")
    yield {
        "layer1": make_layer(),
        "layer2": make_layer(12),
        "subject_rdms": as_square(make_rdms(4)),
        "network": make_network(),
    }


def coming_from(patch):
    pytest.importorskip("rsatoolbox")
    pytest.importorskip("mne_rsa")
    import fastrdm
    from fastrdm.cli.sample import write_sample

    use_small_networks(patch)
    use_stand_ins(patch)
    write_sample("study", n_conditions=N, n_subjects=8)
    (study,) = fastrdm.open_studies("study")
    it = as_square(study.targets["it"].subject_rdms.reshape(8, -1))
    # Net2Brain and thingsvision take the images of a folder in the order of their names.
    order = np.argsort(study.names)
    it = it[:, order][:, :, order]
    Path("brain_rdms").mkdir()
    np.savez("brain_rdms/it.npz", it)
    write_checkpoints(Path(), "weights.pth")
    rng = np.random.default_rng(0)
    names = {
        "layer1": make_layer(),
        "layer2": make_layer(12),
        "subject_rdms": make_rdms(4),
        "evoked": rng.standard_normal((N, 6, 12)).astype(np.float32),
        "positions": rng.standard_normal((6, 3)),
        "subject_rdm": it[0],
    }
    yield names
    # Of the stand-in, by Net2Brain's formula.
    table = names["table"].set_index("Layer")["%R2"]
    model = fastrdm.TorchModel(make_network(), taps=names["taps"])
    score = names["it"].score(model.rdms(names["study"].stimuli))
    np.testing.assert_allclose(table[names["taps"]], score.percent_nc, rtol=1e-3)


def concepts(patch):
    from fastrdm.cli.sample import write_sample

    write_sample("study")
    yield {}


def encoding(patch):
    # Few, because the page permutes 1,000 times.
    yield {
        "layer1": make_layer(9, 10),
        "layer2": make_layer(5, 10),
        "betas": make_responses(2, 2, 10, 3),
    }


def features(patch):
    names = write_responses_study(Path("my-study"))
    write_features(Path("features.npz"), names, conv=make_layer(), fc=make_layer(9))
    write_features(Path("alexnet.h5"), names, fc=make_layer())
    write_features(Path("clip.h5"), names, fc=make_layer())
    write_features(
        Path("vit.npz"), names, block0=make_layer(), block1=make_layer(), head=make_layer()
    )
    array = make_layer()
    Path("resnet18_feat").mkdir()
    for name, row in zip(names, array, strict=True):
        np.savez(Path("resnet18_feat", f"{Path(name).stem}.npz"), layer4=row[None], fc=row[None])
    Path("thingsvision_out").mkdir()
    np.save("thingsvision_out/features.npy", array)
    Path("thingsvision_out/file_names.txt").write_text("\n".join(names))
    yield {"array": array, "file_names": names}


def fitting(patch):
    import fastrdm

    class Model:
        def rdms(self, images):
            return fastrdm.calc_rdm({name: make_layer() for name in ("stem", "block1", "fc")})

    def target():
        return fastrdm.Target(make_rdms(7))

    rdms = Model().rdms([])
    yield {
        "model": Model(),
        "images": [],
        "target": target(),
        "first_half": range(N // 2),
        "second_half": range(N // 2, N),
        "other_rdms": rdms,
        "rdms_92": rdms,
        "rdms_118": Model().rdms([]),
        "target_92": target(),
        "target_118": target(),
    }


def figures(patch):
    from store_writer import Writer, scored

    writer = Writer(Path("scores.db"))
    for i in range(3):
        writer.record(scored(i))
    writer.store.close()
    patch.setenv("MPLBACKEND", "agg")
    yield {}


def inference(patch):
    real = find_challenge()
    if real is None:
        write_challenge(Path())
    else:
        Path("Training_Data").symlink_to(real / "Training_Data")
    yield {COMPARED: real is not None}


def labels(patch):
    pd = pytest.importorskip("pandas")
    xr = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    import fastrdm

    names = [f"image {i}" for i in range(N)]
    tables = [pd.DataFrame(make_layer(), index=names) for _ in range(3)]
    rdms = fastrdm.calc_rdm(tables)
    pairs = {f"stimulus_{i + 1}": ("pair", rdms.columns.get_level_values(i)) for i in (0, 1)}
    subjects = xr.DataArray(
        rdms.to_numpy() + RNG.random(rdms.shape),
        {"subject": ["anna", "ben", "eva"], **pairs},
        ("subject", "pair"),
    )
    yield {"activations": make_layer(), "names": names, "subjects": subjects}


def library(patch):
    torch = pytest.importorskip("torch")
    from scipy.io import savemat

    np.save("big.npy", make_layer())
    square = as_square(make_rdms(4, 2))
    records = np.zeros((1, 4, 2), [("RDM", object)])
    for place in np.ndindex(4, 2):
        records["RDM"][0][place] = square[place]
    savemat("92_brainRDMs.mat", {"RDMs": records})
    names = write_responses_study(Path("my-study"))
    blocks = make_layer(8)
    network = make_network()
    network.features = lambda images: images.flatten(1)
    yield {
        "activations": make_layer(),
        "layer1": make_layer(),
        "layer2": make_layer(),
        "rdms1": make_rdms(2),
        "rdms2": make_rdms(3),
        "subject_rdms": as_square(make_rdms(4, 3)),
        "network": network,
        "image_files": [Path("my-study/stimuli") / name for name in names],
        "n_conditions": N,
        "blocks": [blocks[:, :4], blocks[:, 4:]],
        "images": torch.rand(N, 3, 4, 4),
        "other_rdms": torch.rand(2, N * (N - 1) // 2),
        "y": torch.rand(N, 5),
    }


def live(patch):
    torch = pytest.importorskip("torch")
    lightning = pytest.importorskip("lightning.pytorch")
    for module in ("tensorboard", "transformers", "accelerate"):
        pytest.importorskip(module)
    import small_training
    import small_transformer

    class Documented(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self.training_step(batch, _)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    write_study(Path("study"))
    small_training.seed()
    network = small_training.make_network()
    names = {
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), 0.1),
        "loader": small_training.loader(),
        "val_loader": small_training.loader(),
        "lightning_module": Documented(small_training.make_network()),
        "model": small_transformer.SmallTransformer(),
        "dataset": small_transformer.LabelledImages(),
    }
    yield names
    assert [each.step for each in names["scoring"].history] == [0, 2, 4]
    assert names["resumed"].history == names["scoring"].history
    trainer = names["trainer"]
    assert Path(trainer.state.best_model_checkpoint).name.startswith("checkpoint-")
    assert trainer.state.best_metric is not None


def measures(patch):
    yield {
        "layer1": make_layer(),
        "layer2": make_layer(40),
        "responses": make_layer(25),
        "brain_rdms": make_rdms(3),
    }


def mne_rsa(patch):
    mne = pytest.importorskip("mne")
    pytest.importorskip("mne_rsa")
    mne.set_log_level("ERROR")
    info = mne.create_info(6, 100.0, "mag")
    for k, channel in enumerate(info["chs"]):
        channel["loc"][:3] = [k / 30, 0, 0]
    events = np.column_stack([np.arange(N), np.zeros(N, int), np.arange(N)])
    data = 1e-12 * RNG.standard_normal((N, 6, 30))
    yield {
        "epochs": mne.EpochsArray(data, info, events=events),
        "data": data,
        "layer1": make_layer(),
        "layer2": make_layer(12),
    }
    from fastrdm.interop.mne_rsa import accelerated

    assert not accelerated()


def networks(patch):
    timm = pytest.importorskip("timm")
    pytest.importorskip("transformers")
    import onnx
    from small_onnx import small_model

    model = small_model(size=224)
    tapped = "/layer1/layer1.0/relu_1/Relu_output_0"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [tapped if each == "rectified" else each for each in names]
    onnx.save(model, "any.onnx")
    create = timm.create_model
    open_clip = types.ModuleType("open_clip")
    open_clip.create_model = lambda name, pretrained: types.SimpleNamespace(visual=make_network())
    patch.setitem(sys.modules, "open_clip", open_clip)
    names = {}
    yield names
    assert names["open_clip"]().taps
    patch.setattr(timm, "create_model", lambda name: create(name.replace("base", "tiny")))
    network = names["vit"]()
    assert network.preprocessing.size == (224, 224)
    assert network.preprocessing.crop is not None


def responses(patch):
    from scipy.io import savemat

    import fastrdm

    np.save("v4.npy", make_responses(1)[0].transpose(2, 1, 0))
    for subject in (1, 2):
        savemat(f"s{subject}.mat", {"betas": make_responses(1)[0]})
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = make_responses(2)[:, 0]
    savemat("recipe.mat", {"Y": cells})
    assembly = make_assembly()
    assembly.to_netcdf("v4.nc", engine="scipy")
    write_h5ad("it.h5ad", assembly)
    grams = fastrdm.gram({"conv1": make_layer(), "fc": make_layer()})
    yield {
        "assembly": assembly,
        "layer": make_layer(),
        "stimuli": assembly.stimulus_id.values[:N],
        "objects": assembly.object_name.values[:N],
        "betas": make_responses(),
        "gram1": grams["conv1"],
        "gram2": grams["fc"],
        "grams": grams,
        "conditions": np.tile(np.arange(N), 3),
        "runs": np.repeat(np.arange(3), N),
        "trials": make_responses(1)[0].reshape(3 * N, 8),
        "sessions": [0, 0, 1],
        "glm1": RNG.standard_normal((30, 8)),
        "glm3": RNG.standard_normal((30, 8)),
        "glm2": RNG.standard_normal((30, 8)),
    }


def searchlight(patch):
    nibabel = pytest.importorskip("nibabel")
    mask = RNG.random((5, 5, 4)) < 0.8
    affine = np.diag([3.0, 3, 3, 1])
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), affine), "mask.nii.gz")
    betas = RNG.random((*mask.shape, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(betas, affine), "betas.nii.gz")
    mesh = nibabel.gifti.GiftiImage()
    corners = np.array([[0, 0, 0], [5, 0, 0], [0, 5, 0], [5, 5, 0]], np.float32)
    for values, intent in ((corners, "POINTSET"), (np.int32([[0, 1, 2], [1, 3, 2]]), "TRIANGLE")):
        array = nibabel.gifti.GiftiDataArray(values, intent=f"NIFTI_INTENT_{intent}")
        mesh.add_gifti_data_array(array)
    nibabel.save(mesh, "lh.midthickness.surf.gii")
    yield {
        "models": RNG.random((2, 15)),
        "surface_data": RNG.random((6, 4)),
        "positions": RNG.random((12, 3)),
        "meg": RNG.random((6, 12, 25)),
        "run_betas": RNG.random((18, np.count_nonzero(mask))),
        "runs": np.repeat([1, 2, 3], 6),
        "names": list("abcdef") * 3,
        "residuals": RNG.random((40, np.count_nonzero(mask))),
    }
    assert nibabel.load("scores.nii.gz").shape == (5, 5, 4, 2)
    assert len(nibabel.load("lh.scores.func.gii").darrays) == 2
    assert np.load("rdms.npy").all()


def study(patch):
    h5py = pytest.importorskip("h5py")
    from mat73 import write_mat73
    from scipy.io import savemat
    from small_onnx import small_model

    folder = Path("my-study")
    paths = write_images(folder / "stimuli")
    write_images(folder / "test_stimuli", 3)
    order = "stimulus,category\n" + "".join(
        f"{path.name},{i % 2}\n" for i, path in enumerate(paths)
    )
    (folder / "order.csv").write_text(order)
    square = as_square(make_rdms(6))
    write_mat73(folder / "targets.mat", {"V1_RDMs": square, "IT_RDMs": square[::-1]})
    records = np.zeros((1, 4, 2), [("RDM", object)])
    for place in np.ndindex(4, 2):
        records["RDM"][0][place] = square[place[0]] + as_square(make_rdms())
    savemat(folder / "92_brainRDMs.mat", {"RDMs": records})
    np.save(folder / "meg.npy", as_square(make_rdms(5, 3)).transpose(2, 3, 1, 0))
    for i in (1, 2):
        np.save(folder / f"monkey{i}.npy", make_responses(1)[0].transpose(2, 1, 0))
    trials = make_responses(1, 4)[0].reshape(4 * N, 8)
    with h5py.File(folder / "trials.h5", "w") as file:
        file["betas"] = trials
    rows = [f"{paths[i % N].name},{i // (2 * N)}" for i in range(4 * N)]
    (folder / "trials.csv").write_text("\n".join(["stimulus,session", *rows]) + "\n")
    np.save(folder / "it_voxels.npy", np.arange(8) < 6)
    Path("net.onnx").write_bytes(small_model().SerializeToString())
    shutil.copy(folder / "92_brainRDMs.mat", ".")
    write_challenge(Path("DATA"))
    yield {}


def sweeps(patch):
    pytest.importorskip("onnx")
    from store_writer import Writer, scored

    use_small_networks(patch)
    write_responses_study(Path("DIR"))
    for seed in (0, 1):
        write_checkpoints(Path(f"runs/seed{seed}"), "lr0.1_epoch01.pth", "lr0.1_epoch02.pth")
    write_checkpoints(Path("runs"), "last.pth")
    for i, name in enumerate(("a.db", "b.db")):
        writer = Writer(Path(name))
        writer.record(scored(i))
        writer.store.close()
    patch.setenv("DATA", str(Path("DIR").absolute()))
    patch.setenv("HOME", str(Path.cwd()))
    yield {}


def time(patch):
    use_small_networks(patch)
    write_meg_study(Path("DIR"))
    write_checkpoints(Path("runs"), "epoch01.pth", "epoch02.pth")
    yield {
        "meg": as_square(make_rdms(6, 4)),
        "times": [0, 50, 100, 150],
        "rdms": {"conv1": make_rdms(), "fc": make_rdms()},
    }


def images(patch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("onnxruntime")
    patch.delenv("FASTRDM_DATA", raising=False)
    names = {}
    yield names
    assert not names["real"]
    # The layers from which the subjects were simulated.
    highest = {
        region: max((r for r in names["results"] if r.region == region), key=lambda r: r.r2).layer
        for region in ("evc", "it")
    }
    assert highest == {"evc": "conv1", "it": "fc"}


def paper(patch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("onnxruntime")
    patch.delenv("FASTRDM_DATA", raising=False)
    names = {}
    yield names
    assert not names["real"]
    # The layer from which the subjects of IT, the region with the higher ceiling, were simulated.
    assert names["best"]["shallow-seed0/30"] == "fc"


#: The setup of each page.
SETUPS = {
    "README.md": readme,
    "docs/coming-from.md": coming_from,
    "docs/concepts.md": concepts,
    "docs/encoding.md": encoding,
    "docs/features.md": features,
    "docs/figures.md": figures,
    "docs/fitting.md": fitting,
    "docs/inference.md": inference,
    "docs/labels.md": labels,
    "docs/library.md": library,
    "docs/live.md": live,
    "docs/measures.md": measures,
    "docs/mne-rsa.md": mne_rsa,
    "docs/networks.md": networks,
    "docs/notebooks/images.md": images,
    "docs/notebooks/paper.md": paper,
    "docs/responses.md": responses,
    "docs/searchlight.md": searchlight,
    "docs/study.md": study,
    "docs/sweeps.md": sweeps,
    "docs/time.md": time,
}
