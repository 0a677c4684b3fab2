"""A certificate authority that speaks ACME (RFC 8555): Caddy's own, in a container beside a platform.

It is in no network of the platform's until `open`: then it is `ca.test` in the edge network, and the platform's domain leads to the proxy
there, ports 80 and 443, as the published ports of a server do.
"""
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from docker.models.containers import Container
from dotenv import dotenv_values

from scenarios.machine import HOST, ROOT, until
from scenarios.platform import Platform

NAME = "ca.test"
DIRECTORY = f"https://{NAME}:9443/acme/local/directory"
REFUSING = f"https://{NAME}:9443/acme/strict/directory"  # which it does not have, and says so
CADDYFILE = f"""{{
	admin off
	persist_config off
	skip_install_trust
}}
https://{NAME}:9443 {{
	tls internal
	log
	acme_server
}}
"""
START = 'printf %s "$CADDYFILE" >/tmp/Caddyfile && exec caddy run --adapter caddyfile --config /tmp/Caddyfile'
ROOT_FILE = "/data/caddy/pki/authorities/local/root.crt"
FORWARD = """for (const [from, to] of [[80, 8080], [443, 8443]])
    require("node:net").createServer(near => {
        const far = require("node:net").connect(to, process.env.PROXY, () => near.pipe(far).pipe(near));
        for (const [one, other] of [[near, far], [far, near]]) one.on("error", () => other.destroy());
    }).listen(from, "0.0.0.0", () => console.log("listens on", from));
"""


@dataclass
class Authority:
    """The authority, and the way from it to the platform's proxy."""

    platform: Platform
    container: Container
    forwarder: Container

    def root(self) -> str:
        """Its root certificate, PEM; '' before it has one."""
        code, said = self.container.exec_run(["cat", ROOT_FILE])
        return said.decode() if code == 0 else ""

    def open(self) -> None:
        """Let the platform reach it, and it the platform."""
        network = self.platform.docker.networks.get(f"keel-{self.platform.name}_edge")
        network.connect(self.container, aliases=[NAME])
        network.connect(self.forwarder, aliases=[self.platform.domain])
        self.forwarder.start()
        # A challenge is tried once: an authority that found nobody would ask again only for a new order.
        until(lambda: self.forwarder.logs().count(b"listens") == 2)

    def asked(self, what: str = "/acme/local/new-order") -> int:
        """How many requests for something it has answered."""
        lines = [json.loads(line) for line in self.container.logs().decode().splitlines() if '"handled request"' in line]
        return sum(line["request"]["uri"] == what for line in lines)


@contextlib.contextmanager
def authority(platform: Platform) -> Iterator[Authority]:
    """One that runs, with a root of its own; both containers are removed in the end, before the network of the platform is."""
    pins = dotenv_values(ROOT / (HOST.get("KEEL_IMAGES") or "compose/images.env"), interpolate=False)
    labels, create = {"keel.env": platform.name}, platform.docker.containers.create
    with contextlib.ExitStack() as stack:
        def one(image: str, command: list[str], **environment: str) -> Container:
            made = create(str(pins[f"KEEL_IMAGE_{image}"]), command, entrypoint=[], environment=environment, labels=labels, init=True)
            stack.callback(made.remove, force=True, v=True)
            return made

        ours = Authority(platform, one("CADDY", ["sh", "-c", START], CADDYFILE=CADDYFILE),
                         one("NODE", ["node", "-e", FORWARD], PROXY=f"keel-{platform.name}-caddy-1"))
        ours.container.start()
        until(ours.root)
        yield ours
