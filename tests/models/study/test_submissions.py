import csv

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.stats import rankdata, spearmanr

import fastrdm
from fastrdm.similarity import Target
from fastrdm.studies import Study, find_data, open_studies
from models.study import submissions
from models.study.kept import read_kept, write_kept
from models.study.rules import RULES, LayerPools, NoLayerError, best_layers, paper_rule
from models.study.submissions import judge, lacking, main, make, section, write

PAIRS = {"92": 276, "118": 325, "78": 190}
LAYERS = ("block1@32", "block4@32", "fc@48")


def study(name, rdms, seed):
    """EVC is like block1, IT like the last layer of the pretrained network, in 6 subjects."""
    rng = np.random.default_rng(seed)
    like = {"evc": rdms["resnet20-seed0-epoch005"]["block1@32"], "it": rdms["lite"]["fc@48"]}
    noise = {region: rng.random((6, PAIRS[name])) for region in like}
    targets = {
        region: Target(
            rankdata(rdm) / len(rdm) + noise[region], protocol="algonauts2019", name=region
        )
        for region, rdm in like.items()
    }
    return Study(name, (), targets)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rdms")
    rng = np.random.default_rng(3)
    names = [
        f"{name}-seed0-epoch{epoch:03d}" for name in ("resnet20", "resnet18") for epoch in (1, 5)
    ]
    for name in [*names, "lite"]:
        rdms = {s: {layer: rng.random(n) for layer in LAYERS} for s, n in PAIRS.items()}
        write_kept(folder / f"{name}.npz", rdms)
    return folder


@pytest.fixture(scope="module")
def kept(place):
    return read_kept(place)


@pytest.fixture(scope="module")
def studies(kept):
    return [
        study(name, {each.name: each.rdms(name) for each in kept}, i)
        for i, name in enumerate(("92", "118"))
    ]


@pytest.fixture(scope="module")
def made(kept, studies):
    return {each.rule.key: each for each in make(kept, studies, n_draws=50)}


def test_the_paper_chooses_one_layer_of_the_resnet20_by_its_mean_score(made, kept, studies):
    scores = {}
    for each in kept:
        for layer in LAYERS:
            values = []
            for one in studies:
                results = [t.score(each.rdms(one.name)[layer]) for t in one.targets.values()]
                ceiling = np.mean([t.ceiling for t in one.targets.values()])
                values.append(np.mean([r.value[0] for r in results]) / ceiling)
                if min(r.mean_rho[0] for r in results) <= 0:
                    values.append(-np.inf)
            if each.network == "resnet20":
                scores[f"{each.name}/{layer}"] = np.mean(values)
    best = max(scores, key=scores.get)
    assert {fit.model.layer for fit in made["a"].fits.values()} == {best}


def test_the_best_layer_of_each_region_is_found_in_any_network(made):
    fits = made["b"].fits
    assert fits["evc"].model.layer == "resnet20-seed0-epoch005/block1@32"
    assert fits["it"].model.layer == "lite/fc@48"
    assert all(np.count_nonzero(fit.model.weights) == 1 for fit in fits.values())


def test_weighted_submissions_keep_to_their_pools(made):
    for fit in made["c"].fits.values():
        assert {name.partition("-")[0] for name in fit.model.layers} == {"resnet20"}
        assert (fit.model.weights >= 0).all()
    assert made["d"].fits["it"].pool in ("ImageNet", "everything")
    assert made["d"].fits["it"].model.layer == "lite/fc@48"


def test_a_layer_that_orders_images_in_the_opposite_way_is_not_chosen(kept, studies):
    """Its squared score would be the highest of all."""
    pools = LayerPools(kept, ["92", "118"])
    plain = best_layers(pools, studies)["evc"].model.layer
    flipped = _Flipped(pools, plain)
    assert best_layers(flipped, studies)["evc"].model.layer != plain
    assert paper_rule(flipped, studies)["evc"].model.layer != plain


class _Flipped:
    """LayerPools in which one layer has similarities in place of dissimilarities."""

    def __init__(self, pools, layer):
        self._pools, self._layer = pools, layer

    def of(self, pool, study):
        return {
            name: -rdm if name == self._layer else rdm
            for name, rdm in self._pools.of(pool, study).items()
        }


def test_the_judged_study_has_no_part_in_the_fit(kept, studies):
    """With other brains in the judged study, its own fits are the same and their judgement differs."""
    first, second = studies
    other = study("118", {each.name: each.rdms("118") for each in kept}, seed=9)
    pools = LayerPools(kept, ["92", "118"])
    for rule in RULES:
        fits = rule.fit(pools, [first])
        judged = [judge(fits, pools, each, n_draws=20) for each in (second, other)]
        assert judged[0].percent != judged[1].percent
    pairs = [make(kept, [first, each], n_draws=5) for each in (second, other)]
    for one, two in zip(*pairs, strict=True):
        # Each was fitted on the first study.
        assert one.judgements[1].percent != two.judgements[1].percent


def test_a_judgement_is_the_score_of_the_prediction(kept, studies):
    pools = LayerPools(kept, ["92", "118"])
    fits = RULES[2].fit(pools, studies[:1])
    found = judge(fits, pools, studies[1], n_draws=100)
    values, ceilings = [], []
    for region, target in studies[1].targets.items():
        fit = fits[region]
        rdms = pools.of("ResNet-20", "118")
        ranks = np.stack([rankdata(rdms[name]) for name in fit.model.layers])
        score = target.score(fit.model.weights @ ranks)
        assert found.percent[region] == pytest.approx(score.percent_nc[0])
        assert found.mean_rho[region] == pytest.approx(score.mean_rho[0])
        assert found.low[region] < found.percent[region] < found.high[region]
        values.append(score.value[0])
        ceilings.append(target.ceiling)
    assert found.percent["score"] == pytest.approx(100 * np.mean(values) / np.mean(ceilings))


def test_a_prediction_spans_the_intervals_of_all_judged_studies(made):
    for each in made.values():
        for quantity in ("evc", "it", "score"):
            mean, low, high = each.predicted(quantity)
            assert mean == pytest.approx(np.mean([j.percent[quantity] for j in each.judgements]))
            assert low == max(0, min(j.low[quantity] for j in each.judgements))
            assert high == max(j.high[quantity] for j in each.judgements)


def test_submissions_are_the_weighted_rdms_of_the_test_images(made, kept, tmp_path):
    write(list(made.values()), kept, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(r.folder for r in RULES)
    for each in made.values():
        folder = tmp_path / each.rule.folder
        mat = loadmat(folder / "submit_fmri.mat")
        assert (folder / "submit_fmri.zip").is_file()
        with (folder / "weights.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        by_name = {k.name: k.rdms("78") for k in kept}
        for region in ("evc", "it"):
            used = [row for row in rows if row["region"] == region]
            rdms = [by_name[row["layer"].split("/")[0]][row["layer"].split("/")[1]] for row in used]
            # Rounded weights may exchange close pairs, so orders are compared, not values.
            expected = sum(
                float(row["weight"]) * rankdata(rdm) for row, rdm in zip(used, rdms, strict=True)
            )
            square = mat[f"{region.upper()}_RDMs"]
            assert square.shape == (20, 20)
            upper = square[np.triu_indices(20, 1)]
            assert spearmanr(upper, expected)[0] > 0.9999


def test_the_same_input_gives_the_same_section(kept, studies, tmp_path, monkeypatch):
    monkeypatch.setattr(submissions.make, "__defaults__", (20,))
    texts = [section(kept, studies, tmp_path / name) for name in "ab"]
    assert texts[0] == texts[1]
    assert texts[0].startswith("## Submissions for the 78 test images")
    tables = [(tmp_path / name / "RESULTS-submissions.csv").read_text() for name in "ab"]
    assert tables[0] == tables[1]
    assert tables[0].count("\n") == 1 + 4 * 3 * 3


def test_what_is_lacking_is_said(kept, studies, tmp_path):
    assert lacking(kept, studies) == ""
    assert "two studies" in lacking(kept, studies[:1])
    assert "no RDMs of the ResNet-20" in lacking(
        [k for k in kept if k.network != "resnet20"], studies
    )
    rdms = {name: kept[0].rdms(name) for name in ("92", "118")}
    write_kept(tmp_path / "resnet20-seed0-epoch001.npz", rdms)
    without = read_kept(tmp_path)
    message = "resnet20-seed0-epoch001.npz has no RDMs of the images 78"
    assert lacking(without, studies) == message
    assert section(without, studies, tmp_path).endswith(f"There are none: {message}.")
    with pytest.raises(ValueError, match=r"has no RDMs of the images 78"):
        make(without, studies)


def test_networks_unlike_any_brain_make_no_submission(kept, studies, tmp_path):
    """With similarities in place of dissimilarities, every layer is opposite to the brains."""
    names = ("resnet20-seed0-epoch001", "resnet20-seed0-epoch005")
    for name in names:
        rdms = {study: {"block1@32": 1 - kept[3].rdms(study)["block1@32"]} for study in PAIRS}
        write_kept(tmp_path / f"{name}.npz", rdms)
    opposite = read_kept(tmp_path)
    with pytest.raises(NoLayerError, match="no layer of the pool 'ResNet-20' is similar to evc"):
        make(opposite, studies, n_draws=5)
    assert "There are none: no layer" in section(opposite, studies, tmp_path)


def test_wrong_use_of_the_command_is_one_sentence(tmp_path, capsys):
    assert main(["--rdms", str(tmp_path), "--data", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "has no kept RDMs" in capsys.readouterr().err


def test_kept_submissions_follow_from_their_weights():
    """The repository's submissions, made again from its RDMs and their weights, for the challenge's images."""
    root = find_data()
    if root is None:
        pytest.skip("no brain data")
    names = {study.name for study in open_studies(root, modality="fmri")}
    assert {"92", "118"} <= names
    by_name = {each.name: each for each in read_kept()}
    for rule in RULES:
        folder = submissions.OUT / rule.folder
        mat = loadmat(folder / "submit_fmri.mat")
        with (folder / "weights.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for region in ("evc", "it"):
            used = [row for row in rows if row["region"] == region]
            total = 0
            for row in used:
                checkpoint, _, layer = row["layer"].partition("/")
                total += float(row["weight"]) * rankdata(by_name[checkpoint].rdms("78")[layer])
            upper = mat[f"{region.upper()}_RDMs"][np.triu_indices(78, 1)]
            assert spearmanr(upper, total)[0] > 0.9999
            assert len(fastrdm.condense(mat[f"{region.upper()}_RDMs"])) == 3003
