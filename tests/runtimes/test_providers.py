"""Providers as they are here, and stand-ins for those of machines that are not."""

import builtins
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fastrdm.networks import Graph
from fastrdm.runtimes import PROVIDERS, open_session, probe_graph, provider_table, providers

REAL = onnxruntime.InferenceSession
ONES = np.ones((1, 16, 8, 8), np.float32)
PLUGINS = {
    "onnxruntime_ep_openvino",
    "onnxruntime_ep_migraphx",
    "onnxruntime_ep_nv_tensorrt_rtx",
    "openvino",
}


@pytest.fixture
def nothing_else(monkeypatch):
    """An installation of ONNX Runtime for the CPU, with no plug-ins."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in PLUGINS else real(name)
    )
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    providers._probed.cache_clear()
    yield
    providers._probed.cache_clear()


@pytest.fixture
def pretend(monkeypatch, nothing_else):
    """Make sessions that run on the CPU but report another provider."""

    def install(
        name, *, builtin=True, loads=True, reported=None, left_to_the_cpu=(), before_1_24=False
    ):
        """What sessions were asked for is returned: provider, options, and whether ONNX Runtime may fall back."""
        asked = []

        class Session:
            def __init__(
                self, model, settings, providers=(name,), provider_options=({},), enable_fallback=1
            ):
                asked.append((providers[0], provider_options[0], enable_fallback))
                self._real = REAL(model, settings)
                self._name, self._options = "CPUExecutionProvider", {}
                if providers[0] == name and loads:
                    self._name, self._options = name, {**provider_options[0], **(reported or {})}

            def __getattr__(self, attribute):
                return getattr(self._real, attribute)

            def get_providers(self):
                return [self._name]

            def get_provider_options(self):
                return {self._name: self._options}

            def get_provider_graph_assignment_info(self):
                nodes = [types.SimpleNamespace(op_type=op, name=f"/{op}") for op in left_to_the_cpu]
                part = {"ep_name": "CPUExecutionProvider", "get_nodes": lambda: nodes}
                return [types.SimpleNamespace(**part)]

        if before_1_24:
            del Session.get_provider_graph_assignment_info
        available = [*([name] if builtin else []), "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        return asked

    return install


def test_unknown_providers_and_precisions():
    with pytest.raises(ValueError, match="provider 'gpu' is not one of: auto, cpu, cuda"):
        open_session(probe_graph(), "gpu")
    with pytest.raises(ValueError, match="precision 'int8' is not one of: fp32, tf32"):
        open_session(probe_graph(), "cpu", precision="int8")


@pytest.mark.parametrize("options", [{"a": 1}, {2: "b"}, ["a"]])
def test_options_are_strings(options):
    with pytest.raises(TypeError, match="provider_options must map strings to strings, not"):
        open_session(probe_graph(), "cpu", options=options)


def test_options_need_a_named_provider_with_options(nothing_else):
    with pytest.raises(
        ValueError, match="option 'device_id' belongs to one provider; name the provider"
    ):
        open_session(probe_graph(), options={"device_id": "0"})
    with pytest.raises(ValueError, match="provider 'cpu' has no options; remove 'device_id'"):
        open_session(probe_graph(), "cpu", options={"device_id": "0"})


@pytest.mark.parametrize("word", sorted(PROVIDERS))
def test_a_provider_is_used_or_an_error_names_its_package(word, nothing_else):
    if word != "cpu":
        with pytest.raises(ValueError, match=f"'{word}'; install it with: pip install "):
            open_session(probe_graph(), word)
    else:
        opened = open_session(probe_graph(), word)
        assert (opened.provider, opened.precision) == ("cpu", "fp32")
        assert opened.package == "onnxruntime"


@pytest.mark.parametrize("word", sorted(PROVIDERS))
def test_a_precision_that_a_provider_does_not_support(word):
    able = PROVIDERS[word].precisions
    assert "fp32" in able
    for precision in set(provider_table.PRECISIONS) - set(able):
        with pytest.raises(
            ValueError, match=f"'{word}' supports {' or '.join(able)}, not {precision}"
        ):
            open_session(probe_graph(), word, precision=precision)


def test_auto_takes_no_provider_of_another_precision(nothing_else):
    with pytest.raises(ValueError, match="auto finds no provider with bf16; by name: migraphx, "):
        open_session(probe_graph(), precision="bf16")


def test_the_cpu_does_not_round():
    session = open_session(probe_graph(), "cpu", n_threads=1).session
    np.testing.assert_array_equal(
        session.run(None, {"x": ONES})[0][0, :3, 0, 0], 1 + 2.0 ** -np.array([7, 10, 23])
    )


def test_never_silently_on_the_cpu(pretend):
    pretend("CUDAExecutionProvider", loads=False)
    with pytest.raises(ValueError, match=r"CUDAExecutionProvider does not load.*fastrdm\[cuda\]"):
        open_session(probe_graph(), "cuda")


def test_auto_takes_the_first_provider_that_loads(pretend):
    asked = pretend("CUDAExecutionProvider", loads=False)
    assert open_session(probe_graph()).provider == "cpu"
    assert [name for name, _, _ in asked] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    pretend("ROCMExecutionProvider")
    assert open_session(probe_graph()).provider == "rocm"


@pytest.mark.skipif(sys.platform == "win32", reason="libraries have other names")
def test_a_missing_library_is_named(pretend, tmp_path, monkeypatch, capfd):
    asked = pretend("CUDAExecutionProvider")
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: builtins.print("noise"))
    with pytest.raises(
        ValueError, match=r"libraries of CUDAExecutionProvider do not load \(.*providers_cuda"
    ):
        open_session(probe_graph(), "cuda")
    # ONNX Runtime would print an error, so it is not called.
    assert not asked and capfd.readouterr() == ("", "")


def test_the_binding_itself_must_not_fall_back(pretend):
    asked = pretend("CUDAExecutionProvider")
    open_session(probe_graph(), "cuda")
    assert asked[0][2] == 0


@pytest.mark.parametrize(
    ("word", "name", "precision", "options"),
    [
        ("cuda", "CUDAExecutionProvider", None, {"use_tf32": "0"}),
        ("cuda", "CUDAExecutionProvider", "tf32", {"use_tf32": "1"}),
        ("rocm", "ROCMExecutionProvider", None, {}),
        ("migraphx", "MIGraphXExecutionProvider", None, {}),
        ("migraphx", "MIGraphXExecutionProvider", "fp16", {"migraphx_fp16_enable": "1"}),
        ("migraphx", "MIGraphXExecutionProvider", "bf16", {"migraphx_bf16_enable": "1"}),
        ("tensorrt", "TensorrtExecutionProvider", "tf32", {}),
        ("tensorrt", "TensorrtExecutionProvider", "fp16", {"trt_fp16_enable": "1"}),
        ("tensorrt", "TensorrtExecutionProvider", "bf16", {"trt_bf16_enable": "1"}),
        ("coreml", "CoreMLExecutionProvider", None, {"ModelFormat": "MLProgram"}),
    ],
)
def test_precisions_become_options_of_the_provider(pretend, word, name, precision, options):
    asked = pretend(name)
    opened = open_session(probe_graph(), word, precision=precision, options={"device_id": "0"})
    assert asked[0][:2] == (name, {**options, "device_id": "0"})
    assert (opened.provider, opened.precision) == (word, precision or "fp32")


def test_a_precision_has_its_own_argument(pretend):
    pretend("CUDAExecutionProvider")
    with pytest.raises(ValueError, match="'cuda' sets the option 'use_tf32'"):
        open_session(probe_graph(), "cuda", options={"use_tf32": "1"})


def test_a_session_that_reports_another_precision(pretend):
    pretend("CUDAExecutionProvider", reported={"use_tf32": "True"})
    with pytest.raises(ValueError, match="onnxruntime-gpu has use_tf32=1, so not fp32"):
        open_session(probe_graph(), "cuda")


@pytest.mark.parametrize(
    ("word", "name", "precision", "variable", "needed", "match"),
    [
        ("tensorrt", "Tensorrt", "fp32", "NVIDIA_TF32_OVERRIDE", "0", "to be 0"),
        ("tensorrt", "Tensorrt", "tf32", "NVIDIA_TF32_OVERRIDE", "", "to be unset"),
        ("cuda", "CUDA", "tf32", "NVIDIA_TF32_OVERRIDE", "", "to be unset"),
        ("migraphx", "MIGraphX", "fp32", "ORT_MIGRAPHX_FP16_ENABLE", "", "to be unset"),
    ],
)
def test_the_environment_must_agree(
    pretend, monkeypatch, word, name, precision, variable, needed, match
):
    pretend(f"{name}ExecutionProvider")
    monkeypatch.setenv(variable, "" if needed else "0")
    with pytest.raises(
        ValueError, match=f"{precision} on {word} needs the environment variable {variable} {match}"
    ):
        open_session(probe_graph(), word, precision=precision)
    monkeypatch.setenv(variable, needed)
    assert open_session(probe_graph(), word, precision=precision).provider == word


def test_work_left_to_the_cpu(pretend):
    pretend("CUDAExecutionProvider", left_to_the_cpu=["Shape", "Conv", "MatMul"])
    with pytest.raises(
        ValueError,
        match="'cuda' leaves 2 convolutions or .* of probe to the CPU, first Conv '/Conv'",
    ):
        open_session(probe_graph(), "cuda")
    # The request fails there, too, but auto continues with the CPU.
    assert open_session(probe_graph()).provider == "cpu"
    pretend("CUDAExecutionProvider", left_to_the_cpu=["Shape", "Gather"])
    assert open_session(probe_graph(), "cuda").provider == "cuda"


def test_before_1_24_nothing_may_be_left_to_the_cpu(pretend):
    pretend("CUDAExecutionProvider", before_1_24=True)
    with pytest.raises(
        ValueError, match=r"'cuda' leaves nodes of probe to the CPU, .*with 1\.24 or newer"
    ):
        open_session(probe_graph(), "cuda")
    assert open_session(probe_graph(), "cpu").provider == "cpu"


def test_a_refused_option_is_named(pretend, monkeypatch):
    pretend("CUDAExecutionProvider")

    def refuse(*args, **kwargs):
        raise RuntimeError("somewhere.cc:12\n Unknown provider option: nonsense.")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(
        ValueError, match="'cuda' refuses the option 'nonsense': .*Unknown"
    ) as error:
        open_session(probe_graph(), "cuda", options={"nonsense": "1"})
    assert "\n" not in str(error.value)


class Device:
    def __init__(self, name, **metadata):
        self.ep_name, self.ep_metadata = name, metadata


@pytest.fixture
def plug_in(monkeypatch, pretend):
    """Have a plug-in package that finds these devices once it is registered.

    Registered libraries are returned, and the devices and options of each session.
    """

    def install(module, name, devices):
        package = types.ModuleType(module)
        package.get_ep_name = lambda: name
        package.get_library_path = lambda: f"/{module}.so"
        pretend(name, builtin=False)
        monkeypatch.setitem(sys.modules, module, package)
        real = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda each: package if each == module else real(each)
        )
        registered, chosen = [], []

        def register(called, path):
            if registered:
                raise RuntimeError("EP library is already registered under that name")
            registered.append(path)

        class Settings(onnxruntime.SessionOptions):
            def add_provider_for_devices(self, devices, options):
                chosen.append((devices, options))

        monkeypatch.setattr(
            onnxruntime, "register_execution_provider_library", register, raising=False
        )
        monkeypatch.setattr(
            onnxruntime, "get_ep_devices", lambda: devices if registered else [], raising=False
        )
        monkeypatch.setattr(onnxruntime, "SessionOptions", Settings)
        return registered, chosen

    return install


def test_a_plug_in_is_registered_once_and_gets_the_device(plug_in):
    devices = [Device("TRT", number=i) for i in range(2)]
    registered, chosen = plug_in("onnxruntime_ep_nv_tensorrt_rtx", "TRT", devices)
    for number in range(2):
        open_session(
            probe_graph(),
            "tensorrt",
            precision="tf32",
            options={"device_id": str(number), "a": "b"},
        )
        assert chosen[-1] == ([devices[number]], {"device_id": str(number), "a": "b"})
    assert registered == ["/onnxruntime_ep_nv_tensorrt_rtx.so"]
    with pytest.raises(ValueError, match="device_id is 2, but there are only 2 devices"):
        open_session(probe_graph(), "tensorrt", precision="tf32", options={"device_id": "2"})
    with pytest.raises(
        ValueError, match="onnxruntime-ep-nv-tensorrt-rtx supports fp32 or tf32, not"
    ):
        open_session(probe_graph(), "tensorrt", precision="bf16")


def test_a_plug_in_that_supports_no_device_here(plug_in):
    registered, _ = plug_in("onnxruntime_ep_openvino", "OV", [])
    for _ in range(2):
        with pytest.raises(
            ValueError,
            match=r"ep-openvino finds no CPU that it supports .*Intel's.*fastrdm\[openvino\]",
        ):
            open_session(probe_graph(), "openvino")
    assert len(registered) == 1


def test_a_plug_in_that_does_not_load(plug_in, monkeypatch):
    plug_in("onnxruntime_ep_openvino", "OV", [])

    def fail(called, path):
        raise RuntimeError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", fail, raising=False)
    with pytest.raises(ValueError, match=r"ep-openvino does not load: libtbb\.so\.12: cannot open"):
        open_session(probe_graph(), "openvino")


def test_a_registered_plug_in_is_not_mistaken_for_a_builtin_provider(plug_in, monkeypatch):
    """ONNX Runtime 1.32 lists it as available, but runs on the CPU if it is requested by name."""
    name = "OpenVINOExecutionProvider"
    device = Device(name, ov_device="CPU", library_path="/elsewhere/plugin.so")
    registered, chosen = plug_in("onnxruntime_ep_openvino", name, [device])
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: [name] if registered else []
    )
    for _ in range(2):
        assert open_session(probe_graph(), "openvino").package == "onnxruntime-ep-openvino"
    assert chosen


def test_a_plug_in_inside_onnx_runtime(pretend, monkeypatch):
    """As CUDA's since 1.32: registered when the module is imported."""
    pretend("CUDAExecutionProvider")
    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda_plugin.so"
    device = Device("CUDAExecutionProvider", library_path=str(library))
    chosen = []
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [device], raising=False)
    monkeypatch.setattr(
        onnxruntime.SessionOptions,
        "add_provider_for_devices",
        lambda self, devices, options: chosen.append((devices, options)),
        raising=False,
    )
    assert open_session(probe_graph(), "cuda").package == "onnxruntime-gpu"
    assert chosen == [([device], {"use_tf32": "0"})]


def test_options_passed_to_openvino(plug_in):
    devices = [Device("OV", ov_device="GPU"), Device("OV", ov_device="CPU")]
    _, chosen = plug_in("onnxruntime_ep_openvino", "OV", devices)
    open_session(probe_graph(), "openvino", n_threads=3)
    (device,), options = chosen[0]
    assert device is devices[1] and list(options) == ["load_config"]
    assert json.loads(options["load_config"]) == {
        "CPU": {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": "3",
            "ENABLE_CPU_PINNING": "NO",
        }
    }
    properties = {"CPU": {"ENABLE_CPU_PINNING": "YES", "NUM_STREAMS": "1"}, "GPU": {"A": "b"}}
    open_session(probe_graph(), "openvino", options={"load_config": json.dumps(properties)})
    config = json.loads(chosen[-1][1]["load_config"])
    assert config["GPU"] == {"A": "b"} and config["CPU"] == {
        **properties["CPU"],
        "INFERENCE_PRECISION_HINT": "f32",
    }


def test_openvino_with_another_precision(plug_in):
    """The stand-in computes on the CPU, in fp32."""
    plug_in("onnxruntime_ep_openvino", "OV", [Device("OV", ov_device="CPU")])
    with pytest.raises(
        ValueError, match="runs fp32 instead of bf16 on this CPU, which supports fp32$"
    ):
        open_session(probe_graph(), "openvino", precision="bf16")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"cache_dir": "/tmp"}, "'openvino' has no option 'cache_dir'; it has device_type"),
        ({"device_type": "AUTO"}, "device_type must be CPU, GPU or NPU, .* not 'AUTO'"),
        ({"load_config": "CPU"}, "load_config must be JSON .*, not 'CPU'"),
        ({"load_config": '{"CPU": 1}'}, "load_config must be JSON"),
        ({"load_config": "[]"}, "load_config must be JSON"),
        (
            {"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}'},
            "load_config has INFERENCE_PRECISION_HINT; use precision",
        ),
        (
            {"load_config": '{"CPU": {"INFERENCE_NUM_THREADS": "2"}}'},
            "load_config has INFERENCE_NUM_THREADS",
        ),
    ],
)
def test_options_of_openvino(plug_in, options, match):
    plug_in("onnxruntime_ep_openvino", "OV", [Device("OV", ov_device="CPU")])
    with pytest.raises(ValueError, match=match):
        open_session(probe_graph(), "openvino", options=options, n_threads=1)


# From here on OpenVINO itself, by whatever package it is installed.


def _has_openvino():
    if not any(source.is_present() for source in PROVIDERS["openvino"].sources):
        return False
    try:
        open_session(probe_graph(), "openvino")
    except ValueError:
        return False
    return True


openvino = pytest.mark.skipif(not _has_openvino(), reason="no OpenVINO that runs here")


@pytest.fixture(scope="module")
def network():
    """Two convolutions and a matrix product, each an output; the batch is open."""
    rng = np.random.default_rng(0)
    tensor, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    weights = {
        "a": rng.standard_normal((32, 3, 3, 3)).astype(np.float32),
        "b": rng.standard_normal((32, 32, 3, 3)).astype(np.float32),
        "c": rng.standard_normal((32, 10)).astype(np.float32),
    }
    graph = onnx.helper.make_graph(
        [
            node("Conv", ["x", "a"], ["first"], strides=[2, 2]),
            node("Relu", ["first"], ["r"]),
            node("Conv", ["r", "b"], ["second"]),
            node("GlobalAveragePool", ["second"], ["g"]),
            node("Flatten", ["g"], ["f"]),
            node("MatMul", ["f", "c"], ["third"]),
            node("Identity", ["third"], ["again"]),
        ],
        "network",
        [tensor("x", 1, ["batch", 3, 33, 33])],
        [
            tensor("first", 1, ["batch", 32, 16, 16]),
            tensor("second", 1, ["batch", 32, 14, 14]),
            tensor("third", 1, ["batch", 10]),
            tensor("again", 1, ["batch", 10]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.helper.set_model_props(model, {"fastrdm.architecture": "three"})
    return model, weights


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).standard_normal((19, 3, 33, 33)).astype(np.float32)


def errors(session, network, images):
    """Largest difference of each output from the CPU provider's, in standard deviations of the output."""
    graph = Graph("network", network[0].SerializeToString())
    expected = open_session(graph, "cpu").session.run(None, {"x": images})
    got = session.run(None, {"x": images})
    assert [out.dtype for out in got] == [np.float32] * 4
    assert [out.shape for out in got] == [out.shape for out in expected]
    return [float(np.abs(a - b).max() / b.std()) for a, b in zip(got, expected, strict=True)]


@openvino
def test_openvino_in_fp32(network, images, tmp_path):
    onnx.save(network[0], tmp_path / "network.onnx")
    opened = open_session(Graph.from_file(tmp_path / "network.onnx"), "openvino", n_threads=1)
    assert (opened.provider, opened.precision) == ("openvino", "fp32")
    for n in (19, 1, 8):
        assert max(errors(opened.session, network, images[:n])) < 1e-4
    assert opened.session.get_modelmeta().custom_metadata_map["fastrdm.architecture"] == "three"
    outputs = opened.session.get_outputs()
    assert [output.name for output in outputs] == ["first", "second", "third", "again"]
    assert [output.shape[1:] for output in outputs] == [[32, 16, 16], [32, 14, 14], [10], [10]]
    assert not isinstance(outputs[0].shape[0], int)


@openvino
@pytest.mark.parametrize(("precision", "bounds"), [("bf16", (1e-3, 0.1)), ("fp16", (1e-4, 0.01))])
def test_openvino_in_fewer_bits(network, images, precision, bounds):
    graph = Graph("network", network[0].SerializeToString())
    try:
        opened = open_session(graph, "openvino", precision=precision)
    except ValueError as error:
        assert f"instead of {precision} on this CPU, which supports fp32" in str(error)
        return
    assert opened.precision == precision
    low, high = bounds
    assert all(low < error < high for error in errors(opened.session, network, images))


@openvino
def test_openvino_with_external_weights(network, images):
    model = onnx.ModelProto()
    model.CopyFrom(network[0])
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights")
    doubled = {name: 2 * value for name, value in network[1].items()}
    graph = Graph("network", model.SerializeToString(), doubled)
    got = open_session(graph, "openvino").session.run(["first"], {"x": images})[0]
    expected = open_session(graph, "cpu").session.run(["first"], {"x": images})[0]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


@openvino
def test_openvino_writes_to_bound_memory(network, images):
    graph = Graph("network", network[0].SerializeToString())
    session = open_session(graph, "openvino").session
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(None, {"x": images}), strict=True))
    for names in (["third", "first"], ["again"], ["third", "first"]):
        gathered = np.zeros((30, *expected[names[0]].shape[1:]), np.float32)
        for place in (slice(0, 19), slice(19, 30)):
            part = images[: place.stop - place.start]
            binding = session.io_binding()
            binding.bind_input("x", "cpu", 0, np.float32, part.shape, part.ctypes.data)
            rows = gathered[place]
            binding.bind_output(names[0], "cpu", 0, np.float32, rows.shape, rows.ctypes.data)
            for name in names[1:]:
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding, onnxruntime.RunOptions())
            for name, output in zip(names, binding.get_outputs(), strict=True):
                np.testing.assert_allclose(
                    output.numpy(), expected[name][: len(part)], rtol=1e-5, atol=1e-4
                )
        np.testing.assert_allclose(gathered[:19], expected[names[0]], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(gathered[19:], expected[names[0]][:11], rtol=1e-5, atol=1e-4)


@openvino
def test_openvino_refuses_unknown_properties_and_devices():
    options = {"load_config": '{"CPU": {"NONSENSE": "1"}}'}
    with pytest.raises(ValueError, match="'openvino' refuses the option 'NONSENSE'"):
        open_session(probe_graph(), "openvino", options=options)
    with pytest.raises(ValueError, match=r"GPU\.7"):
        open_session(probe_graph(), "openvino", options={"device_type": "GPU.7"})


def test_a_graph_needs_its_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such ONNX file"):
        Graph.from_file(tmp_path / "none.onnx")
    assert Graph.from_file(Path(__file__)).name == __file__
