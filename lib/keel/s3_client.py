"""boto3's client for a bucket, from the words of its URL and the settings.

Credentials: the profile of the URL (?profile=NAME, in AWS's shared files), else AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN, else what boto3 finds (AWS_PROFILE, the role of the machine).
"""
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from keel import stores
from keel.settings import Settings
from keel.stop import CONFIG, Stop

AMAZON = "amazonaws.com"
PORTS = {"http": "80", "https": "443"}


def word(settings: Settings, url: str, words: Mapping[str, str], name: str) -> str:
    """A word of the URL, else its KEEL_S3_… Raises Stop 78 when it is of no known form."""
    value = words.get(name, settings[f"KEEL_S3_{name.upper()}"])
    fault = settings.variables[f"KEEL_S3_{name.upper()}"].fault(value)
    if fault:
        raise Stop(f"{url}: {name} {fault}", CONFIG)
    return value


def connected(settings: Settings, url: str, words: Mapping[str, str]) -> Any:
    """A client for the store with that URL; `words` are what stands after its ?. Raises Stop 78; nothing is asked of the server yet.

    A word `nobody` (no URL can have it: stores.WORDS) is for who only wants to know whether that works: no credentials are looked for,
    which would run programs of a profile and ask the network for the machine's role.
    """
    import boto3
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    endpoint, style = words.get("endpoint", settings["KEEL_S3_ENDPOINT"]), word(settings, url, words, "style")
    keys = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nobody"} if "nobody" in words else {} if "profile" in words else {
        "aws_access_key_id": settings["AWS_ACCESS_KEY_ID"] or None, "aws_secret_access_key": settings["AWS_SECRET_ACCESS_KEY"] or None,
        "aws_session_token": settings["AWS_SESSION_TOKEN"] or None}
    checksums: Any = "when_required" if endpoint else "when_supported"  # AWS knows them all, others may not
    try:
        core = botocore.session.Session()
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
        session = boto3.Session(profile_name=words.get("profile"), region_name=words.get("region", settings["KEEL_S3_REGION"]) or None,
                                botocore_session=core)
        client = session.client("s3", endpoint_url=endpoint or None, **keys, config=Config(
            user_agent="evenkeel", signature_version="s3v4", connect_timeout=10,
            read_timeout=settings.seconds("KEEL_S3_TIMEOUT"), tcp_keepalive=True,
            retries={"mode": "standard", "total_max_attempts": settings.number("KEEL_S3_ATTEMPTS")}, s3={"addressing_style": style},
            max_pool_connections=stores.AT_ONCE, request_checksum_calculation=checksums, response_checksum_validation=checksums))
        address(client.meta.endpoint_url)  # boto3 takes a port that is none
        return client
    except (BotoCoreError, ValueError) as e:
        raise Stop(f"{url}: {str(e).lower().rstrip('.')}", CONFIG, "KEEL_S3_ENDPOINT, or ?endpoint=URL&region=NAME&profile=NAME") from None


def _moment(text: str) -> datetime:
    """A time as S3 writes it, in lists and in headers; botocore's own parser, which is for any, takes a third of a long list."""
    from botocore.utils import parse_timestamp

    try:
        found = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
    except (TypeError, ValueError):
        found = parse_timestamp(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def address(endpoint: str) -> tuple[str, ...]:
    """What tells one server from another; a bucket of Amazon's is the same one by the address of any region."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if f".{host}".endswith(f".{AMAZON}"):
        return (AMAZON,)
    return host, str(parts.port or PORTS.get(parts.scheme, "")), parts.path.rstrip("/")
