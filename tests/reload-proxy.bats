#!/usr/bin/env bats
# reload-proxy: settings, a certificate or a repaired traffic file come into force, and no traffic moves.

# shellcheck disable=SC2030,SC2031  # each test is a process of its own

setup_file() {
  load helper
  load stack
  stack reload
  up
  IMAGE=$(built)
  export IMAGE
  A=$(release "$IMAGE")
  export A
  bin/swap-upstream -q "$A"
}

setup() {
  load helper
  load stack
  cd "$TREE" || return
}

teardown_file() {
  load helper
  load stack
  down
}

@test "reload-proxy: no proxy, no engine, no lock, a dry run: nothing changes" {
  wants_its_proxy reload-proxy
  wants_an_engine reload-proxy
  refuses_a_lock reload-proxy
  keel reload-proxy --dry-run
  exits 0
  rehearsed
  is stdout "$output" ""
  has "reload-proxy: would: reload nginx, switch, and prove generation " "$stderr"
}

@test "reload-proxy: a changed setting is in force, the shares are as before" {
  run public /registrations --post < <(head -c 2048 /dev/zero)
  hasnt $'\n413' "$output"
  set_env KEEL_BODY_LIMIT=1k
  keel reload-proxy
  exits 0
  is stdout "$output" ""
  has "reload-proxy: live: $A (blue) 100 %" "$stderr"
  run public /registrations --post < <(head -c 2048 /dev/zero)
  has $'\n413' "$output"
  has '"command": "reload-proxy"' "$(tail -n 1 "state/$KEEL_ENV/history")"
}

@test "a traffic file that is gone: nothing is stopped or written, everything says how it comes back" {
  keel reload-proxy -q
  mv "state/$KEEL_ENV/proxy/traffic.conf" aside
  for command in "reload-proxy" "start-release $IMAGE" "rollback" "start-base"; do
    # shellcheck disable=SC2086
    keel $command
    if [ "$command" = rollback ]; then exits 1; else exits 65; has "traffic.conf is gone: it says who serves" "$stderr"; fi
  done
  keel status
  exits 1
  has "traffic.conf is gone" "$stderr"
  has "traffic.conf.previous" "$stderr"
  run public /version
  has $'\n200' "$output"
  cp "state/$KEEL_ENV/proxy/traffic.conf.previous" "state/$KEEL_ENV/proxy/traffic.conf"
  keel reload-proxy
  exits 0
  run public /version
  has $'\n200' "$output"
  keel status
  exits 0
}

@test "reload-proxy: the link that nginx looks up is gone: nobody is served, status says so and what to type, and it comes back" {
  rm "state/$KEEL_ENV/proxy/live"
  run public /version
  has $'\n503' "$output"
  keel status
  exits 1
  has "the proxy answers without a generation: make reload ENV=$KEEL_ENV makes it live" "$stderr"
  keel reload-proxy
  exits 0
  run public /version
  has $'\n200' "$output"
  keel status
  exits 0
}

@test "start-base: nginx is down, and the link does not lead to what the traffic file says: it does before nginx is up" {
  touch "state/$KEEL_ENV/proxy/live,1,closed,-0-,-,-"
  ln -sfn "live,1,closed,-0-,-,-" "state/$KEEL_ENV/proxy/live"
  docker stop "keel-$KEEL_ENV-nginx-1" >/dev/null
  keel start-base -q
  exits 0
  run public /version
  has $'\n200' "$output"
  keel status
  exits 0
}

@test "a traffic file that cannot be read: 65, and its predecessor is named" {
  cp "state/$KEEL_ENV/proxy/traffic.conf" aside
  echo "not a traffic file" >"state/$KEEL_ENV/proxy/traffic.conf"
  for command in reload-proxy start-base "maintenance on"; do
    # shellcheck disable=SC2086
    keel $command
    exits 65
    has "traffic.conf.previous" "$stderr"
  done
  run public /version
  has $'\n200' "$output"
  cp aside "state/$KEEL_ENV/proxy/traffic.conf"
}

# served: the fingerprint of the certificate that a new connection gets; there: of the one that lies in the file.
served() {
  openssl s_client -connect "127.0.0.1:$(port)" -servername events.test </dev/null 2>/dev/null | openssl x509 -noout -fingerprint
}

there() { openssl x509 -in "secrets/tls/$KEEL_ENV/cert.pem" -noout -fingerprint; }

renew() { rm "secrets/tls/$KEEL_ENV/cert.pem" && bin/dev-cert -q; }

@test "reload-proxy: nginx: a renewed certificate is served from the reload on, and not before" {
  local old
  old=$(there)
  is served "$(served)" "$old"
  renew
  [ "$(there)" != "$old" ]
  is served "$(served)" "$old"
  keel reload-proxy -q
  exits 0
  is served "$(served)" "$(there)"
}

# What tools do that swap a folder instead of writing into it: the container's mount is still the folder of before.
a_swapped_folder_is_told_and_the_way_out_works() {
  local old container=keel-$KEEL_ENV-$1-1
  old=$(served)
  mv "secrets/tls/$KEEL_ENV" before
  bin/dev-cert -q
  keel reload-proxy
  exits 1
  has "reload-proxy: error: the proxy serves another certificate than the one in secrets/tls/$KEEL_ENV/cert.pem" "$stderr"
  has "reload-proxy: hint: docker restart $container" "$stderr"
  is served "$(served)" "$old"
  keel doctor
  exits 1
  has "bad  certificate another one is served than the one in secrets/tls/$KEEL_ENV/cert.pem; make reload ENV=$KEEL_ENV" "$output"
  docker restart "$container" >/dev/null
  until is served "$(served)" "$(there)" >/dev/null; do [ "$SECONDS" -lt 120 ]; done
  keel reload-proxy -q
  exits 0
  is stderr "$stderr" ""
  keel doctor
  has "ok   certificate " "$output"
  rm -r before
}

@test "reload-proxy, doctor: nginx: a certificate folder that was swapped is told, not called live; docker restart is the way out" {
  a_swapped_folder_is_told_and_the_way_out_works nginx
}

@test "reload-proxy: nginx: the folder of before is gone: the swap is told, not the settings" {
  mv "secrets/tls/$KEEL_ENV" before
  bin/dev-cert -q
  rm -r before
  keel reload-proxy
  exits 1
  has "nothing was changed" "$stderr"
  has "reload-proxy: hint: docker restart keel-$KEEL_ENV-nginx-1" "$stderr"
  docker restart "keel-$KEEL_ENV-nginx-1" >/dev/null
  until is served "$(served)" "$(there)" >/dev/null; do [ "$SECONDS" -lt 120 ]; done
}

@test "reload-proxy: a certificate for another name, one that has ended: served, with a warning" {
  local folder=secrets/tls/$KEEL_ENV
  cp -R "$folder" before
  openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 20 -subj /CN=x -addext subjectAltName=DNS:other.test \
    2>/dev/null
  cp cert.pem key.pem "$folder/"
  keel reload-proxy -q
  exits 0
  is stderr "$stderr" "reload-proxy: warning: secrets/tls/$KEEL_ENV/cert.pem: is for other.test and not for events.test"
  is served "$(served)" "$(there)"
  "$CHECKOUT/.venv/bin/python" - "$folder" <<'END'
import datetime as dt, os, pathlib, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
folder = pathlib.Path(sys.argv[1])
key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
name, now = x509.Name.from_rfc4514_string("CN=x"), dt.datetime.now(dt.UTC)
made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - dt.timedelta(days=9)).not_valid_after(now - dt.timedelta(days=3, seconds=4))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("events.test")]), critical=False))
file = folder / "cert.pem"
time = file.stat().st_mtime_ns
file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
os.utime(file, ns=(time, time))  # so that nothing but the content tells it from the one that is served
END
  keel reload-proxy -q
  exits 0
  is stderr "$stderr" "reload-proxy: warning: secrets/tls/$KEEL_ENV/cert.pem: ended 3 days ago"
  is served "$(served)" "$(there)"
  keel start-release -q "$IMAGE"
  exits 0
  is stderr "$stderr" "start-release: warning: secrets/tls/$KEEL_ENV/cert.pem: ended 3 days ago"
  bin/stop-release -q "$output"
  cp before/* "$folder/"
  rm -r before
  bin/reload-proxy -q
}

@test "reload-proxy: a key that is another's: refused, named, and the old pair is served" {
  local folder=secrets/tls/$KEEL_ENV old
  old=$(served)
  cp "$folder/key.pem" aside
  openssl ecparam -genkey -name prime256v1 -noout -out "$folder/key.pem"
  keel migrate "$IMAGE" # a colour that is new to nginx would have to be loaded at the end
  cp "$folder/key.pem" other
  cp aside "$folder/key.pem"
  exits 78
  has "migrate: error: nginx would refuse the switch at the end; nothing was changed" "$stderr"
  cp other "$folder/key.pem"
  keel reload-proxy
  cp aside "$folder/key.pem"
  exits 1
  has "reload-proxy: error: $TREE/$folder/key.pem: is not the key of cert.pem" "$stderr"
  has "nothing was changed" "$stderr"
  is served "$(served)" "$old"
}

@test "reload-proxy: a link out of the folder, which the container cannot follow: refused and named" {
  local folder=secrets/tls/$KEEL_ENV
  mv "$folder/cert.pem" elsewhere.pem
  ln -s "$TREE/elsewhere.pem" "$folder/cert.pem"
  keel reload-proxy
  mv elsewhere.pem "$folder/cert.pem"
  exits 1
  has "reload-proxy: error: $TREE/$folder/cert.pem: is a link out of its folder" "$stderr"
  has "nothing was changed" "$stderr"
  mkdir "$folder/live"
  mv "$folder/cert.pem" "$folder/live/"
  ln -s live/cert.pem "$folder/cert.pem" # which it can follow
  keel reload-proxy
  mv "$folder/live/cert.pem" "$folder/cert.pem"
  rmdir "$folder/live"
  exits 0
}

@test "reload-proxy, swap-upstream: Caddy: a renewed certificate is served from the reload or the switch on, and not before" {
  local old digest file=state/$KEEL_ENV/proxy/traffic.caddy
  set_env KEEL_PROXY=caddy
  up
  for command in reload-proxy "swap-upstream $A"; do
    old=$(there)
    digest=$(grep -o 'keel-config .*' "$file")
    is served "$(served)" "$old"
    renew
    is served "$(served)" "$old"
    # shellcheck disable=SC2086
    keel $command
    exits 0
    is served "$(served)" "$(there)"
    [ "$(grep -o 'keel-config .*' "$file")" != "$digest" ]
  done
}

@test "reload-proxy, doctor: Caddy: a certificate folder that was swapped is told, not called live; docker restart is the way out" {
  a_swapped_folder_is_told_and_the_way_out_works caddy
}

@test "reload-proxy: Caddy: a certificate that is none: refused, named, and the old one is served" {
  local folder=secrets/tls/$KEEL_ENV old
  old=$(served)
  cp "$folder/cert.pem" aside
  echo garbage >"$folder/cert.pem"
  keel reload-proxy
  cp aside "$folder/cert.pem"
  exits 1
  has "reload-proxy: error: $TREE/$folder/cert.pem: " "$stderr"
  has "nothing was changed" "$stderr"
  is served "$(served)" "$old"
}
