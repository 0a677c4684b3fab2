"""What doctor looks at where releases are built and served: plug-ins, the proxy's ports and certificate, the memory of all containers."""
from typing import Any

from keel import acme, checks, compose, engine, host, lock, proc, run, tls
from keel import certificate as files
from keel.checks import Check, Subject, ok
from keel.settings import Settings
from keel.stop import Stop

ENGINES = ("docker-proxy ", "rootlesskit ", "a program of another user ")  # who holds a port for a container, as far as we can see
COMPOSE = (2, 30)  # no older one was tried


def plugins(_s: Settings, _facts: dict[str, Any]) -> list[Check]:
    """Those of the docker client."""
    return [plugin("compose", ["docker", "compose", "version", "--short"], COMPOSE),
            plugin("buildx", ["docker", "buildx", "version"], (0, 0))]


def plugin(name: str, argv: list[str], wanted: tuple[int, int]) -> Check:
    """A plug-in of the docker client: there, and new enough."""
    hint = f"install docker-{name}-plugin {checks.dotted(wanted) if wanted > (0, 0) else ''}".strip() + "; make setup does for a trial"
    try:
        said = run.ask(argv).split()
    except (run.Failed, Stop):
        return Check(name, "bad", "is not there", hint)
    version = next((w for w in said if checks.version(w) > (0, 0)), "of no known version")
    if checks.version(version) >= wanted:
        return ok(name, version)
    return Check(name, "bad", f"{version}: {checks.dotted(wanted)} is wanted", hint)


def ours(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """What runs under this environment's name was started from here."""
    try:
        if facts:
            host.ours(s)
    except Stop as e:
        return [Check("state", "bad", e.message, e.hint)]
    return []


def ports(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """The published ports: free, or held by this environment's own proxy."""
    found = []
    containers = engine.published() if facts else {}
    for name in ("KEEL_HTTP_PORT", "KEEL_HTTPS_PORT"):
        port = s.number(name)
        holder, ours = proc.holder(port), False
        if port in containers:
            labels = containers[port]["Labels"]
            ours = labels.get("com.docker.compose.project") == s.project or labels.get("keel.env") == s.env
            holder = containers[port]["Names"][0].lstrip("/")
        if holder.startswith(ENGINES) and not facts:
            found.append(Check("ports", "warn", f"{name}={port} is held by {holder}: for whom, only the engine could say",
                               "start the engine"))
        elif holder and not ours:
            found.append(Check("ports", "bad", f"{name}={port} is held by {holder}", f"stop it, or choose another port in {s.file}"))
        else:
            found.append(ok("ports", f"{name}={port} is {f'held by our own {holder}' if ours else 'free'}"))
    return found


def certificate(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """The files that the proxy serves: there, a pair, for the domain, in time, readable by the proxy and by nobody else."""
    if s["KEEL_TLS"] == "acme":
        return [Check("certificate", *acme.verdict(s))]
    folder = files.folder(s)
    hint = f"put a new one into secrets/tls/{s.env}/" if s.env == "production" else f"make cert ENV={s.env}"
    try:
        pair = files.pair(s)
    except Stop as e:
        return [Check("certificate", "bad", e.message, hint)]
    said = f"{pair.days} days left, from {pair.issuer.removeprefix('CN=')}"
    found = [Check("certificate", "bad", flaw, hint) for flaw in files.flaws(pair, s["KEEL_DOMAIN"])]
    if not files.ended(pair) and (pair.days < tls.RENEW_DAYS or (s.env == "production" and pair.issuer == tls.AUTHORITY)):
        found.append(Check("certificate", "warn", said, hint))
    key = (folder / "key.pem").stat()
    uid, gid = compose.proxy_user(s)
    if not key.st_mode & (0o400 if key.st_uid == uid else 0o040 if key.st_gid == gid else 0o004):
        found.append(Check("certificate", "bad", f"the proxy (uid {uid}) cannot read key.pem", f"chmod 644 {folder}/key.pem"))
    if key.st_mode & 0o044 and all(p.stat().st_mode & 0o011 for p in (folder, folder.parent, folder.parent.parent)):
        found.append(Check("certificate", "bad", "every user of this host can read key.pem", "chmod 700 secrets secrets/tls"))
    found += _served(s) if facts else []
    return found or [ok("certificate", said)]


def _served(s: Settings) -> list[Check]:
    """Whether the proxy, where it runs, serves the certificate that is there."""
    if (engine.service(s, s["KEEL_PROXY"]) or {}).get("State") != "running":
        return []
    try:
        other = files.other_served(s)
    except Stop as e:
        return [Check("certificate", "warn", e.message, e.hint)]
    said = f"another one is served than the one in {files.name(s)}"
    return [Check("certificate", "bad", said, f"make reload ENV={s.env}")] if other else []


def visitors(s: Settings, _facts: dict[str, Any]) -> list[Check]:
    """Whether each visitor has an address of his own: to a network without IPv6 the engine hands all who come by it from its gateway's."""
    public = host.public_ipv6()
    if not public or s["KEEL_PROXY"] != "nginx" or not s.number("KEEL_RATE_LIMIT"):
        return []
    return [Check("visitors", "warn", f"whoever comes to {public[0]} (IPv6) has one address with all the others for nginx: they share "
                  f"KEEL_RATE_LIMIT={s['KEEL_RATE_LIMIT']}", "publish no AAAA record, or KEEL_RATE_LIMIT=0 and a limit elsewhere")]


def memory(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """The limits of all containers, both colours at once as during a deploy, beside what there is."""
    there = checks.total(facts)
    limits = 2 * s.number("KEEL_REPLICAS") * s.size("KEEL_APP_MEMORY")
    limits += sum(s.size(f"KEEL_{name}_MEMORY") for name in ("POSTGRES", "REDIS", "PROXY"))
    limits += s.size("KEEL_RESTORE_MEMORY") if s["KEEL_BACKUP_STORES"] else 0
    said = f"limits {checks.gib(limits)} of {checks.gib(there)} (both colours at once)"
    hint = "lower KEEL_*_MEMORY or KEEL_REPLICAS, or add memory"
    return [ok("memory", said) if limits <= there else Check("memory", "warn", said, hint)]


def redis(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """That a running Redis is its own master: else a restore was killed, and Redis takes no writes. During a restore it is not."""
    service = engine.service(s, "redis") if facts else None
    if not service or service["State"] != "running" or lock.holder(s, lock.RESTORE):
        return []
    code, said = engine.execute(service["Id"], ["redis-cli", "-e", "role"])
    if code or said.split()[:1] != ["slave"]:
        return []  # that it does not answer, its own healthcheck says
    return [Check("redis", "bad", "is a replica, as a restore that was killed leaves it: it takes no writes, and may hold other keys",
                  "restore the backup again; or keep what it holds: redis-cli replicaof no one, in its container")]


EVERYTHING: list[Subject] = [plugins, ours, ports, certificate, visitors, memory, redis]
