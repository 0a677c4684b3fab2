"""nginx as the proxy: how it is checked, reloaded, switched and watched."""
import http.client
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from keel import engine, health, probe, run, state, traffic, traffic_file
from keel.options import Options
from keel.settings import Settings
from keel.stop import CONFIG, NO, UNAVAILABLE, Stop


class Nginx:
    """Source: nginx manual: Controlling nginx (HUP starts workers with the new configuration, the old ones finish their requests); Core
    module ($realpath_root is looked up at each request, links resolved); limit_conn (in HTTP/2 each request counts)."""

    file = "traffic.conf"
    by_alias = True  # finds the containers of a colour by DNS, whatever their number and addresses
    gentle = True  # `reload-proxy` reloads it always: that costs no request of HTTP/1.1

    def __init__(self, settings: Settings) -> None:
        self.settings, self.folder = settings, settings.state / "proxy"

    @staticmethod
    def render(t: traffic.Traffic, options: Options) -> str:
        return traffic_file.render_nginx(t, options)

    def check(self, container: str, *, afresh: bool) -> tuple[str, str]:
        """What nginx has against the staged file, and a warning; '' for none, and where nothing is to be loaded."""
        wanted = traffic.digests((self.folder / f"{self.file}.next").read_text())
        loaded = self._loaded()
        fault = _test(container, "check.conf") if afresh or wanted != loaded else ""
        if fault and wanted[0] == loaded[0] and not afresh:
            return "", f"nginx cannot load the certificate and goes on with the one that it has: {fault}"
        return fault, ""

    def lacks(self, text: str) -> bool:
        """Whether it would have to load more than a certificate for this traffic file. Raises Stop 69."""
        return traffic.digests(text)[0] != self._loaded()[0]

    def reload(self, container: str, *, afresh: bool = False) -> None:
        """Load the traffic file where nginx has not its settings or not its certificate; `afresh`: in any case. Returns once no worker
        of before takes a connection. Raises Stop 1 when nginx says no, 69 when it is gone.
        """
        text = (self.folder / self.file).read_text()
        wanted, loaded = traffic.digests(text), self._loaded()
        if wanted == loaded and not afresh:
            return
        if fault := _test(container, "nginx.conf"):
            if wanted[0] == loaded[0] and not afresh:
                return  # the certificate alone, of which `check` has warned
            raise Stop(f"nginx does not reload: {fault}", NO, "logs proxy")
        _hang_up(container)
        told = re.search(r'\$keel_config { default "([^"]*)"', text)

        def differs() -> str:
            return "" if self._ask("/__keel/config")[1].strip() == (told[1] if told else "") else "what it had"

        said = health.wait(lambda: probe.first(differs, probe.PROOFS), probe.PROVE, every=0.02)
        if said:
            raise Stop(f"nginx goes on with {said}: its reload came to nothing within {probe.PROVE:g} s", NO, "logs proxy")

    def point(self, now: traffic.Traffic) -> None:
        """The switch: at each request a worker looks where this link leads. Raises Stop 78; it leads to the old file or to the new."""
        link, name = self.folder / "live", traffic_file.live(now)
        if run.dry:
            run.dry(f"let {link} lead to {name}")
            return
        try:
            before = os.readlink(link) if link.is_symlink() else ""
            (self.folder / name).touch()
            temp = self.folder / "live.next"
            temp.unlink(missing_ok=True)
            temp.symlink_to(name)
            state.rename(temp, link)
            for old in self.folder.glob("live,*"):
                if old.name not in (name, before):  # a request may just be on the way to the one before
                    old.unlink()
        except OSError as e:
            raise Stop(f"{link}: cannot be written: {(e.strerror or str(e)).lower()}", CONFIG,
                       f"who owns {self.folder}? is the disk full?") from None

    def in_flight(self, shares: list[traffic.Share]) -> Callable[[], str]:
        """Asks whether requests to their colours are in flight, '' when none; streams do not count."""
        def left() -> str:
            busy = [s.colour for s in shares if self._ask(f"/__keel/idle/{s.colour}")[0] != 204]
            return f"requests to {' and '.join(busy)} are still open" if busy else ""

        return left

    def _loaded(self) -> tuple[str, str]:
        """The digests of what it was made from, which each configuration carries; '' for one of before there was any."""
        code, said = self._ask("/__keel/config")
        return traffic.digests(said if code == 200 else "")

    def _ask(self, path: str) -> tuple[int, str]:
        """The internal listener, on a fresh connection. Raises Stop 69."""
        connection = http.client.HTTPConnection(probe.inside(self.settings), probe.INTERNAL, timeout=5)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as e:
            raise Stop(f"nginx does not answer inside its network: {e}", UNAVAILABLE, "logs proxy") from None
        finally:
            connection.close()


def _test(container: str, name: str) -> str:
    """What `nginx -t` has against a configuration, '' where it takes it; it has no warnings that count."""
    code, said = engine.execute(container, ["nginx", "-t", "-q", "-c", f"/etc/nginx/keel/{name}"])
    return said.strip() if code else ""


def _hang_up(container: str) -> None:
    """Tell nginx to reload. Raises Stop 1 when it cannot be told.

    Never `docker kill -s HUP`: whatever the signal, the engine notes that somebody stopped the container by hand, and does not start
    it again after a crash or its own restart. The signal itself takes a tenth of the time of a program in the container; that is the
    way where the engine is on another machine (the pid is somebody else's here) or nginx is another user's. The container's first process
    is the engine's init, which passes signals on.
    """
    pid = int(engine.inspect(container)["State"]["Pid"])
    try:
        if pid and container in Path(f"/proc/{pid}/cgroup").read_text():
            os.kill(pid, signal.SIGHUP)
            return
    except OSError:
        pass  # then from the inside
    code, said = engine.execute(container, ["nginx", "-c", "/etc/nginx/keel/nginx.conf", "-s", "reload"])
    if code:
        raise Stop(f"nginx does not reload: {said.strip()}", NO, "logs proxy")
