"""Container registries: which digest a tag has there (OCI Distribution Specification 1.1; no log-in, as for public images)."""
import hashlib
import re
from typing import Any

from keel.stop import UNAVAILABLE, Stop

HUB = "registry-1.docker.io"
# An index first: its digest is the same for every architecture.
KINDS = ", ".join(("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
                   "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"))
TIMEOUT = 10.0


def split(image: str) -> tuple[str, str, str]:
    """The registry's host, the repository there and the tag, of NAME[:TAG][@DIGEST] as the engine reads it."""
    name = image.partition("@")[0]
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # that colon belonged to a port
        path, tag = name, "latest"
    host, slash, rest = path.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return host, rest, tag
    return HUB, path if slash else f"library/{path}", tag


def digest(image: str) -> str:
    """The digest (sha256:…) of the image's tag. Raises Stop: 1 when the registry says no, 69 when it does not answer."""
    import requests

    host, repository, tag = split(image)
    # As the engine does: a registry on this machine may speak plain http.
    scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{host}/v2/{repository}/manifests/{tag}"
    try:
        with requests.Session() as session:
            session.headers["Accept"] = KINDS
            answer = session.get(url, timeout=TIMEOUT)
            if answer.status_code == 401 and _authorise(session, answer.headers.get("WWW-Authenticate", "")):
                answer = session.get(url, timeout=TIMEOUT)
    except requests.RequestException as e:
        raise Stop(f"{host} does not answer: {_reason(e)}", UNAVAILABLE) from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise Stop(f"{host} answers {answer.status_code}", UNAVAILABLE)
    if answer.status_code != 200:
        raise Stop(f"{host} answers {answer.status_code} for {repository}:{tag}")
    # The digest is that of the bytes; what the registry says of them must agree (section "Pulling manifests").
    found = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    said = answer.headers.get("Docker-Content-Digest", found)
    if said != found:
        raise Stop(f"{host} says {said} for bytes that are {found}")
    return found


def _authorise(session: Any, challenge: str) -> bool:
    """Fetch the anonymous token that a registry asks for; False when it wants something else."""
    kind, _, rest = challenge.partition(" ")
    fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    if kind.lower() != "bearer" or "realm" not in fields:
        return False
    answer = session.get(fields.pop("realm"), params=fields, timeout=TIMEOUT)
    if answer.status_code != 200:
        return False
    body = answer.json()
    session.headers["Authorization"] = f"Bearer {body.get('token') or body['access_token']}"
    return True


def _reason(e: BaseException) -> str:
    """The innermost cause in plain words."""
    import requests

    if isinstance(e, requests.Timeout):
        return f"nothing within {TIMEOUT:.0f} s"
    if isinstance(e, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if "resolve" in str(e) or "Name or service not known" in str(e):
        return "its name does not resolve"
    return "connection refused" if "refused" in str(e) else type(e).__name__
