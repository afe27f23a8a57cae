"""What this process holds in memory. Linux only.

It is read from /proc/self/status, since the peak of getrusage is inherited from the process that started this one.
"""

from pathlib import Path


def resident(field):
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
