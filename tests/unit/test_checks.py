"""What doctor judges without a host of every kind at hand: old engines, slow storage, the kernel's table of sockets."""
import os
import socket
from pathlib import Path

import pytest

from keel import checks, host, proc, schema, serving_checks
from keel.settings import ROOT, Settings

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


ADDRESSES = """fe8000000000000000fc00fffe000001 04 40 20 80     eth0
fd000000000000000000000000000002 04 40 00 82     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""


@pytest.mark.parametrize(("more", "changes", "said"), [
    ("", {}, []), ("2a0104f9000000000000000000000001 02 40 00 80     eth0\n", {}, ["2a01:4f9::1"]),
    ("2a0104f9000000000000000000000001 02 40 00 80     eth0\n", {"KEEL_RATE_LIMIT": "0"}, []),
    ("2a0104f9000000000000000000000001 02 40 00 80     eth0\n", {"KEEL_PROXY": "caddy"}, [])])
def test_visitors_who_count_as_one(more: str, changes: dict[str, str], said: list[str], tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """By IPv6 the engine hands all of them to the proxy from one address."""
    (tmp_path / "if_inet6").write_text(ADDRESSES + more)
    monkeypatch.setattr(host, "IF_INET6", tmp_path / "if_inet6")
    s = Settings("x", {"KEEL_PROXY": "nginx", "KEEL_RATE_LIMIT": "50", **changes}, {}, schema.load(ROOT / "compose" / "example.env"))
    found = serving_checks.visitors(s, {})
    assert [(c.verdict, c.said.split()[3]) for c in found] == [("warn", address) for address in said]


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
