"""A registry that holds nothing: prints its port, then answers as the OCI distribution specification says for what is unknown."""
import http.server
import json


class Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/v2/"
        body = json.dumps({} if known else {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing: what it says would be mixed with the test's output."""


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
print(server.server_address[1], flush=True)
server.serve_forever()
