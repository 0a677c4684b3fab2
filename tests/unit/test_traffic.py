"""The traffic file as a value: what is written is read back, shares are exact, and nothing hostile gets in."""
import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.options import Options
from keel.traffic import CONFIG, Share, Traffic, names, parse, render_caddy, render_nginx, renumbered

Render = Callable[[Traffic, Options], str]
BOTH = pytest.mark.parametrize("render", [render_nginx, render_caddy])
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
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


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


def split(text: str, clients: int = 20000) -> Counter[str]:
    """Who gets the clients of an nginx file, by nginx's rule: a hash below the sum of the parts, the rest to the star."""
    parts = re.search(r"split_clients .* \$keel_colour \{ (.*) \}", text)
    assert parts
    bounds, star, below = [], "", 0
    for share, colour in re.findall(r"(\S+) (\w+);", parts[1]):
        if share == "*":
            star = colour
        else:
            below += int(share.rstrip("%"))
            bounds.append((below, colour))
    return Counter(next((colour for bound, colour in bounds if n * 100 < bound * clients), star) for n in range(clients))


@pytest.mark.parametrize("percent", [0, 1, 5, 33, 50, 99, 100])
def test_shares_of_nginx_are_exact(percent: int) -> None:
    text = render_nginx(two(percent), OPTIONS)
    got = split(text)
    assert (got["green"], got["blue"]) == (percent * 200, (100 - percent) * 200)
    if percent in (0, 100):
        assert "%" not in re.findall(r"split_clients.*", text)[0], "all or nothing knows no rounding"


@given(st.integers(0, 100), st.integers(0, 0xFFFF))
def test_shares_of_caddy_are_exact(percent: int, digits: int) -> None:
    upto = re.findall(r"\A# live 7 open ([0-9a-g]+) ", render_caddy(two(percent), OPTIONS))[0]
    green = f"{digits:04x}f00d-0000-4000-8000-000000000000" < upto
    assert green == (digits < percent * 65536 // 100)


@given(traffics(), st.integers(0, 100), st.booleans())
def test_a_switch_of_caddy_changes_no_snippet(traffic: Traffic, percent: int, maintenance: bool) -> None:
    """Only comment lines differ, so nothing has to be loaded: a reload of Caddy loses requests."""
    if len(traffic.shares) == 2:
        shares = tuple(dataclasses.replace(s, percent=p) for s, p in zip(traffic.shares, (percent, 100 - percent), strict=True))
        after = Traffic(traffic.generation + 1, shares, maintenance)
        assert snippets(render_caddy(traffic, OPTIONS)) == snippets(render_caddy(after, OPTIONS))


def test_the_first_deploys_of_caddy_change_no_snippet() -> None:
    made = {c: tuple(f"keel-production-{c}-app-{n}" for n in (1, 2)) for c in ("blue", "green")}
    steps = [Traffic(1, ()), Traffic(2, (Share(BLUE, "blue", 100, made["blue"]),)),
             Traffic(3, (Share(GREEN, "green", 100, made["green"]), Share(BLUE, "blue", 0, made["blue"])))]
    assert len({snippets(render_caddy(t, OPTIONS)) for t in steps}) == 1
    assert names(steps[0], "green", OPTIONS) == made["green"]


@pytest.mark.parametrize("change", [{"body_limit": 1}, {"replicas": 3}, {"static": "other"}, {"balance": "ip-hash"}])
def test_what_caddy_must_load_has_another_digest(change: dict[str, Any]) -> None:
    both = (OPTIONS, dataclasses.replace(OPTIONS, **change))
    assert len({re.findall(f"{CONFIG}([0-9a-f]+)", render_caddy(Traffic(1, ()), o))[0] for o in both}) == 2


def test_another_certificate_is_told_apart_from_another_configuration() -> None:
    texts = [render_caddy(Traffic(1, ()), dataclasses.replace(OPTIONS, certificate=c)) for c in ("", "abc", "def")]
    found = [re.findall(f'"{CONFIG}([0-9a-f]+) ([0-9a-f]+|-)"', text) for text in texts]
    assert len({f[0][0] for f in found}) == 1 and [f[0][1] for f in found] == ["-", "abc", "def"]


@BOTH
@pytest.mark.parametrize("traffic", [Traffic(3, ()), two(0, maintenance=True), Traffic(3, (Share(BLUE, "blue", 0, ("b-1",)),))])
def test_closed(render: Render, traffic: Traffic) -> None:
    text = render(traffic, OPTIONS)
    assert traffic.closed and ("$keel_closed { default 1; }" in text or re.match(r"# live \d+ closed ", text))
    assert not two(0).closed and re.search(r"keel_closed { default 0; }|\A# live \d+ open ", render(two(0), OPTIONS))


def test_the_upstreams_are_those_that_have_a_share() -> None:
    """The standby too, so that nginx knows its addresses; not a colour without containers, which it would look for, and log, for ever."""
    for traffic, wanted in ((Traffic(1, ()), []), (two(0), ["app-blue:3000", "app-green:3000"]),
                            (Traffic(2, (Share(BLUE, "blue", 100, ("b-1",)),)), ["app-blue:3000"])):
        assert sorted(re.findall(r"server (\S+) resolve", render_nginx(traffic, OPTIONS))) == wanted


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
