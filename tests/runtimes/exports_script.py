"""Exports in a process of their own, whose modules are all imported by the exports; prints the answers as JSON."""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

from fastrdm.runtimes import Architecture, Exports, exports

CACHE = Path("cache")
SOURCE = """
import json, os, torch, warnings
import helper

def network():
    width = json.load(open("config.json"))["width"]
    if os.environ.get("DEEP"):
        width += 1
    try:
        width += int(open("extra.txt").read())
    except FileNotFoundError:
        pass
    net = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), helper.last())
    return net

class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("noise", torch.rand(3, 1, 1), persistent=False)
        self.conv = torch.nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.conv(x * self.noise)

def online():
    import socket
    try:
        socket.create_connection(("127.0.0.1", 9), 0.1)
    except OSError:
        pass
    return network()

def counting():
    number = int(open("count.txt").read())
    open("count.txt", "w").write(str(number + 1))
    return network()

def writing():
    open("new.txt", "w").write("4")
    open("new.txt").read()
    return network()

def warning():
    net = network()
    net.pretrained_cfg = {}
    return net
"""
HELPER = "import torch\ndef last():\n    return torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten())\n"
SIZE = (8, 8)


def session():
    """A new call in a process that has not imported the network."""
    for name in ("net", "helper"):
        sys.modules.pop(name, None)
    return Exports(CACHE)


def find(arch="net:network", taps=None, size=SIZE):
    return Architecture.find(arch, taps, size, exports=session()) is not None


def export(arch="net:network", taps=None):
    made = Architecture.export(arch, taps, SIZE, exports=session())
    return made, find(arch, taps)


def changed(path, content):
    """Whether an export is found after a file has another content, and again after the old one is restored."""
    path = Path(path)
    before = path.read_text() if path.exists() else None
    path.write_text(content)
    found = find()
    if before is None:
        path.unlink()
    else:
        path.write_text(before)
    return [found, find()]


def main():
    Path("net.py").write_text(SOURCE)
    Path("helper.py").write_text(HELPER)
    Path("config.json").write_text('{"width": 4}')
    answers = {"first": find()}
    made, answers["again"] = export()
    (file,) = CACHE.glob("fastrdm-export-*")
    again = Architecture.export("net:network", None, SIZE, exports=session())
    answers["mode"] = CACHE.stat().st_mode & 0o777
    if user := getattr(os, "geteuid", None):
        os.geteuid = lambda: user() + 1
        answers["of another user"] = find()
        os.geteuid = user
    answers["imported"] = "net" in sys.modules
    answers["equal"] = vars(made) == vars(again)
    answers["module"] = changed("net.py", SOURCE + "# changed\n")
    answers["helper"] = changed("helper.py", HELPER + "# changed\n")
    answers["data"] = changed("config.json", '{"width": 5}')
    answers["appeared"] = changed("extra.txt", "1")
    answers["taps"], answers["size"] = find(taps=["0"]), find(size=(9, 9))
    os.environ["DEEP"] = "1"
    answers["variable"] = [find()]
    del os.environ["DEEP"]
    answers["variable"].append(find())
    Path("other").mkdir()
    (Path("other") / "helper.py").write_text(HELPER)
    sys.path.insert(0, "other")
    answers["shadowed"] = [find()]
    sys.path.remove("other")
    answers["shadowed"].append(find())
    version = importlib.metadata.version
    importlib.metadata.version = lambda name: version(name) + ".1" * (name == "onnxscript")
    answers["version"] = find()
    importlib.metadata.version = version
    session()
    import net  # noqa: F401

    before = Exports(CACHE)
    answers["imported before"] = (
        Architecture.find("net:network", None, SIZE, exports=before) is not None
    )
    Architecture.export("net:network", ["0"], SIZE, exports=before)
    answers["kept although imported before"] = find(taps=["0"])
    os.environ["FASTRDM_EXPORTS"] = "off"
    answers["off"] = find()
    del os.environ["FASTRDM_EXPORTS"]
    content = file.read_bytes()
    answers["damaged"] = []
    for damaged in (content[:-1], content[:100], b"", content[:-1] + bytes([content[-1] ^ 1])):
        file.write_bytes(damaged)
        answers["damaged"].append(find())
    answers["rewritten"] = export()[1]
    answers["random"] = export("net:Noisy")[1]
    Path("count.txt").write_text("1")
    answers["counting"], answers["writing"] = export("net:counting")[1], export("net:writing")[1]
    answers["online"] = export("net:online")[1]
    export("net:warning")
    exports._MAX_BYTES = 10
    os.utime(file, (0, 0))
    export(taps=["1"])
    answers["left"] = len(list(CACHE.iterdir()))
    session()
    Architecture.export("net:network", None, SIZE, exports=Exports("config.json"))
    print("\nanswers:" + json.dumps(answers))


main()
