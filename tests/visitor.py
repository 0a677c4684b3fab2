"""A visitor of an environment: one request over HTTP or HTTPS, as a browser on this host would send it.

    python3 tests/visitor.py [--ca FILE] [--at PORT] [--head] [--post] URL

Prints the body (with --head the headers instead), and the status on a last line of its own. --ca is the authority that is believed, --at
the port of this host at which the URL's own host is asked for, and --post sends stdin. Exit 1 and the reason on stderr without an answer.
"""
import argparse
import http.client
import socket
import ssl
import sys
from urllib.parse import urlsplit

WAIT = 10  # seconds, for each step of it


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--ca")
    words.add_argument("--at", type=int)
    words.add_argument("--head", action="store_true")
    words.add_argument("--post", action="store_true")
    words.add_argument("url")
    asked = words.parse_args()
    url = urlsplit(asked.url)
    name, port = url.hostname or "", url.port or {"http": 80, "https": 443}[url.scheme]
    link = http.client.HTTPConnection(name, port)
    try:
        link.sock = socket.create_connection(("127.0.0.1", asked.at) if asked.at else (name, port), WAIT)
        if url.scheme == "https":
            link.sock = ssl.create_default_context(cafile=asked.ca).wrap_socket(link.sock, server_hostname=name)
            link.default_port = 443  # which stands in no Host header
        link.request("HEAD" if asked.head else "POST" if asked.post else "GET", url.path, sys.stdin.buffer.read() if asked.post else None)
        answer = link.getresponse()
        sys.stdout.buffer.write(str(answer.headers).encode() if asked.head else answer.read())
        sys.stdout.buffer.flush()
        print(f"\n{answer.status}")
    except (OSError, http.client.HTTPException) as e:
        print(f"visitor: {asked.url}: {e!r}", file=sys.stderr)
        return 1
    finally:
        link.close()
    return 0


sys.exit(main())
