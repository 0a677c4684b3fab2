"""The traffic file: which releases receive which share of the requests, written for nginx or for Caddy, and read back."""
import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass

from keel.options import ACME_ROOT, BALANCE, match, whole
from keel.options import Options as Options

COLOURS = ("blue", "green")
MARK = "# keel: "
CONFIG = "keel-config "  # followed by a digest, which snippets Caddy has loaded, and by that of the certificate
RELEASE = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4,40}"
REPLICA = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"


@dataclass(frozen=True)
class Share:
    """What one release receives: percent 0 is the standby, configured and resolved, but without requests."""

    release: str
    colour: str
    percent: int
    replicas: tuple[str, ...]

    def __post_init__(self) -> None:
        match("release", RELEASE, self.release)
        if self.colour not in COLOURS:
            raise ValueError(f"colour {self.colour!r}: blue or green is wanted")
        whole("percent", self.percent, 0, 100)
        if not isinstance(self.replicas, tuple) or not self.replicas or len(set(self.replicas)) < len(self.replicas):
            raise ValueError(f"replicas of {self.release}: at least one is wanted, and each once")
        for name in self.replicas:
            match("replica", REPLICA, name)


@dataclass(frozen=True)
class Traffic:
    """One generation: who serves. Where none has a share the proxy shows its page, as during maintenance."""

    generation: int
    shares: tuple[Share, ...]
    maintenance: bool = False

    def __post_init__(self) -> None:
        whole("generation", self.generation, 0, 2**53)
        if type(self.maintenance) is not bool:
            raise ValueError(f"maintenance {self.maintenance!r}: true or false is wanted")
        if len({s.colour for s in self.shares}) < len(self.shares):
            raise ValueError("two shares have the same colour")
        total = sum(s.percent for s in self.shares)
        if total not in (0, 100) or (total == 0 and len(self.shares) > 1):
            raise ValueError(f"the percents add up to {total}: 100 is wanted, or one share of 0 before the first switch")

    @property
    def closed(self) -> bool:
        """Whether visitors get the maintenance page."""
        return self.maintenance or not any(s.percent for s in self.shares)


def parse(text: str) -> Traffic:
    """What a traffic file of either proxy says. Raises ValueError with the reason."""
    marked = [line[len(MARK):] for line in text.splitlines() if line.startswith(MARK)]
    if len(marked) != 1:
        raise ValueError(f"no traffic file: {len(marked)} lines begin with {MARK!r}, one is wanted")
    try:
        said = json.loads(marked[0])
        if not all(isinstance(share["replicas"], list) for share in said["shares"]):
            raise TypeError("replicas are no list")
        shares = tuple(Share(**{**share, "replicas": tuple(share["replicas"])}) for share in said["shares"])
        return Traffic(**{**said, "shares": shares})
    except (KeyError, TypeError) as e:
        raise ValueError(f"the line {MARK!r} of the traffic file is not of its form: {e!r}") from e


def renumbered(text: str, generation: int) -> str:
    """A traffic file as it was written, with the settings of then, under another number. Raises ValueError for one that is none."""
    old = parse(text).generation
    places = rf'^(# live |# Written .* Generation |{MARK}.*"generation": |map "" \$keel_generation {{ default ){old}(?![0-9])'
    return re.sub(places, rf"\g<1>{generation}", text, flags=re.MULTILINE)


def render_nginx(traffic: Traffic, options: Options) -> str:
    """The traffic file for nginx: http-level directives, included by proxy/nginx/nginx.conf."""
    o, head = options, _head(traffic)
    live = [s for s in traffic.shares if s.percent]
    port = "" if o.https_port == 443 else f":{o.https_port}"
    facts = {"generation": traffic.generation, "closed": int(traffic.closed), "https_port": f'"{port}"', "hsts": f'"{o.hsts}"'}
    out = [head, *(f'map "" $keel_{name} {{ default {value}; }}' for name, value in facts.items())]
    # The last one takes the rest: 100 % is everybody, without rounding. The same client meets the same release.
    parts = [f"{s.percent}% {s.colour};" for s in live[:-1]] + [f"* {s.colour};" for s in live[-1:] or ()]
    out.append('split_clients "$remote_addr$http_user_agent" $keel_colour { ' + (" ".join(parts) or "* none;") + " }")
    out.append("map $keel_colour $keel_release { " + "".join(f"{s.colour} {s.release}; " for s in traffic.shares) + 'default ""; }')
    # Who may have a file that is not in this release; without another colour it is asked itself again, and its own 404 passes.
    other = "blue green; green blue;" if len(traffic.shares) > 1 else "default $keel_colour;"
    out.append(f"map $keel_colour $keel_other {{ {other} }}")
    for colour in (s.colour for s in traffic.shares):  # the standby's too: its addresses are known before it receives anything
        out.append(f"upstream app-{colour} {{\n    zone app-{colour} 256k;\n    server app-{colour}:{o.app_port} resolve max_fails=0;")
        out += [f"    {BALANCE[o.balance][0]}"] if BALANCE[o.balance][0] else []
        out.append(f"    keepalive 64;\n    keepalive_timeout {_time(o.keepalive)};\n}}")
    out.append(f"client_max_body_size {o.body_limit};\nproxy_read_timeout {_time(o.read_timeout)};\n"
               f"proxy_send_timeout {_time(o.read_timeout)};")
    if o.rate_limit:
        burst = f" burst={o.rate_burst} nodelay" if o.rate_burst else ""
        out.append(f"limit_req_zone $keel_limited zone=keel_rate:10m rate={o.rate_limit}r/s;\nlimit_req zone=keel_rate{burst};")
    if o.cache:
        out.append("proxy_cache_path /tmp/responses levels=1:2 keys_zone=keel_cache:10m max_size=64m use_temp_path=off "
                   f"inactive={math.ceil(o.cache)}s;\nproxy_cache keel_cache;")
    if o.tls == "acme":
        contact = f"contact {o.acme_email}; " if o.acme_email else ""
        trusted = f"ssl_trusted_certificate /etc/keel/tls/{ACME_ROOT}; " if o.acme_root else ""
        out.append(f"acme_shared_zone zone=keel_acme:1M;\nacme_issuer keel {{ uri {o.acme_directory}; "
                   f"{contact}{trusted}state_path /var/lib/nginx-acme; accept_terms_of_service; }}")
        out.append(f"server {{ server_name {o.domain}; include site-acme.conf; }}\ninclude plain.conf;")
    else:
        out.append("include site.conf;")
    return "\n".join(out) + "\n"


def render_caddy(traffic: Traffic, options: Options) -> str:
    """The traffic file for Caddy: a first line that Caddy reads at each request, and the snippets that it reads when it is (re)loaded.

    A reload of Caddy closes idle connections and the queue of its listener, so requests are lost. Nothing that a switch changes is
    therefore in the snippets: it is all in the first line, and a switch is the rename of the file.
    """
    o, acme = options, options.tls == "acme"
    port = "" if o.https_port == 443 else f":{o.https_port}"
    issuer = [f"acme_ca {o.acme_directory}", f"email {o.acme_email}" if o.acme_email else "",
              f"acme_ca_root /etc/keel/tls/{ACME_ROOT}" if o.acme_root else ""]
    snippets = {
        "options": "\n\t".join(filter(None, issuer)) if acme else "",
        "site": f"import /etc/caddy/site.caddy {o.domain if acme else ':8443'}",
        "tls": "" if acme else "tls /etc/keel/tls/cert.pem /etc/keel/tls/key.pem",
        "hsts": f"header ?Strict-Transport-Security {o.hsts}",
        "redirect": f"redir https://{{host}}{port}{{uri}} 308",
        "limits": f"request_body {{\n\t\tmax_size {o.body_limit}\n\t}}",
        "extra": f"import /etc/caddy-modules/*.caddy {o.rate_limit} {o.rate_burst} {_time(o.cache)}",
        "transport": f"keepalive {_time(o.keepalive)}\n\tresponse_header_timeout {_time(o.read_timeout)}",
        **{colour: _caddy_proxy(names(traffic, colour, o), o) for colour in COLOURS},
    }
    text = "\n".join(f"(keel-{name}) {{\n\t{body}\n}}" for name, body in snippets.items()) + "\n"
    digest = hashlib.sha256((o.static + text).encode()).hexdigest()[:16]
    return f'{_live(traffic)}\n{_head(traffic)}\n{text}(keel-config) {{\n\trespond "{CONFIG}{digest} {o.certificate or "-"}"\n}}\n'


def names(traffic: Traffic, colour: str, options: Options) -> tuple[str, ...]:
    """The containers of a colour: its share's or, before it has one, those that Compose will make."""
    own = [s.replicas for s in traffic.shares if s.colour == colour]
    return own[0] if own else tuple(f"{options.project}-{colour}-app-{n + 1}" for n in range(options.replicas if options.project else 0))


def _live(traffic: Traffic) -> str:
    """What Caddy decides by: generation, open or closed, the bound below which a random hexadecimal number goes to green, both releases."""
    percent = {s.colour: s.percent for s in traffic.shares}
    green = percent.get("green", 0)
    upto = "0" if green == 0 else "g" if green == 100 else f"{green * 65536 // 100:04x}"
    releases = {s.colour: s.release for s in traffic.shares}
    state = "closed" if traffic.closed else "open"
    return f"# live {traffic.generation} {state} {upto} " + " ".join(releases.get(c, "-") for c in COLOURS)


def _caddy_proxy(replicas: tuple[str, ...], options: Options) -> str:
    if not replicas:
        return "error 503"
    # A replica that failed is left out for a second; the requests that find none wait longer than that (lb_try_duration), so none fails.
    passive = "\n\t\tfail_duration 1s" if len(replicas) > 1 else ""
    return (f"reverse_proxy {' '.join(f'{name}:{options.app_port}' for name in replicas)} {{\n\t\tlb_policy {BALANCE[options.balance][1]}"
            f"{passive}\n\t\timport /etc/caddy/upstream.caddy\n\t\t{{block}}\n\t}}")


def _head(traffic: Traffic) -> str:
    words = [f"{s.release} ({s.colour}) {s.percent} %" for s in traffic.shares]
    state = "maintenance page; " if traffic.maintenance else ""
    return (f"# Written by evenkeel at each switch; edit the settings instead. Generation {traffic.generation}.\n"
            f"# {state}{', '.join(words) or 'nothing is deployed'}\n{MARK}{json.dumps(asdict(traffic), sort_keys=True)}")


def _time(seconds: float) -> str:
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"
