"""Docker Compose: the argv prefixes and the process environment of one environment's projects, and whether the files are well."""
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from keel import context, private, run
from keel.settings import ROOT, Settings, read
from keel.stop import CONFIG, Stop
from keel.traffic import COLOURS

SERVICES = ("postgres", "redis", "pgbouncer", "nginx", "caddy")
# Who the proxy runs as where root owns its folders: no account of this host, and none of the images.
PROXY_USER = 10001


def base(settings: Settings) -> list[str]:
    """`docker compose` for what must not blink: postgres, redis, the proxy."""
    return _compose(settings.project, "base")


def colour(settings: Settings, name: str) -> list[str]:
    """`docker compose` for one colour of the application; its environment needs KEEL_IMAGE, KEEL_RELEASE and KEEL_COLOUR."""
    return _compose(f"{settings.project}-{name}", "app", settings.env)


def dev(settings: Settings) -> list[str]:
    """`docker compose` for the hot-reloading application of `make dev`; it needs KEEL_COLOUR=dev, and has_dev."""
    return [*_compose(f"{settings.project}-dev", "app", settings.env), "--profile", "dev"]


def has_dev(settings: Settings) -> bool:
    """Whether compose/ENV.yml has the service `app-dev`."""
    return bool(re.search(r"^  app-dev:", (ROOT / "compose" / f"{settings.env}.yml").read_text(), re.MULTILINE))


def build_dev(settings: Settings) -> list[str]:
    """The build of its image: the Dockerfile's stage `dev`, on the pinned Node."""
    node = images(settings)["KEEL_IMAGE_NODE"]
    return ["docker", "build", "--target", "dev", "--build-arg", f"NODE_IMAGE={node}", "--tag", f"{settings.project}-dev",
            str(context.folder(settings))]


def _compose(project: str, *files: str) -> list[str]:
    argv = ["docker", "compose", "--progress=quiet", "--project-directory", str(ROOT), "-p", project]
    for name in files:
        argv += ["-f", str(ROOT / "compose" / f"{name}.yml")]
    return argv


def environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The variables that the files interpolate; `extra` wins. Holds the passwords: give it to a process, never show it."""
    values = {name: settings[name] for name in settings.variables}
    # An empty DOCKER_HOST is not the same as none for every program that reads it.
    values = {name: value for name, value in values.items() if value or not name.startswith("DOCKER_")}
    uid, gid = proxy_user(settings)
    return {
        **values,
        **images(settings),
        "KEEL_ENV": settings.env,
        "KEEL_ROOT": str(ROOT),
        "KEEL_STATE": str(settings.path("KEEL_STATE")),
        "KEEL_APP_DIR": str(settings.path("KEEL_APP_DIR")),
        "KEEL_PROXY_UID": str(uid),
        "KEEL_PROXY_GID": str(gid),
        "KEEL_PGHOST": "pgbouncer" if settings.on("KEEL_PGBOUNCER") else "postgres",
        # A container's limit includes what a fork for saving copies: Redis evicts well before the kernel kills.
        "KEEL_REDIS_MAXMEMORY": str(settings.size("KEEL_REDIS_MEMORY") * 6 // 10),
        "KEEL_PROXY_TMP": str(settings.size("KEEL_PROXY_MEMORY") * 3 // 8),  # of the memory, for uploads; the response cache has as much
        "REDIS_URL": f"redis://:{quote(settings['REDIS_PASSWORD'], safe='')}@redis:6379",
        "COMPOSE_PROFILES": settings["KEEL_PROXY"] + (",pgbouncer" if settings.on("KEEL_PGBOUNCER") else ""),
        "COMPOSE_DISABLE_ENV_FILE": "1",  # a stray .env is no setting
        **extra,
    }


def taken(settings: Settings, name: str, env: Mapping[str, str]) -> None:
    """Stop 78, in Compose's words, when it does not take a colour's files with these variables: before anything is changed for them."""
    try:
        run.ask([*colour(settings, name), "config", "--quiet"], env)
    except run.Failed as e:
        raise Stop(f"{settings.env}: Compose does not take the settings\n{e.said.rstrip()}\nnothing was changed", CONFIG,
                   f"edit {settings.file}, or what reads it: compose/app.yml, compose/{settings.env}.yml") from None


def images(settings: Settings) -> dict[str, str]:
    """What KEEL_IMAGES pins, by variable. Raises Stop 78 when there is no such file."""
    file = settings.path("KEEL_IMAGES")
    if not file.is_file():
        raise Stop(f"KEEL_IMAGES: there is no file {file}", CONFIG, f"edit {settings.file}")
    return read(file)


def proxy_user(settings: Settings) -> tuple[int, int]:
    """The uid and gid that the proxy runs as: the owner of its state folder, who is whoever deploys; never root."""
    folder = settings.state / "proxy"
    owner = folder.stat() if folder.exists() else None
    return (owner.st_uid, owner.st_gid) if owner and owner.st_uid else (PROXY_USER, PROXY_USER)


def prepare(settings: Settings) -> None:
    """Make the folders that the proxy's container mounts and the checkout does not bring; safe to repeat, wanted before `up`.

    Caddy writes its admin socket and what it got by ACME: where root makes these folders, they are handed to the proxy's user.
    Raises Stop 78 when they belong to somebody else.
    """
    secrets = ROOT / "secrets"
    try:
        with private.folder(secrets), private.folder(secrets / "tls"), private.folder(secrets / "tls" / settings.env, 0o755):
            for folder, mode in ((settings.state / "proxy", 0o755), (secrets / "acme" / settings.env, 0o700)):
                with private.folder(folder, mode):
                    if not run.dry and os.geteuid() == 0 and folder.stat().st_uid == 0:
                        os.chown(folder, *proxy_user(settings))
    except OSError as e:
        raise Stop(f"{e.filename}: {e.strerror}", CONFIG, "one user deploys an environment, always the same: who owns it?") from None


def unlisted(settings: Settings) -> list[str]:
    """The variables flagged `app` that compose/app.yml does not pass on."""
    text = (ROOT / "compose" / "app.yml").read_text()
    return [name for name, v in settings.variables.items() if v.app and not re.search(rf"^ +{name}: ", text, re.MULTILINE)]


def rehearsal(settings: Settings) -> Settings:
    """The same settings with placeholders taken for values: enough to judge the files where there are no secrets; starts nothing."""
    return replace(settings, variables={name: replace(v, required=False) for name, v in settings.variables.items()})


def faults(settings: Settings) -> list[str]:
    """What `docker compose config` says, warnings too, of base and both colours with every profile; and what app.yml forgets."""
    found = [f"compose/app.yml: {name} is flagged app in compose/example.env and not passed on" for name in unlisted(settings)]
    env = environment(settings, KEEL_IMAGE="none", KEEL_RELEASE="none", KEEL_COLOUR="none", COMPOSE_PROFILES="*")
    for prefix in (base(settings), *(colour(settings, name) for name in COLOURS)):
        # With -q whatever is written is a complaint. The shell joins stderr to it, and adds the code, in case nothing was said.
        argv = ["sh", "-c", '"$@" config -q 2>&1 || echo "docker compose config ended with $?"', "sh", *prefix]
        found += [f"{Path(prefix[-1]).name}: {line}" for line in run.ask(argv, env).splitlines()]
    return found
