"""Which backups are to be restored as a rehearsal: the newest of each kind, and older ones, each in its turn."""
from collections.abc import Collection, Sequence

from keel import cli, forms, held, inventory, manifest, signed, stores
from keel.settings import Settings
from keel.stop import Stop


def newest(settings: Settings, urls: Sequence[str]) -> list[str]:
    """The newest backup of each kind. Raises Stop 1 when there is none of any."""
    opened = stores.open_all(settings, urls)
    found = [max(manifest.newest(store, settings.env, kind) for store in opened) for kind in forms.KINDS]
    if not any(found):
        raise Stop(f"{settings.env} has no backup in {' '.join(s.url for s in opened)}", hint="pg-backup makes one")
    return [ident for ident in found if ident]


def older(settings: Settings, urls: Sequence[str], count: int, but: Collection[str]) -> dict[str, str]:
    """Of each kind so many, without those in `but`, that were restored the longest ago, and when that was (nothing: never); of equals the
    oldest. So each has its turn, whoever asks comes to the same, and what was restored now is the last to come again.

    Held ones and those found bad have none: it is known already that they do not count. Raises as the stores do.
    """
    keys, last, out = signed.trusted(settings.path("KEEL_BACKUP_SIGNERS")), dict[str, str](), set(but)
    for store in stores.open_all(settings, urls):
        found, faults = manifest.all_of(store, settings.env, keys)
        said, more = manifest.verdicts(store, settings.env, keys)
        notes, forged = held.all_of(store, settings.env, keys)
        for fault in [*faults.values(), *more.values(), *forged.values()]:
            cli.warn(f"{store.url}: {fault.message}")
        for m in found:
            verdicts = [v for v in said.get(m.id, []) if v.manifest == m.digest]
            verdict = inventory.standing(m, verdicts)
            if (verdict and not verdict.ok) or (m.held and not held.judge(m, notes.get(m.id, []))[0]):
                out.add(m.id)
            restored = max((v.time for v in verdicts if v.level >= inventory.RESTORED), default="")
            last[m.id] = max(last.get(m.id, ""), restored)
    turns = sorted((when, ident) for ident, when in last.items() if ident not in out)
    return {ident: when for kind in forms.KINDS for when, ident in [t for t in turns if t[1].split("-")[1] == kind][:count]}
