#!/usr/bin/env bats
# reload-proxy: settings, a certificate or a repaired traffic file come into force, and no traffic moves.

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
  has "reload-proxy: would: reload nginx and prove generation " "$stderr"
}

@test "reload-proxy: a changed setting is in force, the shares are as before" {
  run bash -c 'head -c 2048 /dev/zero | curl -sS --max-time 10 -o /dev/null -w "%{http_code}" --cacert secrets/tls/ca.pem \
    --connect-to "events.test:443:127.0.0.1:'"$(port)"'" --data-binary @- https://events.test/registrations'
  [ "$output" != 413 ]
  set_env KEEL_BODY_LIMIT=1k
  keel reload-proxy
  exits 0
  is stdout "$output" ""
  has "reload-proxy: live: $A (blue) 100 %" "$stderr"
  run bash -c 'head -c 2048 /dev/zero | curl -sS --max-time 10 -o /dev/null -w "%{http_code}" --cacert secrets/tls/ca.pem \
    --connect-to "events.test:443:127.0.0.1:'"$(port)"'" --data-binary @- https://events.test/registrations'
  is status "$output" 413
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

@test "reload-proxy, swap-upstream: Caddy: a renewed certificate is served from the reload or the switch on, and not before" {
  local old digest file=state/$KEEL_ENV/proxy/traffic.caddy
  set_env KEEL_PROXY=caddy
  up
  for command in reload-proxy "swap-upstream $A"; do
    old=$(there)
    digest=$(grep -o 'keel-config [0-9a-f]*' "$file")
    is served "$(served)" "$old"
    renew
    is served "$(served)" "$old"
    # shellcheck disable=SC2086
    keel $command
    exits 0
    is served "$(served)" "$(there)"
    [ "$(grep -o 'keel-config [0-9a-f]*' "$file")" != "$digest" ]
  done
}
