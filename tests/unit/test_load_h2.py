"""The HTTP/2 clients of the load harness: what a server refuses, cuts or breaks is seen exactly, and an orderly end is no failure."""
import asyncio
import pathlib
import ssl
from typing import Any

import pytest
from load.account import Account, merge
from load.child import Load
from load.client import Run
from load.client2 import TRIES, Client2
from load.faulty import TICK
from load.faulty2 import Faulty2
from load.plan import Plan
from load.tally import Tally
from load.wire import Broken, Target
from test_load import put, tls


def tls2(certificate: pathlib.Path, *alpn: str) -> ssl.SSLContext:
    """The server's side of TLS, which speaks HTTP/2 unless told otherwise."""
    context = tls(certificate)
    context.set_alpn_protocols(alpn or ("h2", "http/1.1"))
    return context


def put2(server: Faulty2, **options: Any) -> Account:
    """The account of 100 requests."""
    return put(server, **{"url": f"https://127.0.0.1:{server.port}", "insecure": True, "requests": 100, **options})


def test_a_good_server_fails_nothing(certificate: pathlib.Path) -> None:
    with Faulty2(tls=tls2(certificate)) as server:
        account = put2(server, url=f"https://localhost:{server.port}", host="load.test", insecure=False, cafile=str(certificate),
                       requests=1000, h2=2, h2_streams=8, h2_rate=800, h2_new=1, h2_new_rate=40)
        assert account.faults == 0 and account.requests == 1000, account.table()
        assert server.connections == 2 + account.kinds["h2_new"]["ok"] > 10
    assert account.releases["r1"]["answers"] == 1000 == account.latency["h2"].count() + account.latency["h2_new"].count()
    assert account.kinds["h2"]["ok"] > 500


@pytest.mark.parametrize(("fault", "what"), [
    ("goaway-below", "refused"), ("goaway-below-and-ends", "refused"), ("refused-stream", "refused"), ("goaway-code", "reset"),
    ("reset", "reset"), ("truncated", "truncated"), ("no-body", "truncated"), ("cut-middle", "truncated"), ("cut", "closed"),
    ("status-502", "502"), ("surplus-bytes", "malformed"), ("garbage", "malformed"), ("hang", "timeout")])
@pytest.mark.parametrize("kind", ["h2", "h2_new"])
def test_each_bad_answer_is_a_failure(certificate: pathlib.Path, fault: str, what: str, kind: str) -> None:
    with Faulty2(fault, every=20, tls=tls2(certificate)) as server:
        account = put2(server, timeout=1.5 if fault == "hang" else 10.0, h2_streams=1, **{kind: 2})
    assert account.kinds[kind]["why"] == {what: 5}, account.table()
    assert account.requests == 100 and account.total("ok") == 95 and account.total("retried") == 0
    assert {failure["kind"] for failure in account.data["failures"]} == {kind}


@pytest.mark.parametrize(("fault", "what"), [
    ("refused-stream", "refused"), ("reset", "reset"), ("truncated", "truncated"), ("no-body", "truncated"),
    ("surplus-bytes", "malformed"), ("hang", "timeout")])
def test_what_befalls_one_stream_spares_the_others(certificate: pathlib.Path, fault: str, what: str) -> None:
    with Faulty2(fault, every=20, tls=tls2(certificate)) as server:
        account = put2(server, timeout=1.5 if fault == "hang" else 10.0, h2=1, h2_streams=10, h2_rate=120)
        assert server.connections == 1 and bool(server.cancelled) == (fault == "hang")
    assert account.kinds["h2"]["why"] == {what: 5} and account.total("ok") == 95, account.table()


@pytest.mark.parametrize("fault", ["goaway-below", "goaway-below-and-ends"])
def test_each_stream_above_a_goaway_is_refused_and_no_other(certificate: pathlib.Path, fault: str) -> None:
    with Faulty2(fault, every=20, tls=tls2(certificate)) as server:
        account = put2(server, h2=2, h2_streams=8, requests=1000)
    seen = account.kinds["h2"]
    assert set(seen["why"]) == {"refused"} and seen["failed"] >= 40, account.table()
    assert account.requests == 1000
    if fault == "goaway-below":  # one that ends at once has not read all that it refused
        assert seen["failed"] == server.refused
    assert "GOAWAY NO_ERROR: this is stream" in account.table() and "failed: " in account.table()


def test_a_server_that_takes_nothing_refuses_each(certificate: pathlib.Path) -> None:
    with Faulty2("goaway-at-once", tls=tls2(certificate)) as server:
        account = put2(server, h2=1, h2_streams=3, h2_new=1, requests=20)
    assert account.failed == account.requests == 20
    assert all(kind["why"].keys() == {"refused"} for kind in account.kinds.values()), account.table()


def test_a_connection_that_ends_before_it_is_used_is_tried_again_but_not_for_ever() -> None:
    class Unlucky(Client2):
        opened = 0

        async def _open(self, timeout: float) -> None:
            self.opened += 1
            self.opening = None

    async def ask() -> None:
        run = Run(Target("127.0.0.1", 1, "load.test", None), "load.test", 1, timeout=1, strict=True)
        client = Unlucky(run, Tally("h2"), 0, run.target)
        with pytest.raises(Broken, match="refused"):
            await client.ask(b"/", 1, retry=False)
        assert client.opened == TRIES

    asyncio.run(ask())


def test_more_streams_than_the_server_allows_are_failures(certificate: pathlib.Path) -> None:
    with Faulty2("few-streams", every=20, tls=tls2(certificate)) as server:
        account = put2(server, h2=1, h2_streams=4)
    seen = account.kinds["h2"]
    assert seen["why"] == {"limit": seen["failed"]} and seen["failed"] > 3 and seen["ok"] > 20, account.table()


@pytest.mark.parametrize(("fault", "streams"), [("goaway-covers", 1), ("goaway-early", 1), ("goaway-early", 8)])
def test_a_goaway_that_spares_what_is_open_fails_nothing(certificate: pathlib.Path, fault: str, streams: int) -> None:
    context = tls2(certificate)
    with Faulty2(fault, every=10, tls=context) as server:
        account = put2(server, h2=1, h2_streams=streams, requests=200)
        assert account.faults == 0 and account.total("retried") == 0, account.table()
        assert account.releases["r1"]["answers"] == 200
        assert server.connections >= 200 / 10 / streams > 1 and server.most <= 3, "one that was left is closed"
        assert context.session_stats()["hits"] >= server.connections - 2, "what takes the place of another resumes its session"


def test_a_server_that_closes_idle_connections_fails_nothing(certificate: pathlib.Path) -> None:
    with Faulty2("close-idle", tls=tls2(certificate)) as server:
        account = put2(server, h2=1, h2_streams=2, h2_rate=1 / (6 * TICK), requests=6)
        assert account.faults == 0 and account.total("retried") == 0, account.table()
        assert server.connections == 6


@pytest.mark.parametrize("alpn", [("http/1.1",), ()])
def test_a_server_without_http2_is_a_failure(certificate: pathlib.Path, alpn: tuple[str, ...]) -> None:
    with Faulty2(tls=tls2(certificate, *alpn) if alpn else tls(certificate)) as server:
        account = put2(server, h2=1, h2_streams=3, h2_new=1, requests=20)
    assert account.failed == account.requests == 20 and account.total("ok") == 0
    assert all(kind["why"].keys() == {"tls"} for kind in account.kinds.values()), account.table()
    assert "does not speak HTTP/2" in account.data["failures"][0]["detail"]


def test_a_server_that_is_down_is_not_asked_at_full_speed(certificate: pathlib.Path) -> None:
    with Faulty2(tls=tls2(certificate)) as server:
        port = server.port
    with Load(url=f"https://127.0.0.1:{port}", insecure=True, h2=1, h2_new=1, seconds=0.5) as load:
        load.process.wait(20)
        account = load.stop()
    assert 10 < account.failed == account.requests < 200
    assert all(kind["why"].keys() == {"connect"} for kind in account.kinds.values()), account.table()


def test_accounts_of_both_versions_add_up(certificate: pathlib.Path) -> None:
    with Faulty2("refused-stream", every=10, tls=tls2(certificate)) as server:
        total = merge([put2(server, h2=2), put2(server, h2=1, h2_new=1)])
    assert total.requests == 200 and total.failed == 20 == sum(kind["why"].get("refused", 0) for kind in total.kinds.values())
    assert total.table().count("\nh2") == 2 and "h2_new " in total.table()


@pytest.mark.parametrize("options", [{"url": "http://127.0.0.1:1"}, {"h2_streams": 0}, {"h2_streams": 101}, {"h2": 513}, {"h2_new": -1},
                                     {"h2_rate": -1.0}, {"h2_new_rate": -0.1}, {"url": "https://10.0.0.1"}])
def test_a_plan_that_cannot_be_or_has_no_bounds_is_refused(options: dict[str, Any]) -> None:
    good: dict[str, Any] = {"url": "https://127.0.0.1:1", "h2": 1}
    assert not Plan(**good).faults() and len(Plan(**{**good, **options}).faults()) == 1
