"""Writes down what is posted to it: receiver.py FOLDER prints its port, then adds a line of JSON to FOLDER/requests for each request.

The answer is 200, or the first line of FOLDER/answers, which is then taken away: another code, `hang` (never), or `away` (to elsewhere).
"""
import http.server
import json
import sys
import threading
from pathlib import Path

FOLDER = Path(sys.argv[1])
one_at_a_time = threading.Lock()


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with one_at_a_time:
            with open(FOLDER / "requests", "a") as f:
                f.write(json.dumps({"path": self.path, "type": self.headers["Content-Type"], "body": body}) + "\n")
            answer = next_answer()
        if answer == "hang":
            threading.Event().wait()
        self.send_response(302 if answer == "away" else int(answer))
        if answer == "away":
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST

    def log_message(self, *_: object) -> None:
        """Nothing: what it says would be mixed with the test's output."""


def next_answer() -> str:
    file = FOLDER / "answers"
    first, *rest = file.read_text().splitlines() if file.exists() else [""]
    if rest:
        file.write_text("\n".join(rest) + "\n")
    else:
        file.unlink(missing_ok=True)
    return first or "200"


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
