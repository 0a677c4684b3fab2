"""Joining a set: the backups of one run, chained by a pipe; and what the history is told of each."""
import contextlib
from collections.abc import Iterator, Sequence

from keel import cli, forms, recover, run, state, stores
from keel.backup import Making, verdict
from keel.manifest import Manifest
from keel.settings import Settings
from keel.stop import DATA, Stop


def ids(handles: Sequence[str]) -> list[str]:
    """The same handles, all read. Raises Stop 65 when one is no backup id."""
    for ident in handles:
        if not forms.ident(ident):
            raise Stop(f"{ident!r} is not a backup id", DATA, "an id looks like 20260102T031500Z-pg-1a2b3c4d; `backups` lists them")
    return list(handles)


def of(settings: Settings, handles: Sequence[str]) -> str:
    """The set that these backups are of; nothing where there are none. What a rehearsal has only pretended to make has no set yet.

    Raises Stop 65 when they are of several, and as recover.find does.
    """
    found: dict[str, str] = {}
    for ident in handles:
        if run.dry and not any(store.stat(f"{settings.env}/manifests/{ident}") for store in stores.open_all(settings)):
            continue
        found[ident] = recover.find(settings, ident).manifest.set
    for ident, its in found.items():
        first = next(iter(found))
        if its != found[first]:
            raise Stop(f"{ident} is of the set {its}, {first} of {found[first]}", DATA, "a backup joins one set: give those of one run")
    return next(iter(found.values()), "")


@contextlib.contextmanager
def noted(making: Making) -> Iterator[None]:
    """Tell the history that a backup began, and when it failed."""
    command = f"{making.kind}-backup"
    state.note(making.settings.state, command=command, step="begin", backup=making.id, set=making.set)
    try:
        yield
    except BaseException:
        state.note(making.settings.state, command=command, step="failed", backup=making.id)
        raise


def ended(making: Making, made: Manifest) -> int:
    """Tell the history and the person that a backup exists; the exit code."""
    said, code = verdict(making, made)
    state.note(making.settings.state, command=f"{making.kind}-backup", step="end", backup=made.id, code=code)
    for line in said:
        cli.say(line, 0 if code else 1)
    return code
