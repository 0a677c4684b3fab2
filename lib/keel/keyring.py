"""The keys of backups in plain files: who can open one (age), who signs one (Ed25519), and whose private half lies on this host.

A line of recipients that begins with `# retired ` is a comment to age: nothing new is sealed to that key, but its identity is known to
exist. A recipient's comment is the line above it, for age takes none beside it.
"""
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from keel import age_crypt, age_keys, private, run, signed, state
from keel.settings import Settings
from keel.stop import CONFIG, NO, Stop

RECIPIENT, SIGNER = "recipient", "signer"
CURRENT, RETIRED, UNLISTED = "current", "retired", "unlisted"
RETIREMENT = re.compile(r"#\s*retired\s+(age1[a-z0-9]+)\s*(.*)")

NO_RECIPIENT = "backup-keys make identity --output FILE adds the recipient of the one that it makes; make two: docs/keys.md"
NO_IDENTITY = ("on a host that restores: backup-keys make identity --output FILE, for what is sealed from then on, or bring an older one; "
               "a server that only makes backups needs none, with make backup-only: docs/keys.md")


@dataclass(frozen=True)
class Public:
    """A public key; `state` is current, retired or unlisted; `here`: its private half lies on this host; `roles`: what it may sign."""

    kind: str
    key: str
    comment: str = ""
    state: str = CURRENT
    here: bool = False
    roles: tuple[str, ...] = ()

    def line(self) -> str:
        """The same for people."""
        return "  ".join(filter(None, [f"{self.kind:9}", f"{self.state:8}", f"{'HERE' if self.here else '-':4}", self.key,
                                       *signed.granted(self.roles), self.comment]))


def recipients(path: Path) -> list[Public]:
    """The recipients in a file, current and retired; none where there is no file. Raises Stop 78 that names the line."""
    found: list[Public] = []
    above = ""
    for number, line in enumerate(_text(path).split("\n"), 1):
        text, comment = line.strip(), above
        above = ""
        if gone := RETIREMENT.fullmatch(text):
            text, comment = gone[1], gone[2] or comment
        elif text.startswith("#") or not text:
            above = text.lstrip("# ")
            continue
        try:
            age_keys.public(text)
        except ValueError as e:
            raise Stop(f"{path}: line {number} is no key: {e}", CONFIG) from None
        found.append(Public(RECIPIENT, text, comment, RETIRED if gone else CURRENT))
    return list({r.key: r for r in sorted(found, key=lambda r: r.state == CURRENT)}.values())  # one that is both is current


def named(settings: Settings, keys: Collection[str]) -> list[str]:
    """Recipients with what the list says of each: its comment, and that it is retired. Raises Stop 78."""
    listed = {r.key: r for r in recipients(settings.path("KEEL_BACKUP_RECIPIENTS"))}
    known = [listed.get(key, Public(RECIPIENT, key, state=UNLISTED)) for key in keys]
    return [f"{r.key} ({', '.join(filter(None, [r.state, r.comment]))})" for r in known]


def signers(path: Path) -> list[Public]:
    """The keys that may sign; none where there is no file, or nothing in it yet. Raises Stop 78 that names the line."""
    if all(not line.strip() or line.lstrip().startswith("#") for line in _text(path).splitlines()):
        return []
    return [Public(SIGNER, key, signer.comment, roles=signer.roles) for key, signer in signed.trusted(path).items()]


def identities(path: Path) -> list[Public]:
    """The recipients whose identities lie in a file; none where there is no file. Raises Stop 78."""
    if not path.exists():
        return []
    return [Public(RECIPIENT, str(age_crypt.recipient(i)), "", UNLISTED, True) for i in age_keys.identities_file(path)]


def own_signer(path: Path) -> list[Public]:
    """The key that this host signs with; none where there is none. Raises Stop 78."""
    return [Public(SIGNER, signed.public(signed.load_key(path)), "", UNLISTED, True)] if path.exists() else []


def known(listed: Collection[Public], here: Collection[Public]) -> list[Public]:
    """The keys that are listed, each with whether it is here, and then those here that are in no list."""
    ours = {k.key for k in here}
    return [replace(k, here=k.key in ours) for k in listed] + [k for k in here if k.key not in {other.key for other in listed}]


def survey(settings: Settings) -> tuple[list[Public], list[Stop]]:
    """Recipients and signers, listed ones first, each with whether its private half is here; and what is wrong with the files."""
    found: dict[str, list[Public]] = {}
    faults = []
    for name, read in (("RECIPIENTS", recipients), ("IDENTITY", identities), ("SIGNERS", signers), ("SIGN_KEY", own_signer)):
        try:
            found[name] = read(settings.path(f"KEEL_BACKUP_{name}"))
        except Stop as e:
            found[name] = []
            faults.append(e)
    return [*known(found["RECIPIENTS"], found["IDENTITY"]), *known(found["SIGNERS"], found["SIGN_KEY"])], faults


def warnings(keys: Collection[Public]) -> list[str]:
    """What a person should know of these keys, a sentence each."""
    found = []
    current = sum(k.kind == RECIPIENT and k.state == CURRENT for k in keys)
    if current == 0:
        found.append("there is no recipient: nothing can be sealed")
    if current == 1:
        found.append("there is one recipient: its loss would be that of every backup; make a second one on a machine without a network")
    found += [f"{k.key}: this host has its private half, and no list has it" for k in keys if k.here and k.state == UNLISTED]
    here = [k for k in keys if k.here]
    if any(k.kind == RECIPIENT for k in here) and any(k.kind == SIGNER and (not k.roles or signed.BACKUP in k.roles) for k in here):
        found.append("this host signs backups and can open them: whoever takes it over reads them all; keep identities on another host")
    return found


def new_signer(path: Path, trusted: Path, comment: str, roles: Collection[str] = ()) -> str:
    """Make the key that this host signs with, trust it in these roles (in all where none is given), and return its public half.
    Raises as new_identity."""
    keys = {k.key for k in signers(trusted)}  # a list that cannot be read is no place for another line
    for own in own_signer(path):
        raise Stop(f"{path}: there is a key already: nothing was changed", NO, "to replace it move it away first: docs/keys.md"
                   if own.key in keys else f"it is not trusted yet; to do so: echo 'ed25519 {own.key} COMMENT' >>{trusted}")
    pem, line = signed.new_key(comment, roles)
    with private.new(path, pem):
        add(trusted, line)
    return line.split()[1]


def new_identity(path: Path, listed: Path, comment: str) -> str:
    """Make an identity in a file of its own, list its recipient, and return that. Raises Stop 1 when there is such a file, 78 where none
    may be or the list cannot be read, and OSError."""
    recipients(listed)
    if path.exists():
        raise Stop(f"{path}: exists already: nothing was changed", NO,
                   f"another FILE; or, where its recipient is not listed yet: age-keygen -y {path} >>{listed}")
    text, public = identity_text()
    with private.new(path, text):
        add(listed, recipient_lines(public, comment))
    return public


def identity_text() -> tuple[str, str]:
    """A new identity as age-keygen writes it, and its recipient."""
    secret, public = age_crypt.new_identity()
    return f"# created: {state.now()}\n# public key: {public}\n{secret}\n", public


def recipient_lines(key: str, comment: str) -> str:
    """A recipient as it stands in the list."""
    return f"# {comment}\n{key}\n" if comment else f"{key}\n"


def add(path: Path, lines: str) -> None:
    """Append to a list of keys, durably, while no other does. Raises OSError."""
    path = path.resolve()  # a link stays one
    if not run.dry:
        path.parent.mkdir(parents=True, exist_ok=True)
    with private.alone(path.parent):
        there = path.read_text() if path.exists() else ""
        state.write(path, there + ("" if there.endswith("\n") or not there else "\n") + lines)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise Stop(f"{path}: is not UTF-8 text", CONFIG) from None
    except OSError as e:
        raise Stop(f"{path}: {(e.strerror or 'cannot be read').lower()}", CONFIG) from None
