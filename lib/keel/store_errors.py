"""What a provider, the network or a disk says, in our words and codes; a provider's own text is left out, for it may quote a key."""
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keel import health, stores
from keel.stop import CONFIG, UNAVAILABLE, Stop

CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ?profile=NAME: are they right, and may they do this?"
# Source: Amazon S3 API Reference, Error responses. What is not in here may pass: it is worth another try (69).
KNOWN = {
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "401"),
                    ("access is denied", CREDENTIALS)),
    **dict.fromkeys(("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "ExpiredTokenException"),
                    ("the credentials have expired", "new credentials: AWS_SESSION_TOKEN, or the profile")),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName"), ("there is no such bucket", "make it at the provider, or correct the URL")),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301", "307", "IllegalLocationConstraintException"),
                    ("the bucket is in another region", "KEEL_S3_REGION, or ?region=NAME")),
    "RequestTimeTooSkewed": ("this host's clock is wrong: the store refuses it", "timedatectl says whether the clock is synchronized"),
    **dict.fromkeys(("ObjectLockConfigurationNotFoundError", "InvalidBucketState"),
                    ("the bucket has no Object Lock", "KEEL_S3_LOCK=off, or a bucket made with Object Lock")),
}
# What the network and TLS say, in whose words there is no key.
CAUSES = (*(words.lower() for words in health.WORDS), "certificate verify failed", "hostname mismatch", "wrong version number")


@contextmanager
def of_s3(url: str, key: str) -> Iterator[None]:
    """Turn what boto3 raises into Missing or Stop 69 or 78 that names the store and the object."""
    from botocore import exceptions as e

    what = f"{url}: {key}" if key else url
    try:
        yield
    except e.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in ("NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed") and status in (404, 405):
            raise stores.Missing(url, key) from None
        if code in KNOWN:
            said, hint = KNOWN[code]
            raise Stop(f"{what}: {said} ({code})", CONFIG, hint) from None
        raise Stop(f"{what}: the store answered {code or 'with an error'} (status {status})", UNAVAILABLE,
                   "again later; store-check says what the store can do") from None
    except (e.NoCredentialsError, e.PartialCredentialsError, e.TokenRetrievalError, e.CredentialRetrievalError,
            e.UnauthorizedSSOTokenError) as error:
        raise Stop(f"{what}: there are no credentials ({type(error).__name__})", CONFIG, CREDENTIALS) from None
    except e.ParamValidationError as error:
        raise Stop(f"{what}: {str(error).splitlines()[-1].lower()}", CONFIG, "correct the URL of the store") from None
    except (e.BotoCoreError, e.HTTPClientError) as error:
        raise Stop(f"{what}: the store does not answer: {_reason(error)}", UNAVAILABLE,
                   "again later; is KEEL_S3_ENDPOINT right, and does this host's network resolve and reach it?") from None


def _reason(error: Exception) -> str:
    """The host that was asked, where the error has it, and the cause in known words; never the rest of the URL."""
    fields: dict[str, Any] = getattr(error, "kwargs", {})
    url, said = urlsplit(fields.get("endpoint_url") or ""), str(fields.get("error") or error).lower()
    cause = next((words for words in CAUSES if words in said), "")
    return ": ".join(words for words in (url.hostname, cause) if words) + f" ({type(error).__name__})"


@contextmanager
def of_disk(root: Path, key: str) -> Iterator[None]:
    """Turn OSError into Missing or Stop 69 (full, broken, not there) or 78 (not ours) that names the store and the object."""
    url = f"file://{root}"
    try:
        _there(root)  # first: of a folder that is not there nothing is known, least of all that it is empty
        yield
    except FileNotFoundError:
        _there(root)
        raise stores.Missing(url, key) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = (CONFIG if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
                else UNAVAILABLE)
        hint = "free space there, or backup-prune" if full else "who owns the folder, and is its disk well?"
        raise Stop(f"{url}: {key}: {(error.strerror or str(error)).lower()}", code, hint) from None


def _there(root: Path) -> None:
    """Raises Stop 69 when there is no such folder: a disk that is mounted later brings it. And OSError when nobody lets us look."""
    try:
        folder = stat.S_ISDIR(os.stat(root).st_mode)
    except FileNotFoundError:
        raise Stop(f"file://{root}: there is no such folder: not made here, for its disk may not be mounted", UNAVAILABLE,
                   f"is its disk mounted? where the folder is new: mkdir -p {root}") from None
    if not folder:
        raise Stop(f"file://{root}: is no folder", CONFIG, "correct the URL of the store")
