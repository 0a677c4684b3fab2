"""What a trial found, signed, and written beside each copy."""
from __future__ import annotations

import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from keel import forms, manifest, recover, signed
from keel.manifest import Verdict
from keel.settings import Settings
from keel.stop import Stop
from keel.stores import Exists, Store
from keel.trial import Trial

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def signer(settings: Settings) -> Ed25519PrivateKey:
    """The key with which this host may sign verdicts, where it can also open what it is to try. Raises Stop 78: before the work."""
    path = settings.path("KEEL_BACKUP_SIGN_KEY")
    key = signed.load_key(path)
    signed.able(path, key, signed.trusted(settings.path("KEEL_BACKUP_SIGNERS")), signed.VERIFY)
    recover.identities(settings)
    return key


def record(settings: Settings, trial: Trial, key: Ed25519PrivateKey) -> None:
    """Sign the verdict on each copy and write it beside it: a copy is bad when its own data is. Raises as the store does, once the others
    have theirs."""
    failed = []
    for copy in trial.found:
        wrong = trial.findings(copy.store.url)
        said = tuple("".join(c if c.isprintable() else " " for c in line) for line in [*wrong, *trial.aside])
        verdict = Verdict(trial.manifest.id, trial.manifest.digest, forms.text_of(datetime.now(UTC)), not wrong, trial.checked.level,
                          trial.checked.seconds, said, socket.gethostname())
        try:
            _write(copy.store, settings.env, verdict, key)
        except Stop as e:
            failed.append(e)
    if failed:
        raise Stop("\n".join(e.message for e in failed), failed[0].code, failed[0].hint)


def _write(store: Store, env: str, verdict: Verdict, key: Ed25519PrivateKey) -> None:
    """One of the same second may be there already: then this is one of the next."""
    while True:
        try:
            return manifest.write_verdict(store, env, verdict, key)
        except Exists:
            verdict = replace(verdict, time=forms.text_of(forms.moment(verdict.time) + timedelta(seconds=1)))
