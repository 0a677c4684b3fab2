"""What a backup that restores is held against besides its own manifest: whose it is, how old, how long it took, and our keys."""
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from keel import age_crypt, age_keys, engine, forms, keep, keyring, manifest, recover, signed, tools
from keel.manifest import Manifest
from keel.phases import spent
from keel.recover import Found
from keel.settings import Settings
from keel.stop import CONFIG, DATA, UNAVAILABLE, Stop


def opens_what_it_makes(settings: Settings) -> None:
    """That one of our identities is among the recipients of today's backups. Raises Stop 78."""
    path = settings.path("KEEL_BACKUP_RECIPIENTS")
    theirs = {str(r) for r in age_keys.recipients_file(path, keyring.NO_RECIPIENT)}
    if not theirs & _ours(settings):
        raise Stop(f"no identity of {settings['KEEL_BACKUP_IDENTITY']} is of a recipient in {path}: nothing could be restored here", CONFIG,
                   "backup-keys list says who is; where another host restores: make backup-only")


def openable(settings: Settings, found: Manifest) -> None:
    """That one of our keys is among those that it was sealed to. Raises Stop 65 naming its objects; the backup may be well."""
    if not _ours(settings) & set(found.recipients):
        names = ", ".join(p.name for p in found.objects)
        raise Stop(f"{found.id}: {names}: no identity of {settings['KEEL_BACKUP_IDENTITY']} opens them", DATA,
                   f"add the identity of {' or '.join(keyring.named(settings, found.recipients))}; nothing is said against the backup")


def _ours(settings: Settings) -> set[str]:
    """The recipients whose identities this host has."""
    return {str(age_crypt.recipient(key)) for key in recover.identities(settings)}


def strange(settings: Settings, copy: Found, lineage: str) -> list[str]:
    """Whether it is a backup of another server than it should be: the one told, the one that runs here, or that of the one before it."""
    m, whose = copy.manifest, "--lineage"
    if not lineage and m.kind == "pg":
        lineage, whose = _running(settings), f"PostgreSQL of {settings.env}"
    if not lineage:
        keys = signed.trusted(settings.path("KEEL_BACKUP_SIGNERS"))
        earlier = next((e for e in manifest.all_of(copy.store, m.env, keys)[0] if e.kind == m.kind and e.id < m.id), None)
        lineage, whose = (earlier.lineage, earlier.id) if earlier else ("", "")
    return [f"it is a backup of {m.lineage}, and {whose} is {lineage}"] if lineage and lineage != m.lineage else []


def _running(settings: Settings) -> str:
    """The system identifier of the environment's PostgreSQL, or nothing where none runs here; read from its control file."""
    service = engine.service(settings, "postgres")
    if not service or service["State"] != "running":
        return ""
    said = tools.insist(service["Id"], ["env", "LC_ALL=C", "pg_controldata"])
    found = [line.split(":")[1].strip() for line in said.splitlines() if line.startswith("Database system identifier:")]
    if not found:
        raise Stop("postgres: pg_controldata names no system identifier", UNAVAILABLE, "--lineage ID says what to expect")
    return found[0]


def late(settings: Settings, found: Manifest, total: float, newest: bool) -> list[str]:
    """What is wrong although the data is well: it took too long, or is not new."""
    said, most = [], settings.seconds("KEEL_BACKUP_RTO")
    if total > most:
        said.append(f"took {spent(total)}, longer than KEEL_BACKUP_RTO={settings['KEEL_BACKUP_RTO']}")
    since, oldest = datetime.now(UTC) - forms.moment(found.created), settings.seconds("KEEL_BACKUP_MAX_AGE")
    if newest and since > timedelta(seconds=oldest):
        said.append(f"is {keep.age(since)} old, and the newest there is: KEEL_BACKUP_MAX_AGE={settings['KEEL_BACKUP_MAX_AGE']}")
    return said


def outlook(settings: Settings, seconds: Mapping[str, float]) -> str:
    """How long it took, as a share of KEEL_BACKUP_RTO, and would take with more data: all but finding and starting grows with it."""
    total, most = sum(seconds.values()), settings.seconds("KEEL_BACKUP_RTO")
    fixed = sum(seconds.get(p, 0) for p in ("find", "start", "globals"))
    more = ", ".join(f"{n} times the data about {spent(fixed + n * (total - fixed))}" for n in (2, 10))
    return f"{spent(total)} (RTO {settings['KEEL_BACKUP_RTO']}: {100 * total / most:.2g} %; {more})"
