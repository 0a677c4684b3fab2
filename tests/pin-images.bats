#!/usr/bin/env bats
# pin-images: against a real registry of our own, and against one that misbehaves in the ways that registries do.

setup() {
  load helper
  load registry
  scratch
  use_host
  pins=compose/images.env
}

teardown() { no_registry; }

# push NAME TAG: an index of one image of nothing; prints its digest.
push() {
  "$TREE/.venv/bin/python" - "$at" "$1" "$2" <<'END'
import hashlib, json, sys, requests
at, name, tag = sys.argv[1:]
base = f"http://{at}/v2/{name}"

def sha(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"

def put(reference, kind, document):
    data = json.dumps(document).encode()
    requests.put(f"{base}/manifests/{reference}", data=data, headers={"Content-Type": kind}, timeout=10).raise_for_status()
    return {"mediaType": kind, "digest": sha(data), "size": len(data)}

config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": {"tag": tag}},
                     "rootfs": {"type": "layers", "diff_ids": []}}).encode()
where = requests.post(f"{base}/blobs/uploads/", timeout=10).headers["Location"]
where += ("&" if "?" in where else "?") + f"digest={sha(config)}"
requests.put(where, data=config, headers={"Content-Type": "application/octet-stream"}, timeout=10).raise_for_status()
oci = "application/vnd.oci.image"
image = put(f"{tag}-amd64", f"{oci}.manifest.v1+json", {
    "schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "layers": [],
    "config": {"mediaType": f"{oci}.config.v1+json", "digest": sha(config), "size": len(config)}})
index = put(tag, f"{oci}.index.v1+json", {
    "schemaVersion": 2, "mediaType": f"{oci}.index.v1+json",
    "manifests": [{**image, "platform": {"architecture": "amd64", "os": "linux"}}]})
print(index["digest"])
END
}

# a_bad_registry MODE: answers as MODE says, at $at.
a_bad_registry() {
  local said=$BATS_TEST_TMPDIR/bad
  mkfifo "$said"
  python3 - "$1" >"$said" 3>&- <<'END' &
import hashlib, http.server, json, sys, urllib.parse
mode = sys.argv[1]

class Answer(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a):
        pass

    def give(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/token":
            asked = urllib.parse.parse_qs(url.query)
            well = asked == {"service": ["reg"], "scope": ["repository:one:pull"]}
            self.give(200 if well else 400, json.dumps({"token": "open"}).encode())
        elif mode == "token" and self.headers.get("Authorization") != "Bearer open":
            realm = f'http://127.0.0.1:{self.server.server_port}/token'
            self.give(401, WWW_Authenticate=f'Bearer realm="{realm}",service="reg",scope="repository:one:pull"')
        elif mode == "basic":
            self.give(401, WWW_Authenticate='Basic realm="private"')
        elif mode.isdigit():
            self.give(int(mode))
        else:
            real = "sha256:" + hashlib.sha256(b"{}").hexdigest()
            self.give(200, b"{}", Docker_Content_Digest=real if mode == "token" else "sha256:" + "0" * 64)

server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
server.serve_forever()
END
  registry=$!
  read -r at <"$said"
  at=127.0.0.1:$at
}

@test "pin-images: writes what a real registry says, keeps comments and order, prints each image" {
  a_registry
  one=$(push one 1)
  two=$(push a/two 2.0-alpine)
  printf '# a comment\nKEEL_IMAGE_ONE=%s/one:1\n\n# another\nKEEL_IMAGE_TWO=%s/a/two:2.0-alpine@sha256:%064d\n' "$at" "$at" 7 >"$pins"
  keel pin-images
  exits 0
  is stdout "$output" "$at/one:1@$one
$at/a/two:2.0-alpine@$two"
  is stderr "$stderr" "pin-images: $at/one:1: $one
pin-images: $at/a/two:2.0-alpine: sha256:$(printf %064d 7) is now $two"
  is pins "$(<"$pins")" "# a comment
KEEL_IMAGE_ONE=$at/one:1@$one

# another
KEEL_IMAGE_TWO=$at/a/two:2.0-alpine@$two"
}

@test "pin-images: again changes nothing, and says so" {
  a_registry
  one=$(push one 1)
  echo "KEEL_IMAGE_ONE=$at/one:1@$one" >"$pins"
  before=$(stat -c '%i %Y' "$pins")
  keel pin-images
  exits 0
  is stderr "$stderr" "pin-images: $at/one:1: unchanged"
  is file "$(stat -c '%i %Y' "$pins")" "$before"
}

@test "pin-images: a tag that is not there is left as it is: exit 1, the others are written" {
  a_registry
  one=$(push one 1)
  printf 'KEEL_IMAGE_ONE=%s/one:1\nKEEL_IMAGE_TWO=%s/one:2\n' "$at" "$at" >"$pins"
  keel pin-images
  exits 1
  is stdout "$output" "$at/one:1@$one"
  has "warning: $at/one:2: not resolved, left as it is: $at answers 404 for one:2" "$stderr"
  is pins "$(<"$pins")" "KEEL_IMAGE_ONE=$at/one:1@$one
KEEL_IMAGE_TWO=$at/one:2"
}

@test "pin-images: one registry does not answer: exit 69, what the other said is written" {
  a_registry
  one=$(push one 1)
  printf 'KEEL_IMAGE_ONE=%s/one:1\nKEEL_IMAGE_TWO=127.0.0.1:1/two:2\n' "$at" >"$pins"
  keel pin-images
  exits 69
  is stdout "$output" "$at/one:1@$one"
  has "warning: 127.0.0.1:1/two:2: not resolved, left as it is: 127.0.0.1:1 does not answer: connection refused" "$stderr"
  has "KEEL_IMAGE_ONE=$at/one:1@$one" "$(<"$pins")"
}

@test "pin-images: no registry answers: exit 69, nothing changed" {
  echo "KEEL_IMAGE_TWO=127.0.0.1:1/two:2" >"$pins"
  keel pin-images
  exits 69
  is stdout "$output" ""
  has "pin-images: error: compose/images.env: no image could be resolved" "$stderr"
  is pins "$(<"$pins")" "KEEL_IMAGE_TWO=127.0.0.1:1/two:2"
}

@test "pin-images: --dry-run asks and prints, and writes nothing" {
  a_registry
  one=$(push one 1)
  echo "KEEL_IMAGE_ONE=$at/one:1" >"$pins"
  keel pin-images --dry-run
  exits 0
  is stdout "$output" "$at/one:1@$one"
  has "pin-images: would: write " "$stderr"
  is pins "$(<"$pins")" "KEEL_IMAGE_ONE=$at/one:1"
}

@test "pin-images: fetches the anonymous token that a registry asks for" {
  a_bad_registry token
  echo "KEEL_IMAGE_ONE=$at/one:1" >"$pins"
  keel pin-images
  exits 0
  is stdout "$output" "$at/one:1@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
}

@test "pin-images: a registry that wants a password: exit 1" {
  a_bad_registry basic
  echo "KEEL_IMAGE_ONE=$at/one:1" >"$pins"
  keel pin-images
  exits 1
  has "$at answers 401 for one:1" "$stderr"
}

@test "pin-images: a registry that is broken or says too many: exit 69" {
  for code in 503 429; do
    a_bad_registry $code
    echo "KEEL_IMAGE_ONE=$at/one:1" >"$pins"
    keel pin-images
    exits 69
    has "$at answers $code" "$stderr"
    kill "$registry"
    rm "$BATS_TEST_TMPDIR/bad"
  done
}

@test "pin-images: a digest that is not that of the bytes is refused: exit 1, nothing changed" {
  a_bad_registry lies
  echo "KEEL_IMAGE_ONE=$at/one:1" >"$pins"
  keel pin-images
  exits 1
  has "says sha256:$(printf %064d 0) for bytes that are sha256:44136fa3" "$stderr"
  is pins "$(<"$pins")" "KEEL_IMAGE_ONE=$at/one:1"
}

@test "pin-images: reads names as the engine does" {
  run "$TREE/.venv/bin/python" -c '
import sys; sys.path.insert(0, "lib")
from keel.registry import split
for image in ("redis:8-alpine", "edoburu/pgbouncer:v1@sha256:00", "quay.io/a/b", "localhost/x:1", "127.0.0.1:5000/x"):
    print(*split(image))'
  is names "$output" "registry-1.docker.io library/redis 8-alpine
registry-1.docker.io edoburu/pgbouncer v1
quay.io a/b latest
localhost x 1
127.0.0.1:5000 x latest"
}
