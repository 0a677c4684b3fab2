"""The settings' schema, read from compose/example.env: what exists, of which type, and what is wrong with a value."""
import functools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

TYPES = {
    "text": r".*",
    "host": r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*",
    "port": r"[1-9][0-9]{0,4}",
    "number": r"[0-9]{1,9}",
    "count": r"[1-9][0-9]{0,8}",
    "duration": r"[0-9]{1,6}(ms|s|m|h|d)",
    "size": r"[0-9]{1,6}[kmgt]?",
    "path": r"[^\0]+",
    "url": r"https?://[^\s/]+\S*",
    "decimal": r"[0-9]{1,3}(\.[0-9]{1,2})?",
    "memory": r"([6-9]|[1-9][0-9]{1,4})m|[1-9][0-9]{0,2}g",
    "imagename": r"[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*",
    "registry": r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*",
    "urlpath": r"/[A-Za-z0-9._~/?=&%-]*",
    "email": r"[^@\s]+@[^@\s]+",
    "flag": r"on|off",
    "command": r".+",
}
WANTED = {
    "port": "a port from 1 to 65535", "number": "a whole number", "count": "a whole number of at least 1",
    "duration": "a duration with its unit, as 30s, 15m or 1h", "size": "a size, as 512k, 10m or 2g",
    "memory": "memory of at least 6m, as 256m or 2g", "decimal": "a number, as 0.5 or 2", "host": "a host name",
    "url": "an http:// or https:// address", "urlpath": "a path that begins with /", "email": "a mail address",
    "imagename": "a lower-case image name", "registry": "HOST or HOST:PORT, without https://", "flag": "on or off",
    "path": "a path", "command": "a command",
}
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class Variable:
    """One documented variable; `default` is the placeholder where it is required."""

    name: str
    type: str
    default: str
    required: bool
    secret: bool
    app: bool

    def fault(self, value: str) -> str:
        """What is wrong with a value, in words; nothing where it is well."""
        if not value:
            return "is missing" if self.required else ""
        if self.required and (value == self.default or value.endswith(f".{self.default}") or "CHANGE_ME" in value):
            return f"still has the placeholder of compose/example.env ({self.default})"
        shown = "…" if self.secret else repr(value)
        if self.type.startswith("choice("):
            choices = self.type[7:-1].split("|")
            return "" if value in choices else f"is {shown}: one of {', '.join(choices)} is wanted"
        if not re.fullmatch(TYPES[self.type], value) or (self.type == "port" and int(value) > 65535):
            return f"is {shown}: {WANTED.get(self.type, self.type)} is wanted"
        if self.type == "command" and not _words(value):
            return f"is {shown}: a command is wanted, with every quote closed"
        return ""


def _words(command: str) -> list[str]:
    """The words of a command as a shell would split it; none where a quote is left open."""
    try:
        return shlex.split(command)
    except ValueError:
        return []


def seconds(text: str) -> float:
    """A duration in seconds. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", text)
    if not match:
        raise ValueError(f"{text!r}: {WANTED['duration']} is wanted")
    return int(match[1]) * UNITS[match[2]]


def size(text: str) -> int:
    """A size in bytes. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+)([kmgt]?)", text)
    if not match:
        raise ValueError(f"{text!r}: {WANTED['size']} is wanted")
    return int(match[1]) * SIZES[match[2]]


@functools.cache
def load(path: Path) -> dict[str, Variable]:
    """The variables of an example.env by name. Raises ValueError when a line is not of its form."""
    found: dict[str, Variable] = {}
    words: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#: "):
            words = line[3:].split()
        elif line and not line.startswith("#"):
            name, _, default = line.partition("=")
            if not words or (words[0] not in TYPES and not words[0].startswith("choice(")):
                raise ValueError(f"{path}: line {number}: {name} has no type")
            flags = set(words[1:])
            found[name] = Variable(name, words[0], default, "required" in flags, "secret" in flags, "app" in flags)
            words = []
    return found
