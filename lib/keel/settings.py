"""The settings of one environment: var/host.env < compose/ENV.env < secrets/ENV.env < process environment."""
import difflib
import itertools
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from keel import run, schema
from keel.stop import CONFIG, Stop

ROOT = Path(__file__).resolve().parent.parent.parent
RESERVED = ("engine", "host")  # folders of a trial's engine, beside the environments' own: `destroy` would delete it
# Our own names that are no settings: how the commands talk to each other.
OURS = {"KEEL_ENV", "KEEL_TRACE", "KEEL_DRY_RUN", "KEEL_URL", "KEEL_RELEASE", "KEEL_COLOUR", "KEEL_ROOT"}


@dataclass(frozen=True)
class Settings:
    """The values of one environment; each is checked when it is read, all at once by `faults`."""

    env: str
    values: dict[str, str]
    origin: dict[str, str]
    variables: dict[str, schema.Variable] = field(repr=False)
    flaws: tuple[str, ...] = ()  # what is wrong with the files themselves: absent, open to others, a line of no known form

    def raw(self, name: str) -> str:
        """The value or its default, unchecked; nothing where a required one is missing."""
        variable = self.variables[name]
        return self.values.get(name) or ("" if variable.required else variable.default)

    def __getitem__(self, name: str) -> str:
        """The value or its default. Raises Stop 78 when it is missing or of the wrong type."""
        value = self.raw(name)
        fault = self.variables[name].fault(value)
        if fault:
            raise Stop(f"{name} {fault}", CONFIG, f"env-check shows every fault of {self.env}; edit {self.origin.get(name, self.file)}")
        return value

    def number(self, name: str) -> int:
        return int(self[name])

    def seconds(self, name: str) -> float:
        return schema.seconds(self[name])

    def size(self, name: str) -> int:
        return schema.size(self[name])

    def path(self, name: str) -> Path:
        """A path; a relative one is below the checkout."""
        return ROOT / self[name]

    def on(self, name: str) -> bool:
        return self[name] == "on"

    @property
    def file(self) -> str:
        return f"compose/{self.env}.env"

    @property
    def state(self) -> Path:
        """The folder of this environment's state."""
        return self.path("KEEL_STATE") / self.env

    @property
    def project(self) -> str:
        """The Compose project of what must not blink; a colour's is this and `-blue` or `-green`."""
        return f"keel-{self.env}"


def environment() -> str:
    """The name in KEEL_ENV. Raises Stop 78 when there is none or no such file."""
    known = sorted(p.stem for p in (ROOT / "compose").glob("*.env") if p.stem not in ("example", "images"))
    env = os.environ.get("KEEL_ENV", "")
    if not env:
        raise Stop("KEEL_ENV is not set: which environment?", CONFIG, f"KEEL_ENV={'|'.join(known)} COMMAND …")
    if env not in known:
        near = difflib.get_close_matches(env, known, 1)
        raise Stop(f"{env}: there is no compose/{env}.env", CONFIG,
                   f"did you mean {near[0]}?" if near else f"environments: {', '.join(known)}")
    if env in RESERVED:
        raise Stop(f"{env}: an environment cannot have this name: its state would lie where a trial's engine has its own", CONFIG,
                   f"rename compose/{env}.env, compose/{env}.yml and secrets/{env}.env")
    return env


def load() -> Settings:
    """As gather, for commands that need files as they should be. Raises Stop 78."""
    settings = gather()
    if settings.flaws:
        raise Stop("\n".join(settings.flaws), CONFIG, f"KEEL_ENV={settings.env} env-check shows every fault at once")
    return settings


def gather() -> Settings:
    """The settings of KEEL_ENV with all their flaws; also puts DOCKER_* and PATH of this host into our environment. Raises Stop 78."""
    env = environment()
    variables = schema.load(ROOT / "compose" / "example.env")
    values: dict[str, str] = {}
    origin: dict[str, str] = {}
    flaws = _open_to_others(env)
    for name in ("var/host.env", f"compose/{env}.env", f"secrets/{env}.env"):
        found, unread = _lines(name)
        flaws += unread
        values |= found
        origin |= dict.fromkeys(found, name)
    for key, value in os.environ.items():
        # An empty one counts as not set: CI systems export unset variables as empty, which must not turn a file's value into the default.
        if value and (key in variables or (key.startswith("KEEL_") and key not in OURS and not key.startswith(run.LOCKS))):
            values[key], origin[key] = value, "the process environment"
    loaded = Settings(env, values, origin, variables, tuple(flaws))
    for key in ("DOCKER_HOST", "DOCKER_CONFIG"):
        if loaded[key]:
            os.environ[key] = loaded[key]
    tools = loaded["KEEL_TOOLS"]
    if tools and tools not in os.environ.get("PATH", "").split(":"):
        os.environ["PATH"] = f"{tools}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    return loaded


def checked() -> Settings:
    """As gather, and every fault at once before anything is changed. Raises Stop 78."""
    return verified(gather())


def verified(settings: Settings) -> Settings:
    """The same settings, when nothing is wrong with them. Raises Stop 78 with all faults."""
    found = faults(settings)
    if found:
        raise Stop("\n".join(found), CONFIG, f"edit {settings.file} or secrets/{settings.env}.env; compose/example.env explains each")
    return settings


def faults(settings: Settings) -> list[str]:
    """Everything that is wrong with the settings and their files, one sentence each."""
    found = list(settings.flaws)
    for name, origin in settings.origin.items():
        if name not in settings.variables:
            near = difflib.get_close_matches(name.upper(), settings.variables, 1)
            found.append(f"{name} ({origin}) is unknown" + (f": did you mean {near[0]}?" if near else ""))
    found += [f"{name} is a secret: move it from {settings.file} to secrets/{settings.env}.env" for name in _lines(settings.file)[0]
              if name in settings.variables and settings.variables[name].secret]
    for name, variable in settings.variables.items():
        fault = variable.fault(settings.raw(name))
        if fault:
            found.append(f"{name} ({settings.origin.get(name, 'not set')}) {fault}")
    if settings.raw("KEEL_HTTP_PORT") == settings.raw("KEEL_HTTPS_PORT"):
        found.append(f"KEEL_HTTP_PORT and KEEL_HTTPS_PORT are both {settings.raw('KEEL_HTTP_PORT')}")
    if not (images := ROOT / settings.raw("KEEL_IMAGES")).is_file():
        found.append(f"KEEL_IMAGES: there is no file {images}")
    if not (top := next(p for p in (settings.state, *settings.state.parents) if p.exists())).is_dir():
        found.append(f"KEEL_STATE: {settings.state} cannot be made: {top} is no folder")
    return found + nesting(settings)


def nesting(settings: Settings) -> list[str]:
    """The timeouts that do not nest: each must be shorter than the one that waits for it. (A value of the wrong type is another fault.)"""
    order = ("KEEL_SHUTDOWN_TIMEOUT", "KEEL_STOP_GRACE", "KEEL_DRAIN_TIMEOUT", "KEEL_JOB_TIMEOUT")
    pairs = [*itertools.pairwise(order), ("KEEL_KEEPALIVE_PROXY", "KEEL_KEEPALIVE_APP"), ("KEEL_HEALTH_TIMEOUT", "KEEL_JOB_TIMEOUT")]
    typed = [pair for pair in pairs if not any(settings.variables[n].fault(settings.raw(n)) for n in pair)]
    return [f"{short}={settings[short]} must be shorter than {long}={settings[long]}"
            for short, long in typed if settings.seconds(short) >= settings.seconds(long)]


def uploads(settings: Settings) -> list[str]:
    """What would not find room in nginx's memory: a large request body, a response cache. A start of the proxy is refused for it; it is no
    fault of the settings, or a restore and a rollback would be too. (A value of the wrong type is one.)"""
    body, memory, cache = "KEEL_BODY_LIMIT", "KEEL_PROXY_MEMORY", "KEEL_CACHE"
    if settings.raw("KEEL_PROXY") != "nginx" or any(settings.variables[n].fault(settings.raw(n)) for n in (body, memory, cache)):
        return []
    found = []
    if settings.size(body) * 4 > settings.size(memory):
        found.append(f"{body}={settings[body]} must be at most a quarter of {memory}={settings[memory]}: nginx keeps uploads there")
    if settings.seconds(cache) and settings.size(memory) < 256 << 20:
        found.append(f"{cache}={settings[cache]} wants {memory}=256m or more: nginx keeps responses there")
    return found


def read(path: Path) -> dict[str, str]:
    """A file of NAME=value lines; an absent one is empty. Raises Stop 78."""
    found, flaws = _lines(str(path))
    if flaws:
        raise Stop("\n".join(flaws), CONFIG)
    return found


def _lines(name: str) -> tuple[dict[str, str], list[str]]:
    """The values of a file below the checkout, and what is wrong with its lines (dotenv itself would pass over them in silence)."""
    from dotenv.parser import parse_stream

    found: dict[str, str] = {}
    flaws: list[str] = []
    try:
        with open(ROOT / name, encoding="utf-8") as f:
            bindings = list(parse_stream(f))
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError) as e:
        return {}, [f"{name} cannot be read: {getattr(e, 'strerror', None) or 'it is not UTF-8 text'}"]
    for line in bindings:
        if line.error or (line.key and line.value is None):
            text = line.original.string  # empty lines before the first word belong to it
            flaws.append(f"{name}: line {line.original.line + text[:-len(text.lstrip())].count(chr(10))} is not NAME=value")
        elif line.key in found:
            flaws.append(f"{name}: {line.key} is there twice")
        elif line.key:
            found[line.key] = line.value or ""
    return found, flaws


def _open_to_others(env: str) -> list[str]:
    """What is wrong with the file of secrets: absent, or not its owner's alone."""
    path = ROOT / (name := f"secrets/{env}.env")
    if not path.exists():
        return [f"{name} is missing: `make secrets ENV={env}` writes one with random passwords; or copy yours there, mode 0600"]
    mode = stat.S_IMODE(path.stat().st_mode)
    return [f"{name} has mode {mode:04o}, so others can read it: chmod 600 {name}"] if mode & 0o077 else []
