"""A running load as a scenario uses it: acting while it runs, asking for windows of time, limits, refusals, the command itself."""
import json
import math
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from load.account import merge
from load.child import RUN, Load
from load.faulty import Faulty
from load.http1 import Chunks, Malformed, Reader
from load.latency import SLOT, Latency
from load.plan import Plan, outside, parse
from load.ratios import ratio


def address(server: Faulty) -> str:
    """Where the server is."""
    return f"http://127.0.0.1:{server.port}"


def test_each_release_is_seen_with_its_first_and_last_answer() -> None:
    with Faulty() as server, Load(url=address(server), get=4, get_rate=400, sse=1) as load:
        load.until(lambda now: now.answers("r1", "get") > 50 and now.events("sse") > 2)
        server.release = "r2"
        load.until(lambda now: now.answers("r2", "get") > 50)
        account = load.stop()
    assert account.faults == 0 and account.data["end"] == "stopped", account.table()
    assert list(account.releases) == ["r1", "r2"]
    first, second = account.releases["r1"], account.releases["r2"]
    assert account.data["started"] < first["first"] < first["last"] <= second["last"]
    assert first["last"] - 0.5 < second["first"] <= second["last"]


def more(load: Load, n: int) -> None:
    """Wait for n more answers."""
    sofar = load.now.ok()
    load.until(lambda now: now.ok() >= sofar + n)


def test_a_slow_stretch_shows_in_its_window_and_nowhere_else() -> None:
    with Faulty(every=1) as server, Load(url=address(server), get=8, get_rate=300) as load:
        more(load, 450)
        begin = time.time()
        server.fault = "delay"
        more(load, 60)
        end = time.time()
        more(load, 16)  # two for each client, so that what is made up for, once it is fast again, is in no slot of the stretch
        server.fault = ""
        more(load, 450)
        account = load.stop()
    seen = ratio(account, "get", 90, [(begin, end)])
    assert seen.inside > 0.27 > seen.outside and seen.ratio > 1, seen
    assert seen.inside_count > 10 and seen.outside_count > 100
    assert account.percentile("get", 90, begin, end) > 0.27 > account.percentile("get", 90, 0, begin - SLOT)


def test_a_request_that_had_to_wait_for_a_client_counts_its_wait() -> None:
    # one client, 50 requests/s wanted, each answer takes 300 ms: a rate that is not kept must not look fast
    with Faulty("delay", every=1) as server, Load(url=address(server), get=1, get_rate=50, requests=5, from_due=True) as load:
        load.process.wait(30)
        account = load.stop()
    assert account.percentile("get", 100) > 0.7, account.table()


@pytest.mark.parametrize("how", ["stop", "signal", "requests", "seconds"])
def test_a_load_ends_and_says_why(how: str) -> None:
    limits: dict[str, Any] = {"requests": 50} if how == "requests" else {"seconds": 0.3} if how == "seconds" else {}
    with Faulty() as server, Load(url=address(server), get=2, slow=1, slow_seconds=0.4, sse=1, **limits) as load:
        if how == "signal":
            load.until(lambda now: now.requests("slow") == 1)
            load.process.send_signal(signal.SIGTERM)
        if how != "stop":
            load.process.wait(20)
        account = load.stop()
    assert account.data["end"] == {"stop": "stopped", "signal": "stopped"}.get(how, how)
    assert account.faults == 0 and account.kinds["slow"]["ok"] == account.kinds["slow"]["requests"], account.table()
    if how == "requests":
        assert account.requests == 50


def test_waiting_for_what_cannot_come_is_an_error() -> None:
    with Faulty() as server, Load(url=address(server), get=1, requests=5) as load:
        with pytest.raises(RuntimeError, match="ended before"):
            load.until(lambda now: now.ok() > 5)
        with pytest.raises(ValueError, match="no client"):
            Load(url=address(server))
    with Faulty() as server, Load(url=address(server), sse=1) as load, pytest.raises(TimeoutError):
        load.until(lambda now: now.failed() > 0, 0.2)


def test_loads_at_the_same_time_add_up() -> None:
    with Faulty("status-502", every=10) as server:
        one: dict[str, Any] = {"url": address(server), "get": 2, "requests": 100}
        with Load(**one) as a, Load(**one, post=1) as b:
            for load in (a, b):
                load.process.wait(30)
            parts = [a.stop(), b.stop()]
    total = merge(parts)
    assert total.requests == 200 == total.total("ok") + total.failed
    assert total.failed == sum(part.failed for part in parts) == len(total.data["failures"]) > 0
    assert total.latency["get"].count() == total.kinds["get"]["ok"]
    assert len(total.stores) == 1 and json.loads(total.json())["faults"] == total.faults


def command(*flags: str) -> "subprocess.CompletedProcess[str]":
    """Run the command itself."""
    return subprocess.run([sys.executable, str(RUN), *flags], capture_output=True, text=True, timeout=30, check=False)


def test_the_command_prints_the_account_and_a_table() -> None:
    with Faulty("status-502", every=10) as server:
        bad = command("--url", address(server), "--get", "2", "--requests", "100")
        server.fault = ""
        good = command("--url", address(server), "--get", "2", "--requests", "100", "--get-path", "/a", "--get-path", "/b")
        no_event = command("--url", address(server).replace(str(server.port), "1"), "--post", "1", "--seconds", "1")
    assert bad.returncode == 1 and json.loads(bad.stdout)["failed"] == 10
    assert "failed: 10 x get 502" in bad.stderr and bad.stderr.count("HTTP/1.1 502") == 10
    assert good.returncode == 0 and json.loads(good.stdout)["requests"] == 100 and "release r1: 100 answers" in good.stderr
    assert no_event.returncode == 69 and no_event.stdout == "" and "ConnectionRefusedError" in no_event.stderr


@pytest.mark.parametrize("flags", [
    ["--url", "https://example.com", "--get", "1"], ["--url", "http://10.0.0.1:80", "--get", "1"], ["--get", "1"],
    ["--url", "http://127.0.0.1:1"], ["--url", "http://127.0.0.1:1", "--get", "1", "--seconds", "0"],
    ["--url", "http://127.0.0.1:1", "--get", "1", "--seconds", "nan"], ["--url", "http://127.0.0.1:1", "--get", "1", "--requests", "0"],
    ["--url", "http://127.0.0.1:1", "--get", "1", "--requests", "99999999999"], ["--url", "http://127.0.0.1:1", "--get", "-1"],
    ["--url", "http://127.0.0.1:1", "--get", "1", "--get-rate", "-1"], ["--url", "http://127.0.0.1:1", "--get", "1000000"]])
def test_an_unsafe_or_endless_load_is_refused(flags: list[str]) -> None:
    done = command(*flags)
    assert done.returncode == 2 and done.stdout == "" and "error:" in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1.example.com", "http://localhost.example.com", "http://127.0.0.1@example.com",
                                 "http://[::2]",
                                 "ftp://127.0.0.1", "http://0.0.0.0", "http://127.0.0.1:99999", "http://127.0.0.1/path", ""])
def test_only_this_machine_is_inside(url: str) -> None:
    assert outside(url)


def test_the_flags_of_a_plan_give_the_same_plan() -> None:
    plan = Plan(url="http://127.0.0.1:80", get=3, get_rate=2.5, get_path=("/a", "/b"), strict=True, host="x.test", until_eof=True)
    assert parse(plan.argv()) == plan
    assert plan.authority() == "x.test" and Plan(url="https://[::1]:8443").authority() == "[::1]:8443"


def test_percentiles_are_within_their_bucket() -> None:
    kept = Latency()
    for ms in range(1, 1001):
        kept.add(1000.0 + ms / 1000, ms / 1000)
    for q in (1, 50, 99, 99.9, 100):
        assert kept.percentile(q) == pytest.approx(q / 100, rel=0.03)
    assert kept.percentile(100, 1000.0, 1000.25) == pytest.approx(0.3, rel=0.03)
    assert math.isnan(kept.percentile(50, 2000)) and kept.count(2000) == 0
    assert Latency.load(kept.dump()).counts == kept.counts


def test_every_split_of_an_answer_reads_the_same() -> None:
    wire = b"HTTP/1.1 100 Continue\r\n\r\n"
    wire += b"HTTP/1.1 200 OK\r\nX-Release: r9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"
    for size in range(1, len(wire) + 1):
        reader, answers = Reader(), []
        for at in range(0, len(wire), size):
            answers.append(reader.feed(wire[at:at + size]))
        assert [a is not None for a in answers] == [False] * (len(answers) - 1) + [True]
        last = answers[-1]
        assert last is not None and (last.status, last.body, last.keep, last.release()) == (200, b"abcde", True, "r9")
    with pytest.raises(Malformed):
        Chunks().feed(b"3\r\nabcdef\r\n")
