"""Telling the outside how a job went: pings of a healthchecks-style address, and a message to a chat when it failed.

A report is never worth more than the job: one that cannot be sent is a reason in words, for a warning. The addresses are credentials, so
no word of theirs but the host is ever shown, and what is sent holds no secret of the settings.
"""
import json
import re
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import quote, urlsplit

from keel import child
from keel.settings import Settings

PING, NOTIFY = "KEEL_PING_URL", "KEEL_NOTIFY_URL"
LINES, WIDTH = 30, 500      # of what a command said last
TIMEOUT = 5.0               # seconds for a connection, and for an answer
PAUSES = (0.5, 1.5)         # seconds before another try
REASONS = ("connection refused", "certificate verify failed", "connection reset by peer", "remote end closed connection",
           "name or service not known", "temporary failure in name resolution", "no route to host", "network is unreachable", "timed out")


def ping(settings: Settings, job: str, step: str, lines: Sequence[str] = ()) -> str:
    """Say that a job begins (`step` is start), went well ('') or failed (its exit code); '' when that arrived or there is no address.

    Source: Healthchecks, Pinging API: /start, nothing, /EXITCODE after the address of the check; the body is kept with the ping.
    """
    url, fault = _url(settings, PING)
    if not url:
        return fault
    parts = urlsplit(url.replace("{job}", job))
    path = parts.path.rstrip("/") + (f"/{step}" if step else "")
    return _post(PING, parts._replace(path=path).geturl(), "\n".join(lines), "text/plain; charset=utf-8")


def notify(settings: Settings, job: str, code: int, lines: Sequence[str]) -> str:
    """Say in a chat that a job failed; '' when that arrived or there is no address. Slack and Mattermost read `text`, programs the rest."""
    url, fault = _url(settings, NOTIFY)
    if not url:
        return fault
    host = socket.gethostname()
    text = f"{settings.env}: {job} failed on {host}: exit {code}"
    if lines:
        text += "\n```\n" + _plain("\n".join(lines)) + "\n```"
    body = {"text": text, "env": settings.env, "job": job, "host": host, "code": code, "lines": list(lines)}
    return _post(NOTIFY, url, json.dumps(body), "application/json")


def shared(settings: Settings) -> str:
    """That all jobs ping one check, of which each then hides how the others went; '' where each has its own."""
    url = settings.raw(PING)
    return f"{PING} has no {{job}}: one job that goes well hides another that failed" if url and "{job}" not in url else ""


def told(settings: Settings) -> bool:
    """Whether there is anybody to tell."""
    return any(settings.raw(name) for name in (PING, NOTIFY))


def last_lines(said: bytes, secrets: Collection[str]) -> list[str]:
    """The last lines of an output, without secrets. Where it was cut it may begin with half a secret: then its first half is left out."""
    text = mask(said.decode(errors="replace"), secrets)
    text = text[len(text) // 2:] if len(said) >= child.KEPT else text
    lines = [re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+", " ", line).strip() for line in text.splitlines()]
    return [line if len(line) <= WIDTH else f"{line[:WIDTH]}…" for line in lines if line][-LINES:]


def secrets(settings: Settings) -> set[str]:
    """Every value that nobody else may see: the secret settings, and whatever else that nobody knows stands in the file of secrets."""
    file = f"secrets/{settings.env}.env"
    known = settings.variables
    return {value for name, value in settings.values.items()
            if value and (known[name].secret if name in known else settings.origin[name] == file)}


def mask(text: str, secrets: Collection[str]) -> str:
    """The text with … for each secret, also where it is written as in a URL or in JSON, or broken into lines."""
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    forms |= {line for secret in secrets for line in secret.splitlines() if len(line) > 5}
    for form in sorted(filter(None, forms), key=len, reverse=True):  # the longer ones first: one may hold another
        text = text.replace(form, "…")
    return text


def _url(settings: Settings, name: str) -> tuple[str, str]:
    """An address, or what is wrong with it; neither where it is not set."""
    url = settings.raw(name)
    fault = settings.variables[name].fault(url)
    try:
        urlsplit(url)
    except ValueError:
        fault = "is …: an http:// or https:// address is wanted"
    return ("", f"{name} {fault}") if fault else (url, "")


def _plain(text: str) -> str:
    """Nothing that a chat takes for more than text. Source: Slack, Formatting text for app surfaces: escaping."""
    for char, form in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("```", "'''")):
        text = text.replace(char, form)
    return text


def _post(name: str, url: str, body: str, kind: str) -> str:
    """Send; '' when it arrived, else why not. Tried again where that may help. A redirect is not followed: it would lead elsewhere."""
    import requests

    headers: Mapping[str, str] = {"Content-Type": kind, "User-Agent": "evenkeel", "Connection": "close"}
    said = ""
    for pause in (*PAUSES, 0.0):
        try:
            with requests.post(url, body.encode(), headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True) as answer:
                code = answer.status_code
            if code < 300:
                return ""
            said = f"{name}: {urlsplit(url).hostname} answered {code}"
            if code < 500 and code != 429:
                return said
        except (requests.RequestException, ValueError) as e:  # its words hold the address
            why = next((r for r in REASONS if r in str(e).lower()), type(e).__name__)
            said = f"{name}: {urlsplit(url).hostname} cannot be reached: {why}"
        time.sleep(pause)
    return said

