"""make demo: a real platform on this machine, a deploy over itself and a rollback under load, and the account of every request."""
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "lib"), str(ROOT / "tests")]

from load.child import Load  # noqa: E402

from keel import settings  # noqa: E402

NAME = sys.argv[1] if len(sys.argv) > 1 else "development"  # never from the environment: `make demo ENV=production` must not load that
os.environ["KEEL_ENV"] = NAME
ENV = {**os.environ, "PATH": f"{ROOT / 'bin'}:{os.environ['PATH']}"}


def step(title: str, *argv: str) -> float:
    """Run a Make target as a user would; its seconds. Ends the demo with its code when it fails."""
    print(f"\n== {title}: make {' '.join(argv)} ENV={NAME}", file=sys.stderr, flush=True)
    begin = time.monotonic()
    code = subprocess.run(["make", "-C", str(ROOT), *argv, f"ENV={NAME}"], env=ENV, stdout=sys.stderr).returncode
    if code:
        print(f"\ndemo: error: make {' '.join(argv)} ended with {code}: the message above says why", file=sys.stderr)
        sys.exit(1)
    return time.monotonic() - begin


def go_on(load: Load) -> None:
    """Wait for 500 more answers, so that what follows a switch is in the account too."""
    seen = load.now.ok("get")
    load.until(lambda now: now.ok("get") > seen + 500, 60)


def main() -> int:
    """0 when the deploy and the rollback failed no request."""
    seconds = {"secrets and certificate": step("passwords and a certificate for this machine", "secrets", "cert"),
               "start PostgreSQL, Redis, proxy": step("what must not blink", "up"),
               "first deploy (with build)": step("the first release", "deploy")}
    s = settings.load()
    port = s.number("KEEL_HTTPS_PORT")
    load = Load(url=f"https://127.0.0.1:{port}", host=s["KEEL_DOMAIN"], cafile=str(ROOT / "secrets/tls/ca.pem"), get=16, new=2, new_rate=50,
                post=2, post_rate=50, slow=4, sse=1, ws=1, get_path=("/version", "/events"), seconds=600, requests=500_000, timeout=30)
    with load:
        load.until(lambda now: now.ok("get") > 1000 and now.ok("post") > 50, 60)
        seconds["deploy over itself, under load"] = step("a second release, under load", "deploy")
        go_on(load)
        seconds["rollback, under load"] = step("back to the first, under load", "rollback")
        go_on(load)
        account = load.stop()
    print(f"\n{account.table()}", file=sys.stderr)
    print(f"\n{'phase':34} seconds", *(f"{name:34} {took:7.1f}" for name, took in seconds.items()), sep="\n")
    print(f"\n{account.requests} requests, {account.failed} failed, {account.faults - account.failed} registrations lost or doubled")
    print(f"\nthe platform runs at https://{s['KEEL_DOMAIN']}:{port} (certificate authority: secrets/tls/ca.pem)\n"
          f"  curl --cacert secrets/tls/ca.pem https://{s['KEEL_DOMAIN']}:{port}/events\n"
          f"  make status ENV={NAME}     who serves\n"
          f"  make down ENV={NAME}       stop it; the data stays (make destroy deletes it, and asks)")
    return 1 if account.faults else 0


sys.exit(main())
