"""Which backups are to be restored as a rehearsal: the newest of each kind, and older ones, each in its turn."""
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from keel import cli, forms, held, inventory, manifest, signed, state, stores
from keel.settings import Settings
from keel.stop import DATA, Stop
from keel.stores import Missing, Store


@dataclass
class Due:
    """The stores to ask, and what was wrong with those that did not answer: they are asked no more, and the others are enough. `strays`
    are manifests that do not verify and would be the newest: they are passed over, and nobody is to miss them."""

    settings: Settings
    urls: Sequence[str] = ()
    away: dict[str, Stop] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)  # what is wrong with each

    @property
    def code(self) -> int:
        """The exit code for what could not be asked or does not verify: it may be, or hold, a newer one, or one whose turn it is."""
        return max([*(e.code for e in self.away.values()), DATA if self.strays else 0])

    def newest(self) -> list[str]:
        """The newest backup of each kind that verifies; says what does not and would be newer. Raises Stop 1 when there is none of any,
        65 when none of them verifies, as the stores do when none answers, or when those that do have none."""
        found, asked, strays = dict.fromkeys(forms.KINDS, ""), self._open(), dict[tuple[str, str], str]()
        for store in asked:
            try:
                for kind in found:
                    found[kind] = max(found[kind], self._newest(store, kind, strays))
            except Stop as e:
                self._leave(store, e, asked)
        # One that verifies in another store has its turn, and what is wrong with this copy is found then.
        self.strays = [fault for (ident, _), fault in strays.items() if ident > found[ident.split("-")[1]]]
        for fault in self.strays:
            cli.say(f"error: {fault}", 0)
        if not any(found.values()):
            if self.away:
                raise next(iter(self.away.values()))
            if self.strays:
                raise Stop(f"{self.settings.env}: none of its backups verifies", DATA, "what is wrong with each stands above")
            raise Stop(f"{self.settings.env} has no backup in {' '.join(s.url for s in asked)}", hint="pg-backup makes one")
        return [ident for ident in found.values() if ident]

    def _newest(self, store: Store, kind: str, strays: dict[tuple[str, str], str]) -> str:
        """The newest of a kind that verifies in a store, or nothing; what is wrong with those before it goes into `strays`."""
        keys = signed.trusted(self.settings.path("KEEL_BACKUP_SIGNERS"))
        for ident in manifest.ids(store, self.settings.env, kind):
            try:
                return manifest.read(store, self.settings.env, ident, keys).id
            except Missing:
                continue  # pruned since it was listed
            except Stop as e:
                if e.code != DATA:
                    raise
                strays[ident, store.url] = f"{store.url}: {e.message}"
        return ""

    def older(self, count: int, but: Collection[str]) -> dict[str, str]:
        """Of each kind so many, without those in `but`, that were restored the longest ago, and when that was (nothing: never); of equals
        the oldest. So each has its turn, whoever asks comes to the same, and what was restored now is the last to come again.

        Held ones and those found bad have none: it is known already that they do not count. Raises as the stores do when none answers.
        """
        last, out, asked = dict[str, str](), set(but), self._open()
        for store in asked:
            try:
                when, never = self._restored(store)
            except Stop as e:
                self._leave(store, e, asked)
                continue
            out |= never
            last |= {ident: max(last.get(ident, ""), time) for ident, time in when.items()}
        # One that was tried here without a verdict, as for want of memory, must not come again and again in the place of all others.
        tried = {str(line["backup"]): str(line["time"]) for line in state.history(self.settings.state)
                 if line.get("command") == "restore-verify" and line.get("step") == "begin"}
        turns = sorted((max(when, tried.get(ident, "")), ident) for ident, when in last.items() if ident not in out)
        return {ident: last[ident] for kind in forms.KINDS for _, ident in [t for t in turns if t[1].split("-")[1] == kind][:count]}

    def _restored(self, store: Store) -> tuple[dict[str, str], set[str]]:
        """When each backup in a store was restored last, or nothing; and those that are to have no turn."""
        env, keys = self.settings.env, signed.trusted(self.settings.path("KEEL_BACKUP_SIGNERS"))
        found, faults = manifest.all_of(store, env, keys)
        said, more = manifest.verdicts(store, env, keys)
        notes, forged = held.all_of(store, env, keys)
        said_of = (f"{store.url}: {fault.message}" for fault in [*faults.values(), *more.values(), *forged.values()])
        for text in (text for text in said_of if text not in self.strays):
            cli.warn(text)
        when, never = {}, set()
        for m in found:
            verdicts = [v for v in said.get(m.id, []) if v.manifest == m.digest]
            verdict = inventory.standing(m, verdicts)
            if (verdict and not verdict.ok) or (m.held and not held.judge(m, notes.get(m.id, []))[0]):
                never.add(m.id)
            when[m.id] = max((v.time for v in verdicts if v.level >= inventory.RESTORED), default="")
        return when, never

    def _open(self) -> list[Store]:
        return [s for s in stores.open_all(self.settings, self.urls) if s.url not in self.away]

    def _leave(self, store: Store, fault: Stop, asked: Collection[Store]) -> None:
        """Go on without a store. Raises the fault when no other answers."""
        self.away[store.url] = fault
        if all(s.url in self.away for s in asked):
            raise fault
        cli.warn(fault.message)
