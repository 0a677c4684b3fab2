"""The traffic file as a value: what is written is read back, shares are exact, and nothing hostile gets in."""
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.options import Options
from keel.traffic import Share, Traffic, digests, parse, renumbered
from keel.traffic_file import live, names, render_caddy, render_nginx

Render = Callable[[Traffic, Options], str]
BOTH = pytest.mark.parametrize("render", [render_nginx, render_caddy])
LIVE = (Path(__file__).parents[2] / "proxy" / "nginx" / "live.conf").read_text()
BLUE, GREEN = "20260102T030405Z-1a2b3c4", "20260102T040506Z-5d6e7f8"
OPTIONS = Options(domain="events.example.test", project="keel-production", replicas=2)
HOSTILE = st.one_of(
    st.sampled_from(["\n", "a\n}", 'a"b', "a;b", "a{b", "a}b", "a b", "a#b", "a\\b", "a$b", "a'b", "a`b", "{$HOME}", "{file./etc/passwd}",
                     "a\r", "a\x00", "a\u2028b", "\u0663", "\u00aa", "", "-rf", "../x", "# keel: {}"]),
    st.text(min_size=1).filter(lambda s: not re.fullmatch(r"[A-Za-z0-9_.-]+", s)))

replica = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", fullmatch=True)
release = st.from_regex(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{7}", fullmatch=True)
seconds = st.integers(0, 10**7).map(lambda ms: ms / 1000)


@st.composite
def traffics(draw: st.DrawFn) -> Traffic:
    colours = draw(st.sampled_from([(), ("blue",), ("green",), ("blue", "green"), ("green", "blue")]))
    first = draw(st.integers(0, 100)) if len(colours) == 2 else draw(st.sampled_from([0, 100]))
    shares = tuple(Share(draw(release), colour, percent, tuple(draw(st.lists(replica, min_size=1, max_size=5, unique=True))))
                   for colour, percent in zip(colours, (first, 100 - first), strict=False))
    return Traffic(draw(st.integers(0, 2**53 - 1)), shares, draw(st.booleans()))


@st.composite
def options(draw: st.DrawFn) -> Options:
    return Options(
        domain=draw(st.from_regex(r"[a-z0-9]{1,20}(\.[a-z]{2,10})?", fullmatch=True)), app_port=draw(st.integers(1, 65535)),
        https_port=draw(st.integers(1, 65535)), balance=draw(st.sampled_from(["round-robin", "least-connections", "ip-hash", "cookie"])),
        rate_limit=draw(st.integers(0, 10**6)), rate_burst=draw(st.integers(0, 10**6)), body_limit=draw(st.integers(0, 2**40)),
        read_timeout=draw(seconds), keepalive=draw(seconds), cache=draw(seconds), tls=draw(st.sampled_from(["files", "acme"])),
        acme_email=draw(st.sampled_from(["", "ops+acme@example.org"])), project=draw(st.sampled_from(["", "keel-staging"])),
        replicas=draw(st.integers(0, 9)), acme_root=draw(st.booleans()))


def two(percent: int, *, generation: int = 7, maintenance: bool = False) -> Traffic:
    """Green with `percent`, blue with the rest."""
    return Traffic(generation, (Share(BLUE, "blue", 100 - percent, ("b-1", "b-2")), Share(GREEN, "green", percent, ("g-1",))), maintenance)


def snippets(text: str) -> str:
    """All that is loaded, but nginx's number of when that was."""
    loaded = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    return re.sub(r'( \$keel_config .*) [0-9]+"', r'\1"', loaded)


@BOTH
@given(traffic=traffics(), chosen=options())
def test_what_is_written_is_read_back(render: Render, traffic: Traffic, chosen: Options) -> None:
    assert parse(render(traffic, chosen)) == traffic


@BOTH
@given(traffic=traffics(), chosen=options(), generation=st.integers(0, 2**53 - 1))
def test_another_number_changes_nothing_else(render: Render, traffic: Traffic, chosen: Options, generation: int) -> None:
    assert renumbered(render(traffic, chosen), generation) == render(dataclasses.replace(traffic, generation=generation), chosen)


def test_an_authority_of_ones_own_is_trusted_where_that_is_asked_for() -> None:
    for render in (render_nginx, render_caddy):
        private = dataclasses.replace(OPTIONS, tls="acme", acme_root=True)
        assert "/etc/keel/tls/acme-root.pem" in render(two(0), private)
        for other in (dataclasses.replace(private, acme_root=False), dataclasses.replace(private, tls="files")):
            assert "acme-root.pem" not in render(two(0), other)


@BOTH
@given(traffic=traffics(), chosen=options())
def test_braces_and_quotes_are_balanced(render: Render, traffic: Traffic, chosen: Options) -> None:
    text = snippets(render(traffic, chosen))
    assert text.count("{") == text.count("}") and text.count('"') % 2 == 0


class Nginx:
    """The maps of live.conf for one request, worked out as nginx does: each when it is asked for, and kept."""

    def __init__(self, traffic: Traffic, client: str = "00") -> None:
        self.known = {"realpath_root": f"/etc/keel/traffic/{live(traffic)}", "keel_tens": client[0], "keel_ones": client[1]}

    def __getitem__(self, name: str) -> str:
        if name not in self.known:
            block = re.search(rf'^map "?([^\n"]*)"? \${name} \{{\n(.*?)^\}}', LIVE, re.MULTILINE | re.DOTALL)
            if not block:
                return ""  # a part that no expression has found yet
            asked, rest = self.text(block[1]), {}
            for line in block[2].splitlines():
                key, _, value = line.strip().removesuffix(";").rpartition(" ")
                rest[key.strip('"')] = value.strip('"')
            self.known[name] = self.text(self.chosen(asked, rest))
        return self.known[name]

    def chosen(self, asked: str, lines: dict[str, str]) -> str:
        if asked in lines:
            return lines[asked]
        for key, value in lines.items():
            if key.startswith("~") and (found := re.search(key[1:].replace("(?<", "(?P<"), asked)):
                self.known |= found.groupdict()
                return value
        return lines.get("default", "")

    def text(self, template: str) -> str:
        return re.sub(r"\$([a-z_]+)", lambda found: self[found[1]], template)


@pytest.mark.parametrize("percent", range(101))
def test_shares_of_nginx_are_exact(percent: int) -> None:
    got = [Nginx(two(percent), f"{n:02}")["keel_colour"] for n in range(100)]
    assert got == ["green"] * percent + ["blue"] * (100 - percent), "and who has met green meets it again when it gets more"


@given(traffics(), st.integers(0, 99))
def test_nginx_reads_in_the_name_what_was_meant(traffic: Traffic, client: int) -> None:
    assert re.fullmatch(r"[A-Za-z0-9,.-]{1,255}", live(traffic))
    for name, wanted in (("keel_generation", str(traffic.generation)), ("keel_closed", str(int(traffic.closed)))):
        assert Nginx(traffic)[name] == wanted, "whichever is asked for first"
    colour = Nginx(traffic, f"{client:02}")["keel_colour"]
    percent = next((s.percent for s in traffic.shares if s.colour == "green"), 0)
    assert colour == ("green" if client < percent else "blue")
    assert Nginx(traffic, f"{client:02}")["keel_release"] == next((s.release for s in traffic.shares if s.colour == colour), "-")


def test_the_hundredths_of_nginx_are_alike() -> None:
    for name in ("tens", "ones"):
        parts = re.search(rf'^split_clients "{name} \S+" \$keel_{name} \{{ (.*) \}}', LIVE, re.MULTILINE)
        assert parts and parts[1] == " ".join(f"10% {n};" for n in range(9)) + " * 9;"


@given(st.integers(0, 100), st.integers(0, 0xFFFF))
def test_shares_of_caddy_are_exact(percent: int, digits: int) -> None:
    upto = re.findall(r"\A# live 7 open ([0-9a-g]+) ", render_caddy(two(percent), OPTIONS))[0]
    green = f"{digits:04x}f00d-0000-4000-8000-000000000000" < upto
    assert green == (digits < percent * 65536 // 100)


@BOTH
@given(traffic=traffics(), percent=st.integers(0, 100), maintenance=st.booleans(), turned=st.booleans())
def test_a_switch_changes_nothing_that_is_loaded(render: Render, traffic: Traffic, percent: int, maintenance: bool, turned: bool) -> None:
    """Only comment lines differ: a reload of Caddy loses requests, one of nginx refuses some of HTTP/2."""
    if len(traffic.shares) == 2:
        shares = tuple(dataclasses.replace(s, percent=p) for s, p in zip(traffic.shares, (percent, 100 - percent), strict=True))
        after = Traffic(traffic.generation + 1, shares[::-1] if turned else shares, maintenance)
        assert snippets(render(traffic, OPTIONS)) == snippets(render(after, OPTIONS))


def test_the_first_deploys_of_caddy_change_no_snippet() -> None:
    made = {c: tuple(f"keel-production-{c}-app-{n}" for n in (1, 2)) for c in ("blue", "green")}
    steps = [Traffic(1, ()), Traffic(2, (Share(BLUE, "blue", 100, made["blue"]),)),
             Traffic(3, (Share(GREEN, "green", 100, made["green"]), Share(BLUE, "blue", 0, made["blue"])))]
    assert len({snippets(render_caddy(t, OPTIONS)) for t in steps}) == 1
    assert names(steps[0], "green", OPTIONS) == made["green"]


@BOTH
@pytest.mark.parametrize("change", [{"body_limit": 1}, {"replicas": 3}, {"static": "other"}, {"balance": "ip-hash"}])
def test_what_must_be_loaded_has_another_digest(render: Render, change: dict[str, Any]) -> None:
    one = Traffic(1, (Share(BLUE, "blue", 100, ("b-1",)),))
    texts = [render(one, o) for o in (OPTIONS, dataclasses.replace(OPTIONS, **change))]
    assert len({digests(text)[0] for text in texts}) == (1 if render is render_nginx and "replicas" in change else 2)


@BOTH
def test_another_certificate_is_told_apart_from_another_configuration(render: Render) -> None:
    found = [digests(render(Traffic(1, ()), dataclasses.replace(OPTIONS, certificate=c))) for c in ("", "abc", "def")]
    assert len({f[0] for f in found}) == 1 and [f[1] for f in found] == ["-", "abc", "def"]


@BOTH
@pytest.mark.parametrize("traffic", [Traffic(3, ()), two(0, generation=3, maintenance=True),
                                     Traffic(3, (Share(BLUE, "blue", 0, ("b-1",)),))])
def test_closed(render: Render, traffic: Traffic) -> None:
    text = render(traffic, OPTIONS)
    assert traffic.closed and ("live,3,closed," in live(traffic) if render is render_nginx else re.match(r"# live 3 closed ", text))
    assert not two(0).closed and "live,7,open," in live(two(0)) and (render is render_nginx or "# live 7 open " in render(two(0), OPTIONS))


def test_the_upstreams_are_those_that_have_a_share() -> None:
    """The standby too, so that nginx knows its addresses; not a colour without containers, which it would look for, and log, for ever."""
    for traffic, wanted in ((Traffic(1, ()), []), (two(0), ["blue", "green"]),
                            (Traffic(2, (Share(BLUE, "blue", 100, ("b-1",)),)), ["blue"]),
                            (Traffic(2, (Share(GREEN, "green", 100, ("g-1",)),)), ["green"])):
        text = render_nginx(traffic, OPTIONS)
        assert re.findall(r"^upstream app-(\w+) ", text, re.MULTILINE) == re.findall(r"server app-(\w+):3000 resolve", text) == wanted
        alone = re.findall(r'map "" \$keel_colour { default (\w+); }', text)
        assert alone == (wanted if len(wanted) == 1 else []), "a colour that is alone gets all, whatever the link says"


def test_a_traffic_file_of_before_there_was_a_link_gets_another_number() -> None:
    """As evenkeel wrote it for nginx until then; where the first switch fails, it is put back and proven."""
    old = ('# Written by evenkeel at each switch; edit the settings instead. Generation 7.\n# nothing is deployed\n'
           '# keel: {"generation": 7, "maintenance": false, "shares": []}\nmap "" $keel_generation { default 7; }\n'
           'map "" $keel_closed { default 1; }\n')
    new = renumbered(old, 19)
    assert parse(new).generation == 19 and "Generation 19." in new and "$keel_generation { default 19; }" in new and "7" not in new


@given(HOSTILE)
def test_hostile_names_are_refused(text: str) -> None:
    bad: list[Callable[[], object]] = [
        lambda: Share(text, "blue", 100, ("b-1",)), lambda: Share(BLUE, text, 100, ("b-1",)),
        lambda: Share(BLUE, "blue", 100, ("b-1", text)),
        lambda: Options(domain=text), lambda: Options(domain="a", acme_directory=text), lambda: Options(domain="a", balance=text),
        lambda: Options(domain="a", tls=text)]
    if text:
        bad += [lambda: Options(domain="a", acme_email=text), lambda: Options(domain="a", project=text)]
    for make in bad:
        with pytest.raises(ValueError):
            make()


@pytest.mark.parametrize("make", [
    lambda: Share(BLUE, "blue", 101, ("b-1",)), lambda: Share(BLUE, "blue", -1, ("b-1",)), lambda: Share(BLUE, "blue", True, ("b-1",)),
    lambda: Share(BLUE, "blue", 50.0, ("b-1",)), lambda: Share(BLUE, "red", 100, ("b-1",)), lambda: Share(BLUE, "blue", 100, ()),
    lambda: Share(BLUE, "blue", 100, ("b-1", "b-1")), lambda: Share(BLUE + "\n", "blue", 100, ("b-1",)),
    lambda: Traffic(-1, ()), lambda: Traffic(1, (Share(BLUE, "blue", 50, ("b-1",)),)),
    lambda: Traffic(1, (Share(BLUE, "blue", 50, ("b-1",)), Share(GREEN, "blue", 50, ("g-1",)))),
    lambda: Traffic(1, (Share(BLUE, "blue", 50, ("b-1",)), Share(GREEN, "green", 49, ("g-1",)))),
    lambda: Traffic(1, (Share(BLUE, "blue", 0, ("b-1",)), Share(GREEN, "green", 0, ("g-1",)))),
    lambda: Traffic(1, (), 1), lambda: Options(domain="a", app_port=0), lambda: Options(domain="a", https_port=65536),
    lambda: Options(domain="a", read_timeout=float("nan")), lambda: Options(domain="a", keepalive=-1),
    lambda: Options(domain="a", cache=1e9),
])
def test_bad_values_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()


LINE = next(line for line in render_nginx(two(5), OPTIONS).splitlines() if line.startswith("# keel: "))


@pytest.mark.parametrize(("text", "reason"), [
    ("", "0 lines"), ("server {}\n", "0 lines"), (f"{LINE}\n{LINE}\n", "2 lines"), ("# keel: {\n", "Expecting"), ("# keel: []\n", "form"),
    ("# keel: {}\n", "shares"), (LINE.replace('"percent": 5', '"percent": 6'), "101"),
    (LINE.replace('"percent": 5', '"percent": "5"'), "percent"), (LINE.replace('"green"', '"red"'), "red"),
    (LINE.replace(GREEN, "x"), "release"),
    (LINE.replace('["g-1"]', '"g-1"'), "list"), (LINE.replace('["g-1"]', "[]"), "at least one"),
    (LINE.replace('"maintenance": false', '"maintenance": 0'), "maintenance"),
    (LINE.replace('"generation": 7', '"generation": "7"'), "generation"),
    (LINE[:-1] + ', "more": 1}', "more"),
])
def test_what_is_no_traffic_file(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse(text)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    for candidate in (text, f"# keel: {text}"):
        with pytest.raises(ValueError):
            parse(candidate)


@pytest.mark.parametrize(("domain", "age"), [("events.example.org", 31536000), ("localhost", 0), ("events.localhost", 0), ("127.0.0.1", 0)])
def test_no_lasting_hsts_for_localhost(domain: str, age: int) -> None:
    for render in (render_nginx, render_caddy):
        assert re.search(f"max-age={age}\\b", render(Traffic(1, ()), Options(domain=domain)))


def test_settings_stand_in_the_file() -> None:
    o = dataclasses.replace(OPTIONS, rate_limit=50, rate_burst=0, body_limit=1024, read_timeout=1.5, cache=0.5, https_port=8443)
    nginx, caddy = render_nginx(two(0), o), render_caddy(two(0), o)
    assert "rate=50r/s;\nlimit_req zone=keel_rate;" in nginx and "inactive=1s;" in nginx and "keepalive_timeout 4s;" in nginx
    assert "client_max_body_size 1024;" in nginx and "proxy_read_timeout 1500ms;" in nginx and '":8443"' in nginx
    assert "max_size 1024" in caddy and "keepalive 4s" in caddy and "response_header_timeout 1500ms" in caddy
    assert "{host}:8443{uri}" in caddy
    assert "limit_req" not in render_nginx(two(0), OPTIONS) and "proxy_cache" not in render_nginx(two(0), OPTIONS)
