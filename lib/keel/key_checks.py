"""What doctor looks at of the keys and folders of backups, where there are stores for them: better by day than at night, after the work."""
from pathlib import Path
from typing import Any

from keel import age_keys, checks, expected, folder_owner, keyring, recover, signed, stores
from keel.checks import Check, ok
from keel.settings import Settings
from keel.stop import Stop
from keel.store_file import Folder


def everything(s: Settings) -> list[Check]:
    """Who signs here and for what, who can open, who can delete; nothing where there are no stores."""
    return [signer(s), *identity(s), recipients(s), *folders(s)] if s["KEEL_BACKUP_STORES"] else []


def only_restores(s: Settings) -> bool:
    """Whether this is a host that restores what another one makes: its key may sign verdicts, and no backup. Where anything is wrong with
    the key it is not, and `signer` says what; nor where a proxy was ever started."""
    try:
        if not s["KEEL_BACKUP_STORES"] or (s.state / "proxy").exists():
            return False
        key, listed = signed.load_key(s.path("KEEL_BACKUP_SIGN_KEY")), signed.trusted(s.path("KEEL_BACKUP_SIGNERS"))
    except Stop:
        return False
    found = listed.get(signed.public(key))
    return found is not None and signed.VERIFY in found.roles and signed.BACKUP not in found.roles


def memory(s: Settings, facts: dict[str, Any]) -> list[Check]:
    """On a host that only restores: what a scratch server may take, for nothing else runs there."""
    limit, there = s.size("KEEL_RESTORE_MEMORY"), checks.total(facts)
    said = f"limit {checks.gib(limit)} of {checks.gib(there)} (this host only restores: no proxy, ports or plug-ins are looked at)"
    return [ok("memory", said) if limit <= there else Check("memory", "warn", said, "lower KEEL_RESTORE_MEMORY, or add memory")]


def signer(s: Settings) -> Check:
    """The key of this host: there, listed, and in a role that some target of the night can use."""
    path, restores = s.path("KEEL_BACKUP_SIGN_KEY"), only_restores(s)
    try:
        key, listed = signed.load_key(path), signed.trusted(s.path("KEEL_BACKUP_SIGNERS"))
        signed.able(path, key, listed, signed.VERIFY if restores else signed.BACKUP)
        if restores:
            recover.identities(s)
    except Stop as e:
        return _bad("signer", e)
    both = signed.VERIFY in listed[signed.public(key)].roles and [c.verdict for c in identity(s)] == ["ok"]
    return ok("signer", f"{path}: enough for make {'restore-verify' if restores else 'backup' if both else 'backup-only'}")


def identity(s: Settings) -> list[Check]:
    """Whether this host could restore what it makes, where it has an identity; nothing where it has none, as a server that only makes
    backups. On a host that only restores `signer` looks at it."""
    path = s.path("KEEL_BACKUP_IDENTITY")
    if only_restores(s) or not _there(path):
        return []
    try:
        found = len(recover.identities(s))
    except Stop as e:
        return [_bad("identity", e)]
    try:
        if recipients(s).verdict != "bad":
            expected.opens_what_it_makes(s)
    except Stop as e:  # make backup-only would do
        return [Check("identity", "warn", e.message, e.hint)]
    return [ok("identity", f"{path}: {found} to open backups with")]


def recipients(s: Settings) -> Check:
    """To whom backups are sealed: two at least."""
    path = s.path("KEEL_BACKUP_RECIPIENTS")
    try:
        found = len({str(r) for r in age_keys.recipients_file(path, keyring.NO_RECIPIENT)})
    except Stop as e:
        return _bad("recipients", e)
    return ok("recipients", f"{found} can open backups") if found > 1 else Check(
        "recipients", "warn", f"{path} has one: with its identity every backup would be lost",
        "a second one, made on a machine without a network: docs/keys.md")


def folders(s: Settings) -> list[Check]:
    """The stores that are folders: there, and nobody else's. What a bucket is worth, store-check finds out by asking it."""
    found = []
    try:
        for store in (store for store in stores.open_all(s) if isinstance(store, Folder)):
            said, hint = folder_owner.others(store.root)
            found.append(Check("stores", "warn", f"{store.url}: {said}", hint) if said else ok("stores", f"{store.url}: is ours alone"))
    except Stop as e:
        found += [_bad("stores", Stop(fault, e.code, e.hint)) for fault in e.message.split("\n")]
    return found


def _there(path: Path) -> bool:
    """Whether anything lies there; also where that cannot be seen, for then whoever reads it says why not."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _bad(check: str, e: Stop) -> Check:
    return Check(check, "bad", e.message, e.hint or "docs/keys.md")
