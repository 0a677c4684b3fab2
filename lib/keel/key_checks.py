"""What doctor looks at of the keys and folders of backups, where there are stores for them: better by day than at night, after the work."""
from keel import age_keys, folder_owner, keyring, signed, stores
from keel.checks import Check, ok
from keel.settings import Settings
from keel.stop import Stop
from keel.store_file import Folder


def everything(s: Settings) -> list[Check]:
    """Who signs here and for what, who can open, who can delete; nothing where there are no stores."""
    return [signer(s), recipients(s), *folders(s)] if s["KEEL_BACKUP_STORES"] else []


def signer(s: Settings) -> Check:
    """The key of this host: there, listed, and in a role that some target of the night can use."""
    path, opens = s.path("KEEL_BACKUP_SIGN_KEY"), s.path("KEEL_BACKUP_IDENTITY").exists()
    try:
        key, listed = signed.load_key(path), signed.trusted(s.path("KEEL_BACKUP_SIGNERS"))
        found = listed.get(signed.public(key))
        restores = opens and found is not None and signed.VERIFY in found.roles
        makes = found is not None and signed.BACKUP in found.roles
        signed.able(path, key, listed, signed.VERIFY if restores and not makes else signed.BACKUP)
    except Stop as e:
        return _bad("signer", e)
    return ok("signer", f"{path}: enough for make {'restore-verify' if not makes else 'backup' if restores else 'backup-only'}")


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
        found.append(_bad("stores", e))
    return found


def _bad(check: str, e: Stop) -> Check:
    return Check(check, "bad", e.message, e.hint or "docs/keys.md")
