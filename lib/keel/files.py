"""Which files are backed up: an allow-list of what a server is configured by, and the folders of KEEL_BACKUP_FILES."""
import os
from pathlib import Path

from keel import cli, state, tree
from keel.archive import Root
from keel.settings import ROOT, Settings
from keel.stop import CONFIG, Stop

# Never in a backup, whatever the settings say. The identity: who opens a backup holds one already, and the server should have none; a copy
# in every backup would turn one stolen identity into all of them. The signing key: who can read backups could then forge them. A server
# that is built anew makes itself new ones, and is added to the recipients and signers.
NEVER = ("KEEL_BACKUP_IDENTITY", "KEEL_BACKUP_SIGN_KEY")


def config(settings: Settings) -> list[Root]:
    """What `config.tar` is made of: names are the same on every server, wherever the settings put the files; some may not be there."""
    env = settings.env
    own = [(name, ROOT / name) for name in (f"compose/{env}.env", f"compose/{env}.yml", f"secrets/{env}.env", f"secrets/tls/{env}",
                                           f"secrets/acme/{env}")]
    set_ = [("compose/images.env", settings.path("KEEL_IMAGES")), ("backup/signers", settings.path("KEEL_BACKUP_SIGNERS")),
            ("backup/recipients", settings.path("KEEL_BACKUP_RECIPIENTS"))]
    # Who serves, what was deployed, who did what. Not the access log, the sockets and the locks beside them.
    names = (*state.HISTORY, "releases", "proxy/traffic.conf", "proxy/traffic.caddy")
    kept = [(f"state/{name}", settings.state / name) for name in names]
    return [*own, *set_, *kept]


def there(roots: list[Root]) -> tuple[list[Root], list[str]]:
    """Those that exist, and the names of those that do not."""
    return [r for r in roots if r[1].exists()], [name for name, path in roots if not path.exists()]


def uploads(settings: Settings) -> list[Root]:
    """What `uploads.tar` is made of: each folder under the path it was given as. Raises Stop 78 with all faults."""
    given = settings["KEEL_BACKUP_FILES"].split()
    roots = [(os.path.normpath(text).lstrip("/"), ROOT / text) for text in given]
    faults = [f"{path}: there is no such folder" for _, path in roots if not path.is_dir()]
    faults += [f"{path}: a folder inside the checkout or an absolute path is wanted" for name, path in roots
               if name.split("/")[0] in ("", ".", "..")]
    for n, (name, path) in enumerate(roots):
        for other, its in roots[:n]:
            if _inside(path, its) or _inside(its, path) or Path(name).is_relative_to(other) or Path(other).is_relative_to(name):
                faults.append(f"{its} and {path} overlap, or would in the archive")
    if faults:
        raise Stop("\n".join(f"KEEL_BACKUP_FILES: {fault}" for fault in faults), CONFIG, f"edit {settings.file}")
    return roots


def harmless(settings: Settings, roots: list[Root], *, data: bool = False) -> None:
    """Raises Stop 78 when one of them holds a key of the backups; with `data` also the backups themselves, or the state that changes
    all the while."""
    banned = {settings.path(name): name for name in NEVER}
    if data:
        stores = (url.removeprefix("file://") for url in settings["KEEL_BACKUP_STORES"].split() if url.startswith("file:///"))
        banned |= {**{Path(folder): "a store of KEEL_BACKUP_STORES" for folder in stores}, settings.path("KEEL_STATE"): "KEEL_STATE"}
    faults = [f"{path} holds {what}, {its}" for _, path in roots for its, what in banned.items() if _inside(its, path)]
    faults += [f"{path} is in {what}" for _, path in roots for its, what in banned.items() if data and _inside(path, its)]
    if faults:
        raise Stop("\n".join(faults), CONFIG, "keep them apart: what is there does not belong into a backup")


def warn_of_links(roots: list[Root]) -> None:
    """Say which links of the configuration lead out of it: only the links are in the backup, as with certificates of certbot."""
    for name, path in roots:
        for top, folders, names in os.walk(path):
            for one in (Path(top) / n for n in [*folders, *names]):
                if one.is_symlink() and not _inside(one, path):
                    cli.warn(f"{name}: {tree.printable(one.name)} is a link to {tree.printable(str(one.resolve()))}, which is left out")


def _inside(path: Path, folder: Path) -> bool:
    """Whether a path, followed through all links, is the folder or below it."""
    return path.resolve().is_relative_to(folder.resolve())
