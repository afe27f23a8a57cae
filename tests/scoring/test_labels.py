import pytest

from fastrdm.scoring.path_labels import compile_labels
from fastrdm.scoring.resolver import Resolver, sources


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        (r"epoch(\d+)", r"epoch(?P<epoch>\d+)"),
        (r"seed_(\d+)/epoch(\d+)", r"seed_(?P<seed>\d+)/epoch(\d+)"),
        (r"(\d+)", r"(?P<label>\d+)"),
        (r"layer(\d+)", r"layer(?P<label>\d+)"),
        (r"[(](\d+)", r"epoch(?P<epoch>\d+)"),
        ("epoch", r"epoch(?P<epoch>\d+)"),
    ],
)
def test_a_pattern_without_a_named_group_is_refused_with_an_example(pattern, example):
    with pytest.raises(ValueError, match="has no named group") as caught:
        compile_labels(pattern)
    assert str(caught.value).endswith(f"write for example '{example}'")
    assert compile_labels(example).groupindex


def test_unnamed_groups_beside_named_ones_are_accepted():
    assert list(compile_labels(r"(epoch|step)(?P<n>\d+)").groupindex) == ["n"]
    assert not compile_labels("").groupindex


@pytest.mark.parametrize("name", ["layer", "region", "rho", "sha256", "rho_3", "precision", "key"])
def test_a_label_cannot_have_the_name_of_a_column(name):
    with pytest.raises(ValueError, match=f"a label cannot be named '{name}', which is a column"):
        compile_labels(rf"epoch(?P<{name}>\d+)")


def test_a_pattern_that_matches_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("epoch1.onnx", "epoch2.onnx"):
        (tmp_path / "runs" / name).touch()
    paths = [str(tmp_path / "runs"), str(tmp_path / "last.onnx")]
    with pytest.raises(ValueError, match=r"labels '.*' does not match any of 3 paths, .*epoch1\."):
        Resolver(paths, labels=r"step(?P<step>\d+)")
    with pytest.raises(ValueError, match=r"does not match \S*last\.onnx$"):
        Resolver(paths[1:], labels=r"epoch(?P<epoch>\d+)")
    with pytest.raises(ValueError, match="does not match any of 3 paths"):
        Resolver(paths, labels=r"(step(?P<step>\d+))?")
    jobs = list(Resolver(paths, labels=r"epoch(?P<epoch>\d+)").jobs())
    assert [dict(job.labels) for job in jobs] == [{"epoch": "1"}, {"epoch": "2"}, {}]
    (tmp_path / "m.toml").write_text(
        "[[network]]\nweights = 'runs'\nlabels = 'step(?P<step>.)'\n"
        "[[network]]\nweights = 'runs'\nlabels = 'epoch(?P<epoch>.)'\n"
    )
    with pytest.raises(ValueError, match=r"m\.toml: network 1: labels 'step"):
        Resolver([tmp_path / "m.toml"])


def test_the_first_checkpoint_that_appears_and_does_not_match_is_a_warning(tmp_path):
    resolver = Resolver([tmp_path], labels=r"epoch(?P<epoch>\d+)")
    assert list(resolver.jobs()) == []
    (tmp_path / "last.onnx").touch()
    with pytest.warns(RuntimeWarning, match=r"does not match the first checkpoint, .*last\.onnx"):
        assert len(list(resolver.jobs())) == 1
    assert len(list(resolver.jobs())) == 1


def test_while_watching_a_pattern_may_match_later(tmp_path):
    (tmp_path / "first.onnx").touch()
    resolver = Resolver([tmp_path], labels=r"epoch(?P<epoch>\d+)", watch=True)
    with pytest.warns(RuntimeWarning, match=r"does not match the first checkpoint, .*first\.onnx"):
        list(resolver.jobs())
    (tmp_path / "epoch1.onnx").touch()
    assert [dict(job.labels) for job in resolver.jobs()] == [{"epoch": "1"}, {}]


def test_options_of_a_manifests_networks_cannot_be_given_beside_manifests_alone(tmp_path):
    (tmp_path / "m.toml").write_text("[[network]]\nweights = 'a.onnx'\n")
    for options, name in (
        ({"labels": r"(?P<n>\d)"}, "labels"), ({"taps": ["fc"]}, "taps"), ({"arch": ["a:b"]}, "an architecture"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} cannot be given for manifests alone"):
            sources([tmp_path / "m.toml"], **options)
