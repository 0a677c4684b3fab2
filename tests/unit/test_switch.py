"""Whom a rollback goes to, told from the history: the release that last had all of the traffic, and no other."""
import json
from pathlib import Path
from typing import Any

import pytest

from keel import schema, switch
from keel.options import Options
from keel.settings import ROOT, Settings
from keel.stop import NO, Stop
from keel.traffic import Share, Traffic
from keel.traffic_file import render_nginx

A, B, C = "20260101T000000Z-aaaaaaa", "20260102T000000Z-bbbbbbb", "20260103T000000Z-ccccccc"
Line = dict[str, Any]
ROLLBACK: Line = {"command": "rollback", "release": A, "left": B}


def started(release: str) -> Line:
    return {"command": "start-release", "step": "begin", "release": release}


def switched(step: str, release: str, share: int, whole: str | None = None) -> Line:
    """A line of `swap-upstream`; without `whole`, as an earlier evenkeel wrote it."""
    line = {"command": "swap-upstream", "step": step, "release": release, "share": share}
    return line if whole is None else {**line, "whole": whole}


def done(release: str, share: int, before: str, after: str) -> list[Line]:
    return [switched("begin", release, share, before), switched("live", release, share, after)]


FIRST = [started(A), *done(A, 100, "", A)]
BEGUN = [*FIRST, started(B), switched("begin", B, 100, A)]
SECOND = [*FIRST, started(B), *done(B, 100, A, B)]
TAKEN_OVER = [*FIRST, started(B), *done(B, 50, A, ""), *done(A, 0, "", B)]  # B has all because A gave up the rest
BACK = {
    "ordinary": ({B: 100, A: 0}, SECOND, A),
    "the history is lost": ({B: 100, A: 0}, [], A),
    "cut short before its switch": ({B: 100, A: 0}, [*SECOND, ROLLBACK], A),
    "a canary of the one of before": ({B: 70, A: 30}, [*TAKEN_OVER, *done(A, 30, B, "")], B),
    "another canary": ({B: 70, C: 30}, [*TAKEN_OVER, started(C), *done(C, 30, B, "")], B),
    "the first deploy ever asked for a share": ({A: 90, B: 10}, [started(A), *done(A, 5, "", A), started(B), *done(B, 10, A, "")], A),
    "killed once it was live": ({C: 100, B: 0}, [*BEGUN, started(C), *done(C, 100, B, C)], B),
    "lines of before": ({C: 100, A: 0}, [started(B), switched("live", B, 100), started(A), switched("live", A, 40), switched("live", B, 0),
                                         started(C), switched("live", C, 100)], A),
}
NEVER = "never had all of the traffic"
NOT = {
    "its deploy was killed": ({A: 100, B: 0}, BEGUN, NEVER),
    "its deploy failed in the last step": ({A: 100, B: 0}, [*BEGUN, switched("failed", B, 100)], NEVER),
    "a canary that was ended": ({A: 100, B: 0}, [*FIRST, started(B), *done(B, 5, A, ""), *done(B, 0, "", A)], NEVER),
    "twice": ({A: 100, B: 0}, [*SECOND, ROLLBACK, *done(A, 100, B, A)], "was rolled back from"),
}


def at(tmp_path: Path, shares: dict[str, int], lines: list[Line]) -> Settings:
    """The settings of an environment with these shares, and this history."""
    proxy = tmp_path / "x" / "proxy"
    proxy.mkdir(parents=True)
    now = Traffic(9, tuple(Share(release, colour, percent, (f"{colour}-1",))
                           for (release, percent), colour in zip(shares.items(), ("blue", "green"), strict=True)))
    (proxy / "traffic.conf").write_text(render_nginx(now, Options(domain="x")))
    (tmp_path / "x" / "history").write_text("".join(json.dumps({"time": "then", **line}) + "\n" for line in lines))
    return Settings("x", {"KEEL_STATE": str(tmp_path), "KEEL_PROXY": "nginx"}, {}, schema.load(ROOT / "compose" / "example.env"))


@pytest.mark.parametrize("case", BACK)
def test_back(tmp_path: Path, case: str) -> None:
    shares, lines, wanted = BACK[case]
    assert switch.back(at(tmp_path, shares, lines)) == wanted


@pytest.mark.parametrize("case", NOT)
def test_not_back(tmp_path: Path, case: str) -> None:
    shares, lines, said = NOT[case]
    with pytest.raises(Stop, match=said) as stopped:
        switch.back(at(tmp_path, shares, lines))
    assert stopped.value.code == NO


INTRODUCED: dict[str, tuple[list[tuple[str, str, int]], str, int]] = {  # the shares before, the colour whose containers are new, its share
    "the first": ([], "blue", 0),
    "a new release": ([(A, "blue", 100)], "green", 0),
    "the standby": ([(A, "blue", 100), (B, "green", 0)], "green", 0),
    "the one that serves all": ([(A, "blue", 100), (B, "green", 0)], "blue", 100),
    "the only one": ([(A, "blue", 100)], "blue", 100),
    "a canary": ([(A, "blue", 95), (B, "green", 5)], "green", 5),
}


@pytest.mark.parametrize("case", INTRODUCED)
def test_a_proxy_that_learns_of_containers_moves_no_traffic(case: str) -> None:
    """One of a release that serves may have been removed by hand, and Caddy is told each container by its name."""
    shares, colour, percent = INTRODUCED[case]
    before = Traffic(7, tuple(Share(release, c, p, ("one", "two")) for release, c, p in shares))
    after = switch._introduced(before, Share(B if colour == "green" else A, colour, 50, ("one",)))
    assert {s.colour: s.percent for s in after.shares} == {**{s.colour: s.percent for s in before.shares}, colour: percent}
    assert next(s.replicas for s in after.shares if s.colour == colour) == ("one",)
