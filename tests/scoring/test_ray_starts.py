"""Connecting to a Ray cluster and starting workers there has deadlines, and errors of one sentence."""

import socket
import threading
import time

import pytest
from tiny_sweep import sweep

from fastrdm.scoring import ENGINES, Sweep
from fastrdm.scoring.jobs import WorkerPoolError


@pytest.fixture
def ray():
    """Ray, disconnected afterwards."""
    ray = pytest.importorskip("ray")
    yield ray
    ray.shutdown()


@pytest.mark.parametrize(
    ("reply", "match"),
    [(None, "did not answer within 0.5 s"), (b"HTTP/1.1 404", "another program's port")],
)
def test_a_port_that_is_no_cluster_is_refused(ray, monkeypatch, reply, match):
    monkeypatch.setattr("fastrdm.scoring.ray_cluster._PROBE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve():
            connection, _ = server.accept()
            with connection:
                if reply:
                    connection.sendall(reply)
                connection.recv(100)
                time.sleep(1)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(WorkerPoolError, match=match):
            ENGINES["ray"](address=address)
    with pytest.raises(WorkerPoolError, match=f"{address} cannot be reached: .*refused"):
        ENGINES["ray"](address=address)
    with pytest.raises(WorkerPoolError, match="nowhere.invalid:1 cannot be reached"):
        ENGINES["ray"](address="nowhere.invalid:1")


def test_connecting_to_a_cluster_has_a_deadline(tiny, ray, monkeypatch):
    monkeypatch.setattr(ray, "init", lambda *_, **options: time.sleep(1000))
    with pytest.raises(WorkerPoolError, match="did not answer within 0.5 s.*start_timeout"):
        Sweep(["runs"], ["net.onnx"], "study", engine="ray", start_timeout=0.5)
    monkeypatch.setattr(ray, "init", lambda *_, **options: [][0])
    with pytest.raises(WorkerPoolError, match="cannot be reached: list index out of range"):
        Sweep(["runs"], ["net.onnx"], "study", engine="ray")


def test_a_cluster_without_room_and_workers_that_die_at_their_start_are_reported(
    tiny, ray, monkeypatch
):
    monkeypatch.setattr("fastrdm.scoring.scheduler._MAX_DEATHS", 1)
    environment = {"env_vars": {"FASTRDM_KERNELS": "none"}}
    ray.init(
        "local", num_cpus=1, log_to_driver=False, logging_level="ERROR", runtime_env=environment
    )
    engine = ENGINES["ray"](num_cpus=64)
    with pytest.raises(
        WorkerPoolError,
        match=r"no node .* has room for a worker, which needs 64 CPU \(nodes: 1 CPU, 0 GPU\)",
    ):
        sweep(engine=engine, start_timeout=0.5)
    match = (
        "^workers die while starting: ImportError: FASTRDM_KERNELS=none is not one of: cpp, numba$"
    )
    with pytest.raises(WorkerPoolError, match=match):
        sweep(engine="ray")
    with pytest.raises(WorkerPoolError, match="cannot have 0 CPUs and 0.* GPUs"):
        ENGINES["ray"](num_cpus=0, num_gpus=0)
