"""The load harness must see every fault of a server that misbehaves on purpose, and none of a good one."""
import pathlib
import ssl

import pytest
from load.account import Account
from load.child import Load
from load.faulty import TICK, Faulty

MIXED = {"get": 4, "get_rate": 200, "new": 2, "new_rate": 40, "post": 2, "post_rate": 60, "slow": 1, "slow_seconds": 0.2, "sse": 1, "ws": 1}


def put(server: Faulty, **options: object) -> Account:
    """The account of a short load on a server, ended by its own limit."""
    plan = {"url": f"http://127.0.0.1:{server.port}", "requests": 200, "seconds": 10.0, **options}
    with Load(**plan) as load:
        load.process.wait(30)
        return load.stop()


def tls(certificate: pathlib.Path) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_good_server_fails_nothing(certificate: pathlib.Path, secure: bool) -> None:
    with Faulty(tls=tls(certificate) if secure else None) as server:
        where = {"url": f"https://localhost:{server.port}", "host": "load.test", "cafile": str(certificate)} if secure else {}
        account = put(server, requests=5000, seconds=1.5, strict=True, **MIXED, **where)
        assert account.faults == 0, account.table()
        assert account.data["end"] == "seconds"
        assert set(account.kinds) == {"get", "new", "post", "slow", "sse", "ws"}
        assert account.requests == account.total("ok") > 300
        assert account.releases["r1"]["answers"] > 300
        (stores,) = account.stores
        assert stores["sent"] == stores["acknowledged"] == stores["found"] == stores["counted"] == len(server.stored) > 50
        assert account.kinds["sse"]["events"] > 5 and account.kinds["ws"]["events"] > 5
        assert server.connections > account.kinds["new"]["requests"]


@pytest.mark.parametrize(("fault", "what"), [
    ("status-502", "502"), ("reset-middle", "truncated"), ("truncated", "truncated"), ("truncated-chunks", "truncated"),
    ("garbage", "malformed"), ("surplus-bytes", "malformed"), ("hang", "timeout")])
@pytest.mark.parametrize("kind", ["get", "new"])
def test_each_bad_answer_is_a_failure(fault: str, what: str, kind: str) -> None:
    with Faulty(fault, every=20) as server:
        account = put(server, requests=100, timeout=0.5 if fault == "hang" else 10.0, **{kind: 2})
    assert account.kinds[kind]["why"] == {what: 5}, account.table()
    assert account.requests == 100 and account.total("ok") == 95
    assert len(account.data["failures"]) == 5
    first = account.data["failures"][0]
    assert first["kind"] == kind and first["what"] == what and account.data["started"] < first["time"] < account.data["ended"]
    assert first in account.failures_between(first["time"], first["time"])


@pytest.mark.parametrize("fault", ["chunks", "close-delimited"])
def test_each_framing_of_http_is_understood(fault: str) -> None:
    with Faulty(fault, every=2) as server:
        account = put(server, get=2)
    assert account.faults == 0 and account.releases["r1"]["answers"] == 200, account.table()


@pytest.mark.parametrize(("fault", "failed"), [("close-delimited", 0), ("no-close-notify", 10), ("reset-middle", 10)])
def test_a_body_that_tls_did_not_end_is_truncated(certificate: pathlib.Path, fault: str, failed: int) -> None:
    with Faulty(fault, every=20, tls=tls(certificate)) as server:
        account = put(server, url=f"https://127.0.0.1:{server.port}", insecure=True, get=2)
    assert account.kinds["get"]["why"] == ({"truncated": failed} if failed else {}), account.table()


def test_a_certificate_that_does_not_verify_is_a_failure(certificate: pathlib.Path) -> None:
    with Faulty(tls=tls(certificate)) as server:
        account = put(server, url=f"https://127.0.0.1:{server.port}", host="other.test", cafile=str(certificate), get=1, sse=1, requests=6)
    assert account.failed == account.requests == 6
    assert account.kinds["get"]["why"].keys() == {"tls"}, account.table()


def test_a_client_resumes_its_tls_session_and_a_new_one_has_none(certificate: pathlib.Path) -> None:
    context = tls(certificate)
    with Faulty("close-delimited", every=20, tls=context) as server:
        where = {"url": f"https://127.0.0.1:{server.port}", "insecure": True}
        put(server, get=2, **where)
        stats = context.session_stats()
        assert stats["hits"] >= 8 and stats["accept_good"] - stats["hits"] <= 4, stats
        put(server, new=2, requests=20, **where)
        assert context.session_stats()["hits"] == stats["hits"]


def test_a_get_that_dies_on_a_reused_connection_is_sent_once_more() -> None:
    with Faulty("reused-dies", every=20) as server:
        account = put(server, get=1)
        assert account.failed == 0 and account.total("retried") > 5, account.table()
        strict = put(server, get=1, strict=True)
        assert strict.failed > 5 and strict.total("retried") == 0, strict.table()
    with Faulty("reset-first", every=1) as server:
        dead = put(server, get=1, requests=5)
        assert dead.failed == 5 and dead.total("retried") == 0, "a fresh connection that dies is no race"


def test_a_server_that_closes_idle_connections_fails_nothing() -> None:
    with Faulty("close-idle", every=10) as server:
        account = put(server, get=1, get_rate=1 / (6 * TICK), post=1, post_rate=1 / (6 * TICK), requests=8, strict=True)
        assert account.faults == 0 and account.total("retried") == 0, account.table()
        assert server.connections > 8


def test_a_server_that_is_down_is_not_asked_at_full_speed() -> None:
    with Faulty() as server:
        port = server.port
    with Load(url=f"http://127.0.0.1:{port}", get=2, sse=1, ws=1, seconds=0.5) as load:
        load.process.wait(20)
        account = load.stop()
    assert account.failed == account.requests > 10
    assert account.requests < 200
    assert all(kind["why"].keys() == {"connect"} for kind in account.kinds.values()), account.table()


@pytest.mark.parametrize(("fault", "failed", "lost", "surplus"), [
    ("", 0, 0, 0), ("lost", 0, 20, 0), ("doubled", 0, 0, 20), ("foreign", 0, 0, 20), ("post-503", 20, 0, 0), ("stored-but-503", 20, 0, 0)])
def test_each_wrong_store_is_seen(fault: str, failed: int, lost: int, surplus: int) -> None:
    with Faulty(fault) as server:
        account = put(server, post=3)
    (stores,) = account.stores
    assert (account.failed, stores["lost"], stores["surplus"]) == (failed, lost, surplus), account.table()
    assert account.faults == failed + lost + surplus
    assert stores["unanswered"] == (20 if fault == "stored-but-503" else 0)
    assert len(stores["lost_ids"]) == lost


def test_a_lost_and_a_doubled_store_do_not_cancel_out() -> None:
    with Faulty() as server, Load(url=f"http://127.0.0.1:{server.port}", post=1, post_rate=100, event_id="7") as load:
        load.until(lambda now: now.ok("post") >= 20)
        server.stored[3] = server.stored[4]
        (stores,) = load.stop().stores
    assert (stores["lost"], stores["surplus"], stores["faults"]) == (1, 1, 2)


@pytest.mark.parametrize(("kind", "fault", "what", "missing"), [
    ("sse", "cut", "cut", 0), ("sse", "skip", "gap", 1), ("sse", "hang", "silent", 0), ("sse", "bye", "", 0),
    ("ws", "cut", "cut", 0), ("ws", "skip", "gap", 1), ("ws", "hang", "silent", 0), ("ws", "bye", "", 0), ("ws", "going-away", "cut", 0)])
def test_each_end_of_a_stream_is_seen(kind: str, fault: str, what: str, missing: int) -> None:
    with Faulty(fault, every=4) as server:
        account = put(server, requests=2, silence=0.6 if fault == "hang" else 10.0, **{kind: 1})
    seen = account.kinds[kind]
    assert seen["why"] == ({what: 2} if what else {}), account.table()
    assert seen["goodbyes"] == (0 if what else 2)
    assert seen["missing"] == 2 * missing and seen["cuts"] == (2 if what == "cut" else 0)
