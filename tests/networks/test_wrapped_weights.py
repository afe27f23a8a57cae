"""Weights under any key and with any prefix are found if they fit, and what is taken is reported."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from fastrdm.networks import Layout, Selection, WeightsError, load_state_dict, load_weights
from fastrdm.networks.weights import read_fitting

nn = torch.nn


class Net(nn.Module):
    def __init__(self, n_classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
        self.fc = nn.Linear(4, n_classes)


def weights_of(seed=0, **options):
    torch.manual_seed(seed)
    net = Net(**options)
    net.bn.running_mean.uniform_(-1, 1)
    return net.state_dict()


def prefixed(weights, prefix):
    return OrderedDict((f"{prefix}{name}", value) for name, value in weights.items())


# Entries on which a tap of the block depends.
TAPPED = [name for name in weights_of() if not name.startswith("fc") and "num_b" not in name]
LAYOUT = Layout.of(Net())


def take(content, path, *, needed=TAPPED, **choice):
    """Save and fit; return the arrays and what was taken."""
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    selection = Selection.of(**choice)
    return read_fitting(path, LAYOUT, "net", needed=needed, selection=selection)


def assert_taken(content, path, expected, facts, **choice):
    arrays, taken = take(content, path, **choice)
    for name in TAPPED:
        np.testing.assert_array_equal(arrays[name], expected[name].numpy(), err_msg=name)
    assert taken.to_dict() == facts
    return taken.remarks


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pth"


@pytest.mark.parametrize(
    "key",
    ["net", "network", "teacher", "model", "weights", "state_dict", "model_state_dict", "params",
     "model.state_dict", "ckpt.model.backbone", "models.0"],
)  # fmt: skip
def test_weights_are_found_under_any_key_at_any_depth(path, key):
    weights = weights_of()
    content = {"epoch": 3, "best": torch.tensor(0.5)}
    inner = content
    *outer, last = key.split(".")
    for part in outer:
        inner[part] = inner = {"beside": 1}
    inner[last] = weights
    if key == "models.0":
        content = {"models": [weights]}
    assert assert_taken(content, path, weights, {"key": key}) == ()
    assert load_state_dict(path).keys() == weights.keys()
    assert load_weights(Net(), path).key == key


def test_the_only_one_that_fits_is_taken(path):
    weights = weights_of()
    other = {"encoder.weight": torch.ones(4, 3), "encoder.bias": torch.ones(4)}
    optimiser = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    content = {"critic": other, "net": weights, "optimizer": optimiser, "rng": torch.ones(8)}
    assert assert_taken(content, path, weights, {"key": "net"}) == ()


def test_several_that_fit_are_an_error_that_offers_key(path):
    student, teacher = weights_of(0), weights_of(1)
    content = {"student": student, "teacher": prefixed(teacher, "module.")}
    with pytest.raises(WeightsError) as caught:
        take(content, path)
    assert str(caught.value) == (
        f"{path}: several state dicts fit net: student, teacher; choose one with --key NAME (key=)"
    )
    assert_taken(content, path, student, {"key": "student"}, key="student")
    facts = {"key": "teacher", "prefix": "module."}
    assert_taken(content, path, teacher, facts, key="teacher")
    with pytest.raises(WeightsError, match="no state dict under the key 'tacher'; there are"):
        take(content, path, key="tacher")


def test_one_state_dict_under_two_keys_is_no_choice(path):
    weights = weights_of()
    assert_taken({"model": weights, "best": weights}, path, weights, {"key": "model"})


@pytest.mark.parametrize("key", ["", "model"])
def test_weights_in_numpy_arrays_are_named(path, key):
    arrays = {name: value.numpy() for name, value in weights_of().items()}
    place = f"under {key}" if key else "at the top level"
    with pytest.raises(
        WeightsError,
        match=rf"the weights {place} are NumPy arrays, not tensors; save tensors: torch",
    ):
        take({key: arrays, "author": "me"} if key else arrays, path)


def test_an_empty_dict_is_named(path):
    with pytest.raises(WeightsError, match="under any key; it is an empty dict$"):
        take({}, path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("text", "match"),
    [("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", "is a Git LFS pointer"),
     ("\n<!DOCTYPE html>\n<title>404</title>", "is a web page, not weights")],
)  # fmt: skip
def test_what_stands_in_place_of_a_download_is_named(tmp_path, suffix, text, match):
    path = tmp_path / f"a{suffix}"
    path.write_text(text)
    with pytest.raises(WeightsError, match=match):
        read_fitting(path, LAYOUT, "net")
    with pytest.raises(WeightsError, match=match):
        load_state_dict(path)


def test_the_key_of_the_top_level_is_explained(path):
    with pytest.raises(
        WeightsError, match=r"there are state dicts under \"\.\" \(the top level\)$"
    ):
        take(weights_of(), path, key="model")


def test_a_key_can_lead_to_the_one_below_it_and_to_the_top_level(path):
    first, second = weights_of(0), weights_of(1)
    content = {"a": {"net": first}, "b": {"net": second}, **prefixed(second, "x.")}
    assert_taken(content, path, first, {"key": "a.net"}, key="a")
    assert_taken(content, path, second, {"prefix": "x."}, key=".")


def test_when_none_fits_the_differences_of_each_are_listed(path):
    small = {"conv.weight": torch.ones(4, 3, 5, 5), "other": torch.ones(3)}
    with pytest.raises(WeightsError) as caught:
        take({"net": small, "critic": {"w": torch.ones(2)}}, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: none of its 2 state dicts fits net: ")
    assert (
        "under critic (missing: conv.weight, conv.bias, bn.weight and 7 more; unexpected: w)"
        in message
    )
    assert "of another shape: conv.weight (4, 3, 5, 5) for (4, 3, 3, 3)" in message
    assert message.endswith("; --key NAME (key=) chooses one")
    with pytest.raises(WeightsError, match=r"a\.pth \(under net\) does not fit net; missing: "):
        take({"net": small}, path)
    with pytest.raises(WeightsError, match="holds no state dict .* under any key; it holds epoch"):
        take({"epoch": 3, "lr": [0.1]}, path)


EMA = {
    "timm": ("state_dict", "state_dict_ema"),
    "torchvision": ("model", "model_ema"),
    "plain": ("net", "ema"),
    "long": ("model_state_dict", "ema_state_dict"),
    "swa": ("model", "swa_model"),
    "camel": ("model", "modelEma"),
}


@pytest.mark.parametrize("names", EMA.values(), ids=list(EMA))
def test_averaged_weights_beside_others_are_never_passed_over_silently(path, names):
    raw, ema = names
    weights, averaged = weights_of(0), weights_of(1)
    content = {raw: weights, ema: averaged}
    remarks = assert_taken(content, path, weights, {"key": raw, "ema": "no"})
    assert remarks == (
        f"{path}: took the weights under {raw}, not the averaged (EMA) ones under {ema}, which --ema (ema=True) takes",
    )
    assert assert_taken(content, path, averaged, {"key": ema, "ema": "yes"}, ema=True) == ()
    assert assert_taken(content, path, averaged, {"key": ema, "ema": "yes"}, key=ema) == ()
    torch.testing.assert_close(load_state_dict(path, ema=True)["fc.bias"], averaged["fc.bias"])
    with pytest.warns(
        RuntimeWarning, match=rf"not the averaged \(EMA\) ones under {ema}, which ema"
    ):
        found = load_state_dict(path)
    torch.testing.assert_close(found["fc.bias"], weights["fc.bias"])


def test_averaged_weights_below_a_key_and_with_a_prefix(path):
    weights, averaged = weights_of(0), weights_of(1)
    content = {"model": prefixed(weights, "module."), "ema": {"module": averaged, "decay": 0.99}}
    remarks = assert_taken(
        content, path, weights, {"key": "model", "prefix": "module.", "ema": "no"}
    )
    assert "ones under ema.module, which" in remarks[0]
    assert_taken(content, path, averaged, {"key": "ema.module", "ema": "yes"}, ema=True)


@pytest.mark.parametrize("prefix", ["model_ema.module.", "ema_model.", "ema.ema_model."])
def test_averaged_weights_in_the_same_state_dict(path, prefix):
    weights, averaged = weights_of(0), weights_of(1)
    content = {"state_dict": prefixed(weights, "model.") | prefixed(averaged, prefix)}
    facts = {"key": "state_dict", "prefix": "model.", "ema": "no"}
    (remark,) = assert_taken(content, path, weights, facts)
    assert f"the averaged (EMA) ones under state_dict with the prefix '{prefix}'" in remark
    facts = {"key": "state_dict", "prefix": prefix, "ema": "yes"}
    assert_taken(content, path, averaged, facts, ema=True)
    content = weights | prefixed(averaged, prefix)
    (remark,) = assert_taken(content, path, weights, {"ema": "no"})
    assert_taken(content, path, averaged, {"prefix": prefix, "ema": "yes"}, ema=True)


def test_the_raw_weights_that_ema_pytorch_keeps_are_not_taken_as_averaged(path):
    raw, average = weights_of(0), weights_of(1)
    kept = prefixed(raw, "online_model.") | prefixed(average, "ema_model.")
    content = {"model": raw, "ema": {"initted": torch.tensor(True)} | kept}
    (remark,) = assert_taken(content, path, raw, {"key": "model", "ema": "no"})
    assert "not the averaged (EMA) ones under ema with the prefix 'ema_model.', which" in remark
    facts = {"key": "ema", "prefix": "ema_model.", "ema": "yes"}
    assert_taken(content, path, average, facts, ema=True)


@pytest.mark.parametrize("key", ["ema", "average"])
def test_averaged_weights_without_names_are_named(path, key):
    weights = weights_of()
    content = {"model": weights, key: {"decay": 0.9, "shadow_params": [*weights.values()]}}
    (remark,) = assert_taken(content, path, weights, {"key": "model", "ema": "no"})
    assert remark == (
        f"{path}: took the weights under model, not the averaged (EMA) ones under {key}.shadow_params, "
        "which are a list without names"
    )
    if key == "ema":
        with pytest.raises(
            WeightsError, match=r"under ema\.shadow_params are a list without names"
        ):
            take(content, path, ema=True)


def test_a_file_with_averaged_weights_alone(path):
    averaged = weights_of()
    facts = {"key": "model_ema", "ema": "yes"}
    (remark,) = assert_taken({"model_ema": averaged}, path, averaged, facts)
    assert remark == (
        f"{path}: took the averaged (EMA) weights under model_ema, because no others fit net"
    )
    assert assert_taken({"model_ema": averaged}, path, averaged, facts, ema=True) == ()
    with pytest.raises(WeightsError, match=r"holds no EMA weights for --ema .*; its keys are net$"):
        take({"net": averaged}, path, ema=True)


def test_models_of_swa_utils(path):
    torch.manual_seed(3)
    net = Net()
    averaged = AveragedModel(net).state_dict()
    assert "n_averaged" in averaged
    (remark,) = assert_taken(averaged, path, net.state_dict(), {"prefix": "module.", "ema": "yes"})
    assert remark.startswith(f"{path}: took the averaged (EMA) weights with the prefix 'module.'")
    other = weights_of(5)
    content = {"model": other, "average": averaged}
    assert_taken(content, path, other, {"key": "model", "ema": "no"})


def test_lightnings_averages_take_the_place_of_the_raw_weights(path):
    raw, averaged = prefixed(weights_of(0), "model."), prefixed(weights_of(1), "model.")
    content = {
        "state_dict": averaged, "current_model_state": raw,
        "averaging_state": {"n_averaged": torch.tensor(7)},
    }  # fmt: skip
    facts = {"key": "current_model_state", "prefix": "model.", "ema": "no"}
    assert len(assert_taken(content, path, weights_of(0), facts)) == 1
    facts = {"key": "state_dict", "prefix": "model.", "ema": "yes"}
    assert_taken(content, path, weights_of(1), facts, ema=True)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "_orig_mod.", "net.", "encoder.", "backbone.", "any.common.one.",
     "module._orig_mod.model."],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefixes_of_all_names_are_removed(tmp_path, prefix, suffix):
    weights = weights_of()
    path = tmp_path / f"a{suffix}"
    assert assert_taken(prefixed(weights, prefix), path, weights, {"prefix": prefix}) == ()


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"]
)
def test_wrappers_of_inner_modules_are_removed(path, wrapper):
    weights = weights_of()
    inner = {name.replace("block.", f"block.{wrapper}."): each for name, each in weights.items()}
    assert assert_taken(inner, path, weights, {}) == ()
    prefix = f"module.{wrapper}."
    assert assert_taken(prefixed(inner, prefix), path, weights, {"prefix": prefix}) == ()


def test_a_compiled_inner_module_as_torch_saves_it(path):
    net = Net()
    weights = net.state_dict()
    net.block = torch.compile(net.block)
    assert "block._orig_mod.0.weight" in net.state_dict()
    assert_taken(net.state_dict(), path, weights, {})


def test_a_prefix_that_the_network_has_is_kept(tmp_path):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Net()

    torch.manual_seed(0)
    wrapped = Wrapped()
    torch.save(wrapped.state_dict(), tmp_path / "a.pth")
    assert load_weights(Wrapped(), tmp_path / "a.pth").prefix == ""
    torch.save(prefixed(wrapped.state_dict(), "model."), tmp_path / "b.pth")
    assert load_weights(Wrapped(), tmp_path / "b.pth").prefix == "model."
    torch.save(weights_of(), tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=r"does not fit Wrapped; missing: model\.conv\.weight"):
        load_weights(Wrapped(), tmp_path / "c.pth")


def test_names_that_fit_without_a_prefix_alone_are_not_stripped(path):
    weights = weights_of()
    part = {name: value for name, value in weights.items() if not name.startswith("conv")}
    with pytest.raises(
        WeightsError, match=r"\(with the prefix 'model\.'\) does not fit net; missing: c"
    ):
        take(prefixed(part, "model."), path)


def test_a_prefix_that_some_names_have(path):
    weights = weights_of()
    beside = {"criterion.weight": torch.ones(5), "metrics.total": torch.ones(2)}
    content = {"state_dict": prefixed(weights, "model.") | beside}
    facts = {"key": "state_dict", "prefix": "model."}
    for choice in ({}, {"prefix": "model."}, {"prefix": "model"}):
        (remark,) = assert_taken(content, path, weights, facts, **choice)
        assert remark == (
            f"{path}: took the entries with the prefix 'model.' and ignored 2 others: "
            "criterion.weight, metrics.total"
        )
    torch.save(content, path)
    for prefix in ("model.", "model"):
        assert load_state_dict(path, prefix=prefix).keys() == weights.keys()


def test_several_prefixes_that_fit_are_an_error_that_offers_prefix(path):
    query, key = weights_of(0), weights_of(1)
    content = {
        "state_dict": prefixed(query, "module.encoder_q.") | prefixed(key, "module.encoder_k.")
    }
    with pytest.raises(
        WeightsError, match=r"'module\.encoder_q\.', .*choose one with --prefix TEXT"
    ):
        take(content, path)
    facts = {"key": "state_dict", "prefix": "module.encoder_k."}
    assert_taken(content, path, key, facts, prefix="module.encoder_k.")


def test_a_prefix_is_forced(path):
    weights = weights_of()
    both = weights | prefixed(weights_of(1), "teacher.")
    facts = {"prefix": "teacher."}
    assert_taken(both, path, weights_of(1), facts, prefix="teacher.")
    with pytest.raises(WeightsError, match=r"unexpected: teacher\.conv\.weight"):
        take(both, path, prefix="")
    with pytest.raises(WeightsError, match=r"does not fit net; no entry has the prefix 'x\.': "):
        take(weights, path, prefix="x.")
    torch.save(weights, path)
    with pytest.raises(WeightsError, match=r"no entry has the prefix 'x\.'"):
        load_state_dict(path, prefix="x.")


HEADS = {
    "other size": lambda weights: weights_of(n_classes=10),
    "missing": lambda weights: {k: v for k, v in weights.items() if not k.startswith("fc")},
    "deeper": lambda weights: without_head(weights) | {"fc.0.weight": torch.ones(3, 4)},
    "of another name": lambda weights: without_head(weights) | {"head.weight": torch.ones(2, 4)},
    "with more": lambda weights: weights | {"aux_classifier.0.weight": torch.ones(2, 4)},
}


def without_head(weights):
    return {name: value for name, value in weights.items() if not name.startswith("fc")}


@pytest.mark.parametrize("change", HEADS.values(), ids=list(HEADS))
def test_heads_that_no_tap_needs_may_differ(path, change):
    weights = weights_of()
    content = change(weights)
    arrays, taken = take({"state_dict": prefixed(content, "module.")}, path)
    for name in TAPPED:
        np.testing.assert_array_equal(arrays[name], content[name].numpy())
    (remark,) = taken.remarks
    assert remark.startswith(f"{path}: left out ")
    assert remark.endswith("because no tapped layer depends on them")
    assert taken.to_dict()["missing"] == ", ".join(taken.missing)
    if not content.keys() >= weights.keys() or content["fc.bias"].shape != (5,):
        with pytest.raises(WeightsError, match=r"does not fit net"):
            take(content, path, needed=list(weights))


def test_allowed_entries_may_be_missing_without_a_warning(path):
    content = without_head(weights_of()) | {"queue": torch.ones(3), "x.y.z": torch.ones(2)}
    with pytest.raises(WeightsError, match=r"does not fit net; unexpected: queue, x\.y\.z$"):
        take(content, path)
    choice = {"allow_missing": ["fc*", "queue", "x.**"]}
    facts = {"missing": "fc.weight, fc.bias, queue, x.y.z"}
    assert assert_taken(content, path, weights_of(), facts, **choice) == ()
    with pytest.raises(
        WeightsError,
        match=r"missing: fc\.weight, fc\.bias; tapped layers depend on them: .* or tap others",
    ):
        take(content, path, needed=list(weights_of()), **choice)


def test_a_tapped_head_of_another_size_is_named_once_for_several_state_dicts(path):
    content = {"net": weights_of(0, n_classes=7), "ema": weights_of(1, n_classes=7)}
    with pytest.raises(
        WeightsError, match="none of its 2 state dicts fits net: under net"
    ) as error:
        take(content, path, needed=list(weights_of()))
    assert str(error.value).endswith(
        "; tapped layers depend on them: build the network with the same head, or tap others with --taps (taps=)"
    )
    assert "--key" not in str(error.value)


def test_parts_of_a_larger_network_are_not_heads(path):
    deeper = weights_of() | {"block.2.weight": torch.ones(4, 4, 1, 1)}
    with pytest.raises(WeightsError, match=r"does not fit net; unexpected: block\.2\.weight$"):
        take(deeper, path)
    arrays, taken = take(deeper, path, needed=[n for n in TAPPED if not n.startswith("block")])
    assert taken.missing == ("block.2.weight",)
    assert "conv.weight" in arrays


def test_an_exact_fit_goes_before_one_in_part(path):
    weights, other = weights_of(0), weights_of(1, n_classes=7)
    assert_taken({"a": other, "b": weights}, path, weights, {"key": "b"})


def test_load_weights_without_taps_needs_all_but_what_is_allowed(tmp_path):
    torch.save(weights_of(n_classes=7), tmp_path / "a.pth")
    net = Net()
    with pytest.raises(WeightsError, match=r"of another shape: fc\.weight \(7, 4\) for \(5, 4\)"):
        load_weights(net, tmp_path / "a.pth")
    taken = load_weights(net, tmp_path / "a.pth", allow_missing=["fc"])
    assert (taken.missing, taken.remarks) == (("fc.weight", "fc.bias"), ())
    assert torch.equal(net.conv.weight, weights_of(n_classes=7)["conv.weight"])
    with pytest.warns(RuntimeWarning, match=r"a\.pth: left out fc\.weight, fc\.bias"):
        taken = load_weights(net, tmp_path / "a.pth", needed=lambda: TAPPED)
    assert len(taken.remarks) == 1


def test_without_a_network_the_keys_are_listed(tmp_path):
    torch.save({"a": weights_of(), "b": weights_of()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"several state dicts, choose one with --key .*: a, b$"):
        load_state_dict(tmp_path / "a.pth")
    assert load_state_dict(tmp_path / "a.pth", key="b").keys() == weights_of().keys()
    with pytest.raises(WeightsError, match=r"holds no EMA weights; its keys are a, b"):
        load_state_dict(tmp_path / "a.pth", ema=True)


@pytest.mark.parametrize(
    ("choice", "match"),
    [({"key": 3}, "key must be a string"), ({"key": ""}, "top level of a file is"),
     ({"ema": "yes"}, "ema must be True or False"), ({"allow_missing": [3]}, "allow_missing must")],
)  # fmt: skip
def test_choices_are_checked(choice, match):
    with pytest.raises((TypeError, ValueError), match=match):
        Selection.of(**choice)
