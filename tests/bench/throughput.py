"""What the configuration costs: throughput and CPU per request with all features on, against a bare proxy of the same image."""
import contextlib
import statistics
from collections.abc import Iterator
from typing import Any

import requests
from docker.models.containers import Container
from docker.types import LogConfig
from dotenv import dotenv_values
from scenarios import images
from scenarios.machine import HOST, ROOT, free_ports, until
from scenarios.platform import Platform

from bench import wrk
from bench.report import Report
from bench.size import Size

WARM = 1.0  # seconds
# Answers before it has read the request: what is left is what the proxy costs. One worker for each replica.
INSTANT = r"""FROM {image}
RUN printf '%s\n' 'worker_processes 1; pid /tmp/nginx.pid; error_log stderr warn; events {{ worker_connections 4096; }}' \
    'http {{ access_log off; keepalive_requests 1000000; client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy;' \
    'fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;' \
    'server {{ listen 3000; default_type application/json; location / {{ return 200 "{{\"name\":\"instant\"}}"; }} }} }}' \
    >/etc/nginx/instant.conf
USER 10001:10001
HEALTHCHECK --interval=10s --start-period=30s --start-interval=1s CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:3000/"]
ENTRYPOINT []
CMD ["nginx", "-c", "/etc/nginx/instant.conf", "-g", "daemon off;"]
"""
BARE = {
    "nginx": """worker_processes auto; pid /tmp/nginx.pid; error_log stderr warn; events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 10000; client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
    upstream app {{ {servers} keepalive 64; }}
    server {{
        listen 8443 ssl; http2 on; ssl_certificate /etc/keel/tls/cert.pem; ssl_certificate_key /etc/keel/tls/key.pem;
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
""",
    "caddy": """{{
    admin off
    auto_https off
    persist_config off
    storage file_system /tmp/caddy
    servers {{
        protocols h1 h2
    }}
}}
https://:8443 {{
    tls /etc/keel/tls/cert.pem /etc/keel/tls/key.pem
    reverse_proxy {servers}
}}
""",
}
START = {"nginx": ["nginx", "-c", "/etc/bare/conf", "-g", "daemon off;"],
         "caddy": ["caddy", "run", "--adapter", "caddyfile", "--config", "/etc/bare/conf"]}


def throughput(report: Report, size: Size, platform: Platform) -> None:
    """Alternating rounds, all features and bare, in front of the sample application and of a backend that costs nothing."""
    on = {"KEEL_CACHE": "10s"} if platform.proxy == "nginx" else {}
    platform.set(**on)
    platform.deploy(images.good()).well()
    found = rounds(report, size, platform, "sample")
    report.figure("throughput", platform.proxy, found["rate_ratio"], **found)
    report.figure("throughput-cpu", platform.proxy, found["cpu_ratio"])
    platform.set(KEEL_MIGRATE_COMMAND="true", KEEL_SMOKE_COMMAND="true", **on)
    platform.deploy(images.variant(INSTANT.format(image=image("nginx")))).well()
    found = rounds(report, size, platform, "instant")
    report.figure("instant", platform.proxy, found["rate"], **found)
    report.figure("instant-cpu", platform.proxy, found["cpu_us"])
    report.figure("instant-ratio", platform.proxy, found["rate_ratio"])
    report.figure("instant-cpu-ratio", platform.proxy, found["cpu_ratio"])
    platform.set()
    for handle in (images.other(), images.good()):
        platform.deploy(handle).well()


def rounds(report: Report, size: Size, platform: Platform, backend: str) -> dict[str, float]:
    """Medians over the rounds; a ratio is that of the two halves of a round."""
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with bare(platform) as (container, port):
        halves = ((ours, platform.service("proxy"), platform.port), (theirs, container, port))
        for _, _, at in halves:
            wrk.run(at, platform.domain, WARM)
        for number in range(size.rounds):
            for into, proxy, at in halves if number % 2 == 0 else halves[::-1]:
                into.append(one(platform, proxy, at, size.seconds))
                report.sample("throughput", platform.proxy, backend=backend, bare=into is theirs, round=number, **into[-1])
    pairs = list(zip(ours, theirs, strict=True))
    return {"rate": statistics.median(o["rate"] for o in ours), "cpu_us": statistics.median(o["cpu_us"] for o in ours),
            "bare_rate": statistics.median(t["rate"] for t in theirs), "bare_cpu_us": statistics.median(t["cpu_us"] for t in theirs),
            "rate_ratio": statistics.median(o["rate"] / t["rate"] for o, t in pairs),
            "cpu_ratio": statistics.median(o["cpu_us"] / t["cpu_us"] for o, t in pairs)}


def one(platform: Platform, proxy: Container, port: int, seconds: float) -> dict[str, float]:
    """Requests/s, and the CPU time that the proxy's container took for each, in µs."""
    before = cpu(platform, proxy)
    said = wrk.run(port, platform.domain, seconds)
    spent = cpu(platform, proxy) - before
    return {"rate": said["requests"] / said["seconds"], "cpu_us": spent / said["requests"] / 1000, "p50_ms": said["p50_ms"],
            "p99_ms": said["p99_ms"]}


def cpu(platform: Platform, container: Container) -> int:
    """CPU time of a container so far, in ns."""
    said: dict[str, Any] = platform.docker.api.stats(container.id, stream=False, one_shot=True)
    return int(said["cpu_stats"]["cpu_usage"]["total_usage"])


@contextlib.contextmanager
def bare(platform: Platform) -> Iterator[tuple[Container, int]]:
    """A proxy of the same image in front of the release that serves: TLS, keep-alive, proxy_pass, and nothing else."""
    share = next(s for s in platform.traffic().shares if s.percent)
    kind, form = platform.proxy, "server {}:3000;" if platform.proxy == "nginx" else "{}:3000"
    folder = platform.root / "bare"
    folder.mkdir(exist_ok=True)
    (folder / "conf").write_text(BARE[kind].format(servers=" ".join(form.format(name) for name in share.replicas)))
    port, = free_ports(1)
    mounts = {str(folder): "/etc/bare", str(platform.root / "secrets" / "tls" / platform.name): "/etc/keel/tls"}
    ours = platform.service("proxy")
    container = platform.docker.containers.create(
        ours.image.id, START[kind], entrypoint=[], user=ours.attrs["Config"]["User"], network=f"keel-{platform.name}_edge", init=True,
        ports={"8443/tcp": ("127.0.0.1", port)}, volumes={host: {"bind": to, "mode": "ro"} for host, to in mounts.items()}, read_only=True,
        tmpfs={"/tmp": "mode=1777", "/config": "mode=1777", "/data": "mode=1777"}, cap_drop=["ALL"], labels={"keel.env": platform.name},
        cap_add=["NET_BIND_SERVICE"] if kind == "caddy" else [], log_config=LogConfig(type="json-file", config={"max-size": "10m"}))
    try:
        container.start()
        until(lambda: answers(platform, port), 30)
        yield container, port
    except AssertionError as e:
        raise AssertionError(f"{e}\n{container.logs(tail=20).decode()}") from e
    finally:
        container.remove(force=True, v=True)


def answers(platform: Platform, port: int) -> bool:
    try:
        return requests.get(f"https://127.0.0.1:{port}/version", verify=platform.cafile, timeout=5, headers={"Host": platform.domain}).ok
    except requests.RequestException:
        return False


def image(name: str) -> str:
    """The image that the pins file names."""
    pins = dotenv_values(ROOT / (HOST.get("KEEL_IMAGES") or "compose/images.env"), interpolate=False)
    return str(pins[f"KEEL_IMAGE_{name.upper()}"])
