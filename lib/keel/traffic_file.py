"""The traffic file as each proxy reads it: the settings that it has to load, and who serves, which is all that a switch changes."""
import hashlib
import json
import math
from dataclasses import asdict

from keel.options import ACME_ROOT, BALANCE, Options
from keel.traffic import COLOURS, CONFIG, MARK, Traffic

DIGITS = "0123456789"


def render_nginx(traffic: Traffic, options: Options) -> str:
    """The traffic file for nginx: http-level directives, included by proxy/nginx/nginx.conf.

    After a reload each connection of HTTP/2 is told to end, and requests that are on their way are refused unprocessed. So nothing that
    a switch changes is in the directives: it is all in the name of a file (`live`).
    """
    o = options
    port = "" if o.https_port == 443 else f":{o.https_port}"
    out = [f'map "" $keel_https_port {{ default "{port}"; }}', f'map "" $keel_hsts {{ default "{o.hsts}"; }}']
    # Who may have a file that is not in this release; without another colour it is asked itself again, and its own 404 passes.
    other = "blue green; green blue;" if len(traffic.shares) > 1 else "default $keel_colour;"
    out.append(f"map $keel_colour $keel_other {{ {other} }}")
    there = sorted(s.colour for s in traffic.shares)
    if len(there) == 1:
        out.append(f'map "" $keel_colour {{ default {there[0]}; }}')
    # The standby's too: its addresses are known before it receives anything. Not one without containers, for whose name nginx would look,
    # and log that, for ever.
    for colour in there:
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
    text = "\n".join(out) + "\n"
    return f'{_head(traffic)}\n{text}map "" $keel_config {{ default "{_config(text, o)} {traffic.generation}"; }}\n'


def live(traffic: Traffic) -> str:
    """What nginx decides by, as the name of a file (proxy/nginx/live.conf): live,GENERATION,open|closed,BOUND,BLUE,GREEN.

    The bound has three parts: the tens below which a client's number goes to green whatever its ones, the tens at which it depends on
    them, and the ones below which it does.
    """
    tens, ones = divmod(sum(s.percent for s in traffic.shares if s.colour == "green"), 10)
    bound = "-".join((DIGITS[:tens], DIGITS[tens:tens + 1], DIGITS[:ones]))
    return ",".join(("live", str(traffic.generation), "closed" if traffic.closed else "open", bound, *_releases(traffic)))


def _releases(traffic: Traffic) -> list[str]:
    releases = {s.colour: s.release for s in traffic.shares}
    return [releases.get(colour, "-") for colour in COLOURS]


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
    return f'{_live(traffic)}\n{_head(traffic)}\n{text}(keel-config) {{\n\trespond "{_config(text, o)}"\n}}\n'


def names(traffic: Traffic, colour: str, options: Options) -> tuple[str, ...]:
    """The containers of a colour: its share's or, before it has one, those that Compose will make."""
    own = [s.replicas for s in traffic.shares if s.colour == colour]
    return own[0] if own else tuple(f"{options.project}-{colour}-app-{n + 1}" for n in range(options.replicas if options.project else 0))


def _live(traffic: Traffic) -> str:
    """What Caddy decides by: generation, open or closed, the bound below which a random hexadecimal number goes to green, both releases."""
    percent = {s.colour: s.percent for s in traffic.shares}
    green = percent.get("green", 0)
    upto = "0" if green == 0 else "g" if green == 100 else f"{green * 65536 // 100:04x}"
    state = "closed" if traffic.closed else "open"
    return " ".join(("# live", str(traffic.generation), state, upto, *_releases(traffic)))


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


def _config(text: str, options: Options) -> str:
    """By which a proxy that has loaded this is known."""
    digest = hashlib.sha256((options.static + text).encode()).hexdigest()[:16]
    return f"{CONFIG}{digest} {options.certificate or '-'}"
