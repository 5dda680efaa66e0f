"""Runs a command where nothing but loopback can be reached: `python scripts/alone.py COMMAND …` (Linux).

In a network namespace of its own, for which root needs nothing and others a kernel that lets them make one.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys

#: of ioctl(2) on a network interface, see netdevice(7)
SET_FLAGS, UP, RUNNING = 0x8914, 0x1, 0x40


def unshared() -> list[str]:
    """The command that makes a namespace here; empty where none may be made."""
    for options in (["--net"], ["--map-root-user", "--net"]):
        command = ["unshare", *options]
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
        except FileNotFoundError:
            break
    return []


def _become(command: list[str]) -> None:
    """Bring up loopback, where there may be no `ip` to do it, and become the command."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh", b"lo", UP | RUNNING))
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    if others:
        sys.exit(f"not alone: {', '.join(others)}")
    os.execvp(command[0], command)  # noqa: S606 - as its user asks


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _become(sys.argv[2:])
    elif not (prefix := unshared()):
        sys.exit("this kernel lets nobody make a network namespace: run as root, or allow user namespaces")
    else:
        inside = [*prefix, sys.executable, __file__, "--inside", *sys.argv[1:]]
        os.execvp(inside[0], inside)  # noqa: S606 - as its user asks
