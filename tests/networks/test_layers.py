import json
import sys
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrdm.cli import main
from fastrdm.networks import (
    Layer,
    NetworkLayers,
    compile_pattern,
    export_onnx,
    find_taps,
    group_reasons,
)
from fastrdm.networks.layers import Tokens

NAMES = ["stem", "layer1.0", "layer1.0.conv", "layer1.1", "layer1.10", "layer2.0", "layer1", "fc"]


def network(**shapes):
    layers = {name: Layer(name, "Op", shape) for name, shape in shapes.items()}
    return NetworkLayers("Net", "module", layers, (32, 32), {"vit.cls_token": (1, 1, 6)})


def choose(net, *taps):
    return net.choose(find_taps(taps, net.layers, net.name, net.kind))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("layer*.?", ["layer1.0", "layer1.1", "layer2.0"]),
        ("layer1.*", ["layer1.0", "layer1.1", "layer1.10"]),
        ("layer*", ["layer1"]),
        ("layer1.**", ["layer1.0", "layer1.0.conv", "layer1.1", "layer1.10"]),
        ("**.0", ["layer1.0", "layer2.0"]),
        ("**.conv", ["layer1.0.conv"]),
        ("**.fc", ["fc"]),
        ("layer[!2].[01]", ["layer1.0", "layer1.1"]),
        ("**", NAMES),
    ],
)
def test_what_patterns_match(text, names):
    assert [name for name in NAMES if compile_pattern(text, "module").fullmatch(name)] == names


def test_levels_of_a_tensor_are_separated_by_slashes():
    name = "/layer1/layer1.0/relu/Relu_output_0"
    for text, found in {
        "/layer*/layer*.?/relu/*": True,
        "/*/*/*/*": True,
        "/*": False,
        "/layer1/**": True,
        "/layer1/[!x]/relu/*": False,
        "**/Relu*": True,
        "/layer1/**/layer1.0/**": True,
        "/layer1**.0/**": True,
        "/layer1[.*/]layer1.0/**": True,
        "/layer1/layer1.[0/]/relu/*": True,
    }.items():
        assert bool(compile_pattern(text, "tensor").fullmatch(name)) == found, text


@given(st.text("ab*?[]!."), st.text("ab[]!."))
def test_within_a_level_patterns_match_as_in_the_shell(text, name):
    expected = fnmatchcase(name, text)
    assert bool(compile_pattern(text, "tensor").fullmatch(name)) == expected
    if "." not in name + text:
        assert bool(compile_pattern(text, "module").fullmatch(name)) == expected


@given(st.text(), st.text())
def test_an_existing_name_matches_only_itself(name, other):
    (request,) = find_taps([name], [other, name], "Net", "tensor")
    assert (request.matches, request.tokens, request.name) == ((name,), Tokens(), None)


def test_a_mean_leaves_out_class_and_register_tokens():
    net = network(tokens=(17, 6), pooled=(6,))
    assert [str(c.tokens) for c in choose(net, "tokens", "tokens@cls", "tokens@mean").values()] == [
        "flatten",
        "cls",
        "mean[1:]",
    ]
    with pytest.warns(UserWarning, match=r"skipped .* pooled: returns \(6,\)"):
        assert list(choose(net, "*@mean")) == ["tokens@mean"]


def test_a_pattern_does_not_repeat_layers():
    net = network(a=(2,), b=(2,))
    assert list(choose(net, "first=a", "*")) == ["first", "b"]
    assert list(choose(net, "?", "*")) == ["a", "b"]
    with pytest.raises(ValueError, match="taps names 'b' twice"):
        choose(net, "b=a", "*")


def test_reasons_are_given_once_with_the_first_names():
    reasons = {f"a{i}": "is odd" for i in range(5)} | {
        "b": "is even",
        "c": "is 0",
        "d": "x",
        "e": "y",
    }
    assert group_reasons(reasons) == (
        "a0, a1, a2 and 2 more: is odd; b: is even; c: is 0; 2 more for other reasons"
    )


def run(capsys, *arguments):
    status = main(["layers", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """A network in a separate module, for --arch."""
    folder = tmp_path_factory.mktemp("arch")
    (folder / "test_layers_network.py").write_text(
        "import torch\n"
        "nn = torch.nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 8, 8)\n"
        "        self.twice = nn.ReLU()\n"
        "        self.attend = nn.MultiheadAttention(4, 1, batch_first=True)\n"
        "        self.fc = nn.Linear(4, 2)\n"
        "    def forward(self, x):\n"
        "        x = self.twice(self.twice(self.conv(x))).flatten(2).transpose(1, 2)\n"
        "        return self.fc(self.attend(x, x, x)[0].mean(1))\n"
        "def build():\n"
        "    network = Net()\n"
        "    network.taps = ['first=conv', 'fc']\n"
        "    return network\n"
        "def untappable():\n"
        "    return nn.Identity()\n"
    )
    sys.path.insert(0, str(folder))
    import test_layers_network

    yield test_layers_network
    sys.path.remove(str(folder))


def test_layers_of_a_torch_network(capsys, module):
    status, lines, err = run(capsys, "--arch", "test_layers_network:build")
    assert status == 0
    assert [line.split() for line in lines] == [
        ["module", "operator", "shape", "channels", "MiB/100", "tapped", "as"],
        ["*", "conv", "Conv2d", "4", "×", "28", "×", "28", "3136", "1.2", "first"],
        ["twice#0", "ReLU", "4", "×", "28", "×", "28", "3136", "1.2"],
        ["twice#1", "ReLU", "4", "×", "28", "×", "28", "3136", "1.2"],
        ["attend", "MultiheadAttention[0]", "784", "×", "4", "3136", "1.2"],
        ["*", "fc", "Linear", "2", "2", "0.0", "fc"],
    ]
    assert "5 modules of Net at 224 × 224 pixels" in err
    assert "1 more cannot be tapped (attend.out_proj: does not run" in err


def test_layers_as_json(capsys, module):
    _, lines, _ = run(capsys, "--arch", "test_layers_network:build", "--json", "--match", "a*")
    assert json.loads("\n".join(lines)) == [
        {
            "name": "attend",
            "operator": "MultiheadAttention",
            "part": "0",
            "shape": [784, 4],
            "channels": 3136,
            "mib_per_100": 100 * 4 * 3136 / 2**20,
            "tap": None,
        }
    ]


def test_layers_of_an_exported_file(capsys, module, tmp_path):
    path = export_onnx(module.build(), tmp_path / "a.onnx", ["conv", "mean=attend@mean[1:]"], 16)
    _, lines, err = run(capsys, path)
    tapped = [line.split() for line in lines if line.startswith("*")]
    assert [(row[1], row[-1]) for row in tapped] == [
        ("conv", "conv"),
        ("mean", "attend[0]@mean[1:]"),
    ]
    assert f"tensors of {path} at 16 × 16 pixels" in err


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--match", "attention"], "Net has no module that matches 'attention'; nearest: attend"),
        (["--match", "[b-a]"], "'[b-a]' is not a pattern"),
    ],
)
def test_wrong_patterns(capsys, module, arguments, match):
    status, lines, err = run(capsys, "--arch", "test_layers_network:build", *arguments)
    assert (status, lines) == (1, [])
    assert match in err and err.count("\n") == 1


def test_a_network_without_layers(capsys, module):
    status, _, err = run(capsys, "--arch", "test_layers_network:untappable")
    assert status == 1 and "Identity has no module that matches '**'; nearest: none" in err


def test_one_network_at_a_time(capsys):
    for arguments in ([], ["a.onnx", "--arch", "a:b"]):
        with pytest.raises(SystemExit) as exit_:
            main(["layers", *arguments])
        assert exit_.value.code == 2
    capsys.readouterr()
