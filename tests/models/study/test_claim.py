import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from fastrdm.inference import correct
from fastrdm.similarity import Target
from fastrdm.studies import Study, open_studies
from models.networks import TAPS
from models.study import claim as claims
from models.study.claim import BETTER, UNDECIDED, WORSE, decide, main, section, write_claim
from models.study.claim_choice import NONE, Brain, NotComparable, Scores, choose, judge
from models.study.claim_differences import (
    Group,
    Interval,
    SeedVariance,
    average_epochs,
    compare_groups,
    pooled_seed_variance,
    seed_variance,
)
from models.study.claim_draws import BrainDraws, LayerChoice, observe, redraw
from models.study.claim_relations import (
    correlate,
    relative_depths,
    spearman,
    weighted_layers,
)
from models.study.claim_study import comparable_layers, plan_epochs, study_claim
from models.study.kept import FOLDER, read_kept, write_kept

LAYERS = ("stem@32", "block1_1@32", "block1@32", "block4@32", "fc@32")
N = {"92": 12, "118": 14}
MEASURES = ("percent", "rho")


def make_brains(seed=0, n_subjects=6, noise=1.0):
    """Two studies, whose images have features that all subjects see, and these features."""
    rng = np.random.default_rng([seed, 1])
    features = {name: rng.normal(size=(n, 5)) for name, n in N.items()}
    studies = []
    for name, images in features.items():
        targets = {}
        for region, weights in (("evc", (2, 2, 1, 1, 1)), ("it", (1, 1, 1, 2, 2))):
            rdm = pdist(images * np.array(weights))
            noisy = rdm + noise * rdm.std() * rng.normal(size=(n_subjects, rdm.size))
            targets[region] = Target(noisy, name=region)
        studies.append(Study(name, (), targets))
    return studies, features


def make_rdms(features, rng, noise, layers=LAYERS):
    """RDMs of layers: features with random weights, and noise of the network."""
    found = {name: {} for name in (*features, "78")}
    for layer in layers:
        weights = np.exp(0.5 * rng.normal(size=5))
        for name in found:
            images = features.get(name, np.ones((5, 5)))
            own = noise * rng.normal(size=images.shape)
            found[name][layer] = pdist(np.hstack([images * weights, own]))
    return found


def keep(folder, features, networks, epochs=(1, 5, 10), seed=0):
    """Keep RDMs of networks with {name: (seeds, noise)}, and what was kept."""
    for i, (network, (n_seeds, noise)) in enumerate(networks.items()):
        for s in range(n_seeds):
            rows = ["epoch,val_top1", *(f"{epoch},{5 * epoch + s}" for epoch in epochs)]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{network}-seed{s}.csv").write_text("\n".join(rows) + "\n")
            for epoch in epochs:
                rng = np.random.default_rng([seed, i, s, epoch])
                path = folder / f"{network}-seed{s}-epoch{epoch:03d}.npz"
                write_kept(path, make_rdms(features, rng, noise))
    return read_kept(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    studies, features = make_brains()
    folder = tmp_path_factory.mktemp("claim")
    kept = keep(
        folder, features, {"resnet20": (3, 1.0), "resnet18": (2, 1.0), "resnet34": (1, 1.0)}
    )
    rng = np.random.default_rng(5)
    layers = ("stem@64", "block1@64", "head@64", "fc@64")
    write_kept(folder / "efficientnet_lite0.npz", make_rdms(features, rng, 0.1, layers))
    return studies, read_kept(folder), folder, kept


def candidates_of(kept, n=2):
    return [LayerChoice(each, ("block1@32", "block4@32", "fc@32")) for each in kept[:n]]


def written_out(rdm, counts):
    """The entries of a condensed RDM of drawn images, without pairs of an image with itself."""
    index = np.repeat(np.arange(len(counts)), counts)
    first, second = np.triu_indices(len(index), 1)
    other = index[first] != index[second]
    return squareform(rdm)[index[first], index[second]][other]


def oracle(studies, candidate, subjects, images):
    """Held-out percentage and ρ of the score, EVC and IT, written out for one draw."""
    tables = []
    for study, people, counts in zip(studies, subjects, images, strict=True):
        rows = []
        for layer in candidate.layers:
            rdm = candidate.kept.rdms(study.name)[layer]
            r2, rho = [], []
            for target in study.targets.values():
                rhos = [
                    spearmanr(written_out(rdm, counts), written_out(row.ravel(), counts))[0]
                    for row, times in zip(target.subject_rdms, people, strict=True)
                    for _ in range(times)
                ]
                r2.append(np.mean(np.square(rhos)))
                rho.append(np.mean(rhos))
            ceilings = [target.ceiling for target in study.targets.values()]
            percents = [np.mean(r2) / np.mean(ceilings), *np.divide(r2, ceilings)]
            allowed = [min(rho) > 0, *(r > 0 for r in rho)]
            rows.append(
                [
                    [100 * p, r, a]
                    for p, r, a in zip(percents, [np.mean(rho), *rho], allowed, strict=True)
                ]
            )
        tables.append(np.array(rows, float))
    found = []
    for by, on in ((tables[1], tables[0]), (tables[0], tables[1])):
        best = [np.where(by[:, t, 2] > 0, by[:, t, 0], -1).argmax() for t in range(3)]
        none = [not by[:, t, 2].any() for t in range(3)]
        found.append([[0, 0] if none[t] else on[best[t], t, :2] for t in range(3)])
    return np.mean(found, axis=0)


def test_draws_are_those_of_written_out_samples(made):
    studies, kept, *_ = made
    brains = [Brain.of(study) for study in studies]
    candidates = candidates_of(kept[3:])
    draws = BrainDraws.of(brains, 3, 4)
    found = redraw(brains, candidates, draws)
    once = [np.ones(b.n_subjects, int) for b in brains], [np.ones(b.n_images, int) for b in brains]
    for d in range(3):
        drawn = [each[d] for each in draws.subjects], [each[d] for each in draws.images]
        kinds = [drawn, (drawn[0], once[1]), (once[0], drawn[1])]
        for c, candidate in enumerate(candidates):
            for kind, (subjects, images) in enumerate(kinds):
                expected = oracle(studies, candidate, subjects, images)
                np.testing.assert_allclose(found[kind, d, c], expected, atol=1e-9)
    observed = observe(brains, candidates)
    np.testing.assert_allclose(observed.values[1], oracle(studies, candidates[1], *once), atol=1e-9)


def test_draws_are_with_replacement_and_streams_differ(made):
    brains = [Brain.of(study) for study in made[0]]
    draws = BrainDraws.of(brains, 200, 0)
    for brain, subjects, images in zip(brains, draws.subjects, draws.images, strict=True):
        assert (subjects.sum(axis=1) == brain.n_subjects).all()
        assert (images.sum(axis=1) == brain.n_images).all()
    assert (draws.subjects[0] != draws.subjects[1]).any()
    again = BrainDraws.of(brains, 50, 0)
    np.testing.assert_array_equal(again.images[1], draws.images[1][:50])
    with pytest.raises(ValueError, match="n_draws must be at least 2, not 1"):
        BrainDraws.of(brains, 1, 0)


def shuffled(study, seed=0):
    """The study with images permuted in all brains."""
    order = np.random.default_rng(seed).permutation(N[study.name])
    targets = {
        region: Target(
            np.array(
                [
                    squareform(squareform(row.ravel())[np.ix_(order, order)])
                    for row in t.subject_rdms
                ]
            ),
            name=region,
        )
        for region, t in study.targets.items()
    }
    return replace(study, targets=targets)


@pytest.mark.parametrize("judged", [0, 1])
def test_the_judged_study_does_not_choose(made, judged):
    studies, kept, *_ = made
    candidates = candidates_of(kept[4:], 6)
    changed = [shuffled(s) if i == judged else s for i, s in enumerate(studies)]
    before, after = (
        observe([Brain.of(s) for s in each], candidates) for each in (studies, changed)
    )
    for a, b in zip(before.chosen, after.chosen, strict=True):
        assert a[judged] == b[judged]
    assert not np.allclose(before.held_out[:, judged], after.held_out[:, judged])
    # The other study is judged by what the changed one chose.
    assert any(
        a[1 - judged] != b[1 - judged] for a, b in zip(before.chosen, after.chosen, strict=True)
    )


def scores(percent, rho):
    """Scores of one draw with one target."""
    percent, rho = (np.array(x, float)[None, :, None] for x in (percent, rho))
    return Scores(percent, rho, (rho > 0) & np.isfinite(percent))


def test_a_layer_without_positive_rho_is_never_chosen():
    layers = np.arange(4)
    one = scores([5, 9, 3, np.nan], [0.1, 0.0, 0.2, 0.3])
    assert choose(one, layers).item() == 0
    assert choose(one, np.array([1, 2])).item() == 2
    none = choose(scores([5, 9], [-0.1, 0.0]), np.arange(2))
    assert none.item() == NONE
    np.testing.assert_array_equal(judge(one, none), np.zeros((1, 1, 2)))
    np.testing.assert_array_equal(judge(one, np.array([[2]])), [[[3, 0.2]]])


def groups_of(brains, kept, n_draws=60, seed=0):
    """Groups of networks at one epoch."""
    candidates = candidates_of(kept, len(kept))
    values = observe(brains, candidates).values.reshape(len(kept), -1)
    draws = redraw(brains, candidates, BrainDraws.of(brains, n_draws, seed))
    draws = draws.reshape(*draws.shape[:3], -1)
    found = {}
    for network in dict.fromkeys(each.network for each in kept):
        rows = [i for i, each in enumerate(kept) if each.network == network]
        seeds = tuple(kept[i].seed for i in rows)
        found[network] = Group(network, seeds, values[rows], draws[:, :, rows])
    return found


NAMES = [f"{target} {unit}" for target in ("score", "evc", "it") for unit in MEASURES]


def simulated(tmp_path, seed, noises):
    studies, features = make_brains(seed)
    networks = {
        name: (3, noise) for name, noise in zip(("resnet20", "resnet18"), noises, strict=True)
    }
    kept = keep(tmp_path / str(seed), features, networks, epochs=(5,), seed=seed)
    brains = [Brain.of(study) for study in studies]
    groups = groups_of(brains, kept, seed=seed)
    return compare_groups(groups["resnet20"], groups["resnet18"], brains, NAMES, None)


def test_a_difference_is_found(tmp_path):
    for seed in range(3):
        score = simulated(tmp_path, seed, (0.1, 4.0))[0]
        assert score.interval.low > 0
        assert score.interval.p < 0.01


def test_intervals_cover_no_difference_as_often_as_they_say(tmp_path):
    found = [simulated(tmp_path, seed, (1.0, 1.0)) for seed in range(60)]
    for i in (0, 1, 2, 4):
        covered = np.mean([each[i].interval.low <= 0 <= each[i].interval.high for each in found])
        assert covered >= 0.9
        # Intervals are not so wide that they would cover anything.
        true = np.std([each[i].interval.estimate for each in found])
        said = np.sqrt(np.mean([each[i].interval.se ** 2 for each in found]))
        assert 0.7 * true < said < 2 * true


def plain_variance(draws, s, c):
    """The corrected two-factor variance by the formula of Schütt et al."""
    both, subjects, images = draws.var(axis=1, ddof=1)
    s, c = s / (s - 1), c / (c - 1)
    corrected = s * subjects + c * images - s * c * (both - subjects - images)
    return np.clip(corrected, np.maximum(s * subjects, c * images), both)


def test_variance_is_that_of_brains_and_of_seeds_beyond_brains(made):
    studies, kept, *_ = made
    brains = [Brain.of(study) for study in studies]
    at = [each for each in kept if each.epoch == 5]
    groups = groups_of(brains, at)
    a, b = groups["resnet20"], groups["resnet18"]
    difference = compare_groups(a, b, brains, NAMES, None)[0]
    brain = plain_variance(a.draws[..., 0].mean(axis=2) - b.draws[..., 0].mean(axis=2), 6, 12)
    variance, terms = brain, [brain**2 / 5]
    for group in (a, b):
        n = group.n_seeds
        deviations = group.draws[..., 0] - group.draws[..., 0].mean(axis=2, keepdims=True)
        shared = plain_variance(deviations, 6, 12).sum() / (n - 1)
        total = group.values[:, 0].var(ddof=1)
        variance += max(0, total - shared) / n
        terms.append((total / n) ** 2 / (n - 1))
    assert difference.interval.se**2 == pytest.approx(variance)
    assert difference.interval.dof == pytest.approx(max(1, variance**2 / sum(terms)))
    assert difference.interval.estimate == pytest.approx(
        a.values[:, 0].mean() - b.values[:, 0].mean()
    )
    assert difference.sd_seeds**2 == pytest.approx(
        sum(g.values[:, 0].var(ddof=1) / g.n_seeds for g in (a, b))
    )
    assert not difference.conditional


def test_one_seed_is_conditional_and_any_seed_borrows(made):
    studies, kept, *_ = made
    brains = [Brain.of(study) for study in studies]
    groups = groups_of(brains, [each for each in kept if each.epoch == 5])
    assert seed_variance(groups["resnet34"], brains) is None
    pooled = pooled_seed_variance(list(groups.values()), brains)
    several = [groups["resnet20"], groups["resnet18"]]
    expected = sum((g.n_seeds - 1) * g.values.var(axis=0, ddof=1) for g in several) / 3
    np.testing.assert_allclose(pooled.total, expected)
    assert pooled.dof == 3
    borrowed = SeedVariance(pooled.total + 100, pooled.shared, 3)
    pair = groups["resnet20"], groups["resnet34"]
    for each in compare_groups(*pair, brains, NAMES, borrowed):
        assert each.conditional
        assert each.any_seed.se > each.interval.se
        assert each.any_seed.estimate == each.interval.estimate
    with pytest.raises(NotComparable, match="one of resnet34 needs at least two seeds"):
        pooled_seed_variance([groups["resnet34"]], brains)


def test_an_average_of_epochs_needs_the_same_seeds():
    one = Group("resnet20", (0, 1), np.zeros((2, 1)), np.zeros((3, 4, 2, 1)))
    other = Group("resnet20", (0, 2), np.ones((2, 1)), np.ones((3, 4, 2, 1)))
    with pytest.raises(
        NotComparable, match=r"resnet20 must have the same seeds .*\[0, 1\] and \[0, 2\]"
    ):
        average_epochs([one, other])
    assert average_epochs([one, replace(other, seeds=(0, 1))]).values.tolist() == [[0.5], [0.5]]


def test_an_interval_without_variance_is_a_point():
    assert Interval.of(0.0, 0.0, [(0.0, 3)]).p == 1
    point = Interval.of(2.0, 0.0, [(0.0, 3)])
    assert (point.low, point.high, point.p) == (2, 2, 0)


def test_p_are_corrected_within_each_measure(made):
    studies, kept, *_ = made
    claim = study_claim(kept, studies, n_draws=20)
    for differences in (claim.differences, claim.together):
        for measure in NAMES:
            family = [each for each in differences if each.measure == measure]
            expected = correct([each.any_seed.p for each in family], "holm")
            np.testing.assert_allclose([each.p_holm for each in family], expected)
    assert [d.epoch for d in claim.differences if d.measure == NAMES[0]] == ["1", "5", "10"] * 2
    assert [d.against for d in claim.together[:: len(NAMES)]] == ["resnet18", "resnet34"]


def test_the_verdict_has_three_cases(made):
    claim = study_claim(made[1], made[0], n_draws=20)
    template = claim.together[0]

    def difference(estimate, p):
        interval = replace(template.any_seed, estimate=estimate)
        return replace(template, any_seed=interval, p_holm=p)

    better, worse, unsure = difference(2.0, 0.01), difference(-2.0, 0.01), difference(9.0, 0.2)
    assert decide([better, unsure]) == BETTER
    assert decide([worse, unsure]) == WORSE
    assert decide([unsure]) == decide([better, worse]) == UNDECIDED
    said = {
        "**Yes: ResNet-20 predicts better.** ResNet-20 predicts better than ResNet-18": [better],
        "**No: ResNet-20 predicts worse.** ResNet-20 predicts worse than": [worse],
        "**These data cannot tell.** ResNet-20 is not told apart from ResNet-18 over epochs 1, 5, 10: +9.0": [
            unsure
        ],
        "**It depends on the other network.**": [better, unsure],
    }
    for text, together in said.items():
        assert text in claims.verdict(replace(claim, together=together, differences=[better]))
    some = claims.verdict(replace(claim, together=[unsure], differences=[better, unsure]))
    assert "Of the 2 differences at single epochs, these remain after correction: ResNet-18" in some


def test_layers_are_those_that_all_networks_have(made):
    *_, kept = made
    assert comparable_layers(kept[0], "92") == ("block1@32", "block4@32", "fc@32")
    pretrained = next(each for each in made[1] if each.epoch is None)
    assert comparable_layers(pretrained, "92") == tuple(pretrained.rdms("92"))


def test_epochs_are_those_of_the_paper_and_the_last_in_common(tmp_path):
    def plan(**epochs):
        names = {"r20": "resnet20", "r18": "resnet18", "d": "densenet121"}
        for key, of in epochs.items():
            for epoch in of:
                (tmp_path / f"{names[key]}-seed0-epoch{epoch:03d}.npz").touch()
        return plan_epochs(read_kept(tmp_path))

    with pytest.raises(NotComparable, match="no kept RDMs of resnet20 after epoch 10"):
        plan(r20=(1, 5))
    with pytest.raises(NotComparable, match="of trained networks other than resnet20"):
        plan(r20=(10, 60, 120))
    with pytest.raises(NotComparable, match="no kept RDMs of densenet121 after epochs 1, 5, 10"):
        plan(d=(60,))
    found = plan(r18=(1, 5, 10, 60, 120, 150), d=(1, 5))
    assert found == {
        "resnet20": [1, 5, 10, 60, 120],
        "resnet18": [1, 5, 10, 120],
        "densenet121": [1, 5, 60],
    }
    assert list(found) == ["resnet20", "resnet18", "densenet121"]


@pytest.mark.parametrize(
    ("network", "depth"),
    [("resnet18", 18), ("resnet20", 20), ("resnet34", 34), ("densenet121", 121)],
)
def test_depth_counts_weighted_layers_as_the_name_does(network, depth):
    layers = weighted_layers(network)
    assert layers["fc"] == depth
    assert set(TAPS[network]) <= set(layers)
    assert list(layers.values()) == sorted(layers.values())


def test_relative_depth_ends_at_one():
    np.testing.assert_allclose(
        relative_depths("resnet20", ["stem@32", "block1@48", "fc@32"]), [0.05, 0.35, 1]
    )
    np.testing.assert_allclose(
        relative_depths("other", ["a@1", "b@1", "a@2", "b@2"]), [0.5, 1, 0.5, 1]
    )


def test_correlations_draw_whole_runs(made):
    kept = made[3]
    rng = np.random.default_rng(0)
    x = rng.integers(5, size=len(kept)).astype(float)
    y = x + rng.normal(size=len(kept))
    assert spearman(x, y) == pytest.approx(spearmanr(x, y)[0])
    found = correlate("x", "score percent", kept, x, y, np.random.default_rng(1), 300)
    assert found.rho == pytest.approx(spearmanr(x, y)[0])
    assert (found.n_checkpoints, found.n_runs) == (18, 6)
    assert found.low < found.rho < found.high
    drawn = np.random.default_rng(1).integers(6, size=(300, 6))
    rows = [[3 * run + i for run in draw for i in range(3)] for draw in drawn]
    values = [spearmanr(x[row], y[row])[0] for row in rows]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    constant = correlate("x", "score percent", kept, np.ones(len(kept)), y, rng, 10)
    assert np.isnan([constant.rho, constant.low, constant.high]).all()


def test_the_section_is_the_same_each_time_and_has_every_part(made, tmp_path):
    studies, kept, *_ = made
    texts = [write_claim(kept, studies, tmp_path / name, n_draws=20) for name in ("a", "b")]
    assert texts[0] == texts[1]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "RESULTS-accuracy.png",
        "RESULTS-claim.csv",
        "RESULTS-differences.png",
        "RESULTS-layers.png",
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert f"({name})" in texts[0]
    assert texts[0].startswith("## Does the shallower network predict better?\n\n**")
    assert "{" not in texts[0]
    assert max(len(line) for line in texts[0].splitlines() if not line.startswith("|")) <= 120
    for text in ("ResNet-34 †", "EfficientNet-Lite0", "minus ResNet-20 after epoch 10", "20 draws"):
        assert text in texts[0]
    with (tmp_path / "a/RESULTS-claim.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    observed = observe(
        [Brain.of(s) for s in studies], [LayerChoice(k, comparable_layers(k, "92")) for k in kept]
    )
    row = next(r for r in rows if r["table"] == "checkpoint, judged on 118" and r["seed"] == "1")
    i = next(
        i
        for i, k in enumerate(kept)
        if (k.network, k.seed, str(k.epoch)) == (row["network"], 1, row["epoch"])
    )
    assert float(row["estimate"]) == pytest.approx(observed.held_out[i, 1, 0, 0], rel=1e-5)
    assert row["layers"] == observed.chosen[i][1][0]


def test_a_section_that_cannot_compare_says_why(made, tmp_path):
    studies, kept, *_ = made
    text = section([k for k in kept if k.network != "resnet20"], studies, tmp_path)
    assert text.endswith("Not compared: there are no kept RDMs of resnet20 after epoch 1.\n")
    text = section([k for k in kept if k.seed == 0], studies, tmp_path)
    assert "one of resnet18, resnet20, resnet34 needs at least two seeds" in text
    text = section(kept, studies[:1], tmp_path)
    assert "the claim needs two studies, one to choose layers and one to judge: 92" in text
    assert not list(tmp_path.iterdir())
    evc = replace(studies[1], targets={"evc": studies[1].targets["evc"]})
    assert "must have the same regions, not evc, it and evc" in section(
        kept, [studies[0], evc], tmp_path
    )
    fewer = {
        "evc": studies[0].targets["evc"],
        "it": Target(studies[0].targets["it"].subject_rdms[:4]),
    }
    odd = [replace(studies[0], targets=fewer), studies[1]]
    assert "the regions of study 92 must have the same subjects" in section(kept, odd, tmp_path)


def test_other_layers_are_refused(made, tmp_path):
    _, features = make_brains()
    path = tmp_path / "resnet20-seed0-epoch001.npz"
    write_kept(path, make_rdms(features, np.random.default_rng(0), 1, ("stem@32", "pool@32")))
    with pytest.raises(ValueError, match="has no layer block1 … or fc, only stem@32, pool@32"):
        comparable_layers(read_kept(tmp_path)[0], "92")


def test_errors_of_the_command_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claims, "find_data", lambda: None)
    assert main(["--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("claim: no data: set FASTRDM_DATA")
    assert not (tmp_path / "out").exists()


def test_kept_rdms_of_real_images_score_as_written_out(data_root):
    studies = open_studies(data_root, modality="fmri")
    kept = [k for k in read_kept(FOLDER) if k.name == "resnet20-seed1-epoch120"]
    if [s.name for s in studies] != ["92", "118"] or not kept:
        pytest.skip("the challenge's data or the kept RDMs are not there")
    brains = [Brain.of(study) for study in studies]
    candidate = LayerChoice(kept[0], comparable_layers(kept[0], "92")[:5])
    once = [np.ones(b.n_subjects, int) for b in brains], [np.ones(b.n_images, int) for b in brains]
    expected = oracle(studies, candidate, *once)
    np.testing.assert_allclose(observe(brains, [candidate]).values[0], expected, atol=1e-9)
