"""A cluster that a sweep starts accepts connections from this machine alone."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("ray")

# In a process of its own, which has no cluster yet. A worker listens, too.
CODE = """
import ipaddress, os, ray, time
import psutil  # Ray brings it
from fastrdm.scoring.ray_pool import RayPool

pool = RayPool()

@ray.remote
class Actor:
    def answer(self):
        return os.environ.get("RAY_ADDRESS")

actor = Actor.remote()
ray.get(actor.answer.remote())
me = psutil.Process()
found = [
    (process.name(), each.laddr.ip)
    for process in (me, *me.children(recursive=True))
    for each in process.net_connections("inet")
    if each.status == psutil.CONN_LISTEN
]
def is_loopback(text):
    address = ipaddress.ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
print(len(found), [each for each in found if not is_loopback(each[1])])
print("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in os.environ, ray._private.ray_constants.ENABLE_RAY_CLUSTER)
# Linux would end the cluster with the thread that started it.
time.sleep(2)
ray.get(actor.answer.remote())
pool.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Ray listens at loopback on other systems")
def test_a_new_cluster_listens_at_loopback_alone():
    # Ray's switch may still be set here, while a cluster of another test starts.
    kept = {x: v for x, v in os.environ.items() if x != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=kept)
    assert not done.returncode, done.stderr
    first, second = done.stdout.splitlines()[-2:]
    count, others = first.split(" ", 1)
    assert int(count) >= 4
    assert others == "[]"
    assert second == "False True"
