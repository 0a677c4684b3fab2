"""The one door to traffic: stage, check, load what is lacking, switch, prove; the same steps for nginx and for Caddy."""
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from keel import acme, caddy, certificate, cli, nginx, probe, run, state, traffic
from keel.options import Options
from keel.settings import Settings
from keel.stop import CONFIG, DATA, NO, Stop
from keel.traffic import Share, Traffic

Say = Callable[[str], None]


def kind(settings: Settings) -> nginx.Nginx | caddy.Caddy:
    """The proxy that KEEL_PROXY names."""
    return nginx.Nginx(settings) if settings["KEEL_PROXY"] == "nginx" else caddy.Caddy(settings.state / "proxy")


def path(settings: Settings) -> Path:
    """The traffic file, in the directory that the proxy's container mounts."""
    return settings.state / "proxy" / kind(settings).file


def current(settings: Settings) -> Traffic:
    """Who serves, as the traffic file says; generation 0 and nobody before the first. Raises Stop 65 for a file that is none."""
    file = path(settings)
    if not file.exists():
        return Traffic(0, ())
    try:
        return traffic.parse(file.read_text())
    except ValueError as e:
        raise Stop(f"{file}: {e}", DATA, _back(file)) from None


def options(settings: Settings) -> Options:
    """What goes into the traffic file from the settings. Raises Stop 78."""
    try:
        return Options.from_settings(settings)
    except ValueError as e:
        raise Stop(str(e), CONFIG, f"edit {settings.file}; compose/example.env explains each setting") from None


def prepare(settings: Settings) -> None:
    """Before the proxy starts: a traffic file, from the other proxy's where KEEL_PROXY was changed; 503 at first."""
    there(settings)
    folder, now = path(settings).parent, current(settings)
    other = folder / (caddy.Caddy.file if settings["KEEL_PROXY"] == "nginx" else nginx.Nginx.file)
    try:
        newest = max(now, traffic.parse(other.read_text()), key=lambda t: t.generation) if other.exists() else now
    except ValueError:
        newest = now  # the other proxy's file is no loss as long as this one has its own
    if not path(settings).exists() or now.generation < newest.generation:
        state.write(path(settings), _render(settings, newest if newest.generation else Traffic(1, ())))
    if not _pointed(settings) or not probe.is_up(settings):  # one that runs is moved by a switch only, which proves it
        kind(settings).point(current(settings))


def _pointed(settings: Settings) -> bool:
    """Whether nginx finds a link to follow; Caddy needs none."""
    return path(settings).with_name("live").is_symlink()


def there(settings: Settings) -> None:
    """Stop 65 when the traffic file is gone though there was one: nobody would know any more who serves."""
    file = path(settings)
    if not file.exists() and _previous(file).exists():
        raise Stop(f"{file} is gone: it says who serves", DATA, _back(file))


def loadable(settings: Settings) -> None:
    """Early in a deploy: stop 78 when its last step would be refused for a certificate that the proxy has to load and cannot."""
    fault, now, proxy = certificate.fault(settings), current(settings), kind(settings)
    if fault and ((proxy.by_alias and len(now.shares) < 2) or proxy.lacks(_render(settings, now))):
        raise Stop(f"{fault}\n{settings['KEEL_PROXY']} would refuse the switch at the end; nothing was changed", CONFIG,
                   certificate.hint(settings))


def _previous(file: Path) -> Path:
    return file.with_name(file.name + ".previous")


def _back(file: Path) -> str:
    return f"its predecessor: cp {_previous(file)} {file}\nthen compare with status, and reload-proxy makes it live"


def switch(settings: Settings, wanted: Traffic, say: Say, *, afresh: bool = False) -> Traffic:
    """Make a traffic live and prove it; what was before is back when that fails. Returns it with its generation.

    `afresh`: nginx loads its configuration though nothing seems to have changed, for a file may be new that we cannot read.
    Raises Stop 1 (the proxy refuses it, or it never became live), 69 (the proxy is down, or got no certificate), 78 (the file cannot be
    written).
    """
    there(settings)
    container, before = probe.running(settings), current(settings)
    new = dataclasses.replace(wanted, generation=before.generation + 1)
    old_text = path(settings).read_text() if path(settings).exists() else _render(settings, before)
    then = acme.then(settings, old_text)
    # Before it is staged: Caddy has the new settings from then on.
    lacked = then["KEEL_DOMAIN"] == settings["KEEL_DOMAIN"] and bool(acme.lacking(then))
    if not _pointed(settings):  # lost, or never there (an earlier evenkeel): it must be there before a configuration that asks for it
        kind(settings).point(before)
    staged = _stage(settings, container, new, afresh)
    try:
        state.rename(staged, path(settings))
        if not run.dry:
            say(f"generation {new.generation} written: {describe(new)}")
        _make_live(settings, container, new, afresh=afresh)
    except BaseException as e:
        if lacked and isinstance(e, acme.Lacking):
            raise  # nobody could come in before either: the settings of today stay, and the proxy goes on asking with them
        # The old shares with the settings of then, as those of today may be what is wrong; and a new number: the proof must not mistake
        # the attempt for its repair.
        again = dataclasses.replace(before, generation=new.generation + 1)
        say(f"generation {new.generation} is not live: putting generation {before.generation} back")
        state.write(path(settings), traffic.renumbered(old_text, again.generation))
        try:
            _make_live(then, container, again)
        except Stop as worse:
            # Where the reload was refused the proxy goes on with what it had, which the old file is a part of.
            state.write(path(settings), old_text)
            with contextlib.suppress(Stop):  # what is served then tells
                kind(then).point(before)
            still = probe.prove(then, before.generation, seconds=1)
            if still:
                raise Stop(f"{_words(e)}\nthe old traffic file is back, but the proxy does not serve it ({still}): {worse.message}",
                           worse.code, f"logs proxy; make status ENV={settings.env} says what it serves") from None
            again = before
        if isinstance(e, Stop):
            raise Stop(f"{e.message}\nthe old traffic is back (generation {again.generation})", e.code, e.hint) from None
        raise
    return new


def _stage(settings: Settings, container: str, new: Traffic, afresh: bool) -> Path:
    """Write the file aside in the mounted directory, keep the one in force as `.previous`, let the proxy check it: that comes last, for
    Caddy may load it."""
    file = path(settings)
    staged = file.with_name(file.name + ".next")
    try:
        state.write(staged, _render(settings, new))
        if file.exists():
            state.write(_previous(file), file.read_text())
        fault, warning = ("", "") if run.dry else kind(settings).check(container, afresh=afresh)
        if fault:
            state.remove(staged)
            said, hint = certificate.refused(settings, fault)
            raise Stop(f"{settings['KEEL_PROXY']} refuses generation {new.generation}: {said}\nnothing was changed", NO, hint)
        if warning:
            cli.warn("; ".join(filter(None, [warning, certificate.fault(settings)])))
    except OSError as e:
        raise Stop(f"{file}: cannot be written: {e.strerror}\nnothing was changed", CONFIG, f"who owns {file.parent}?") from None
    return staged


def _make_live(settings: Settings, container: str, now: Traffic, *, afresh: bool = False) -> None:
    """nginx: what is to be loaded is loaded before anything moves. Caddy's file has moved traffic already; `check` has loaded it."""
    proxy = kind(settings)
    if run.dry:
        what = "reload" if afresh and proxy.gentle else "load what it lacks into"
        run.dry(f"{what} {settings['KEEL_PROXY']}, switch, and prove generation {now.generation}")
        return
    proxy.reload(container, afresh=bool(acme.lacking(settings)) or (afresh and proxy.gentle))
    proxy.point(now)
    acme.wait(settings)
    said = probe.prove(settings, now.generation)
    if said:
        raise Stop(f"{settings['KEEL_PROXY']} does not serve generation {now.generation}: {said}", NO, "logs proxy")


def shares(before: Traffic, share: Share) -> tuple[Share, ...]:
    """The shares when one release gets `percent`: the rest stays with those that serve, the last to serve becomes the standby."""
    others = [s for s in before.shares if s.colour != share.colour]
    if not others:
        return (dataclasses.replace(share, percent=100),)
    return (share, dataclasses.replace(others[0], percent=100 - share.percent))


def describe(t: Traffic) -> str:
    """'blue 100 % 20260102T030405Z-1a2b3c4, green 0 % …' for people."""
    words = ", ".join(f"{s.release} ({s.colour}) {s.percent} %" for s in sorted(t.shares, key=lambda s: -s.percent)) or "nobody serves"
    return words + (", maintenance page on" if t.maintenance else "")


def _render(settings: Settings, t: Traffic) -> str:
    return kind(settings).render(t, options(settings))


def _words(e: BaseException) -> str:
    return e.message if isinstance(e, Stop) else str(e) or type(e).__name__
