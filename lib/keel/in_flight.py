"""What served before: wait until nothing is in flight there, and see to it that nothing is, before its containers are stopped."""
import time
from collections.abc import Callable

from keel import health, probe, proxy, run
from keel.proxy import Say
from keel.settings import Settings
from keel.stop import Stop


def drain(settings: Settings, left: Callable[[], str], say: Say) -> bool:
    """Wait until nothing is in flight on what served before; False when KEEL_DRAIN_TIMEOUT was not enough, and says what is left."""
    silent = False

    def asked() -> str:
        nonlocal silent
        silent = False
        try:
            return left()
        except Stop as e:  # slow to say; that is no word that nothing is left
            silent = True
            return e.message

    begin = time.monotonic()
    still = health.wait(asked, settings.seconds("KEEL_DRAIN_TIMEOUT"), every=0.1)
    took = time.monotonic() - begin
    if silent:
        probe.running(settings)  # where it is down, that is what is to be said
    where = "" if silent else ": they go on, on the release that is now the standby"
    say(f"drain: {still} after {took:.1f} s{where}" if still else f"drained in {took:.1f} s")
    return not still


def settle(settings: Settings, say: Say) -> None:
    """Before containers are stopped: finish a switch that was cut short, as the proxy may still serve what the file calls idle.

    Raises as `proxy.switch`; a proxy that does not run serves nothing and will read the file.
    """
    proxy.there(settings)
    now = proxy.current(settings)
    if run.dry or probe.live(settings) == now.generation:
        return
    say(f"generation {now.generation} was written and is not live: finishing the switch that was cut short")
    proxy.switch(settings, now, say)
    drain(settings, proxy.kind(settings).in_flight([s for s in now.shares if not s.percent]), say)
