"""What doctor judges without a host of every kind at hand: old engines, slow storage, the kernel's table of sockets."""
import os
import socket

import pytest

from keel import checks, proc

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:01BB 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 20 4 30 10 -1
"""


@pytest.mark.parametrize("version,verdict", [("20.10.24+dfsg1", "bad"), ("24.0.9", "bad"), ("25.0.0", "ok"), ("26.1.5+dfsg1", "ok"),
                                             ("dev", "bad")])
def test_engine_versions(version: str, verdict: str) -> None:
    check, storage = checks.the_engine({"ServerVersion": version, "ApiVersion": "1.45", "Driver": "overlay2"})
    assert (check.verdict, storage.verdict) == (verdict, "ok")
    assert bool(check.hint) == (verdict == "bad")


@pytest.mark.parametrize("driver,verdict", [("vfs", "warn"), ("overlay2", "ok"), ("overlayfs", "ok"), ("btrfs", "ok"), ("zfs", "ok")])
def test_storage_drivers(driver: str, verdict: str) -> None:
    assert checks.the_engine({"ServerVersion": "28.0.0", "ApiVersion": "1.48", "Driver": driver})[1].verdict == verdict


def test_what_the_engine_warns_of_is_passed_on() -> None:
    said = checks.kernel({"Warnings": ["WARNING: No swap limit support"]})
    assert checks.Check("kernel", "warn", "No swap limit support", "see docs.docker.com/engine/install/linux-postinstall") in said
    assert said[0].verdict == "ok"


def test_only_listening_sockets_count() -> None:
    assert proc.listeners(TABLE) == {8080: {"111", "222"}}
    assert proc.listeners("") == {}


@pytest.mark.parametrize("family,address", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_holder_of_a_port_is_found(family: int, address: str) -> None:
    with socket.socket(family) as s:
        s.bind((address, 0))
        port = s.getsockname()[1]
        assert proc.holder(port) == ""  # bound, not listening
        s.listen()
        assert proc.holder(port).endswith(f"(pid {os.getpid()})")
    assert proc.holder(port) == ""
