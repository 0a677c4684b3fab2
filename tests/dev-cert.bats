#!/usr/bin/env bats
# dev-cert: a local authority and a certificate; never over one of another origin, never for production unasked.

# shellcheck disable=SC2030,SC2031,SC2086  # each test is a process of its own; leaf holds no blanks

setup() {
  load helper
  scratch
  leaf=secrets/tls/development
}

mode() { stat -c %a "$1"; }
print() { openssl x509 -in "$1" -noout -fingerprint -sha256; }

@test "dev-cert: the certificate verifies for the domain, localhost and 127.0.0.1, and holds its chain" {
  set_env KEEL_DOMAIN=events.test
  keel dev-cert
  exits 0
  is stdout "$output" ""
  has "secrets/tls/development: new certificate for events.test: there was none" "$stderr"
  openssl verify -x509_strict -CAfile secrets/tls/ca.pem -verify_hostname events.test "$leaf/cert.pem"
  openssl verify -x509_strict -CAfile secrets/tls/ca.pem -verify_hostname localhost "$leaf/cert.pem"
  openssl verify -x509_strict -CAfile secrets/tls/ca.pem -verify_ip 127.0.0.1 "$leaf/cert.pem"
  run ! openssl verify -CAfile secrets/tls/ca.pem -verify_hostname other.test "$leaf/cert.pem"
  [ "$(grep -c BEGIN "$leaf/cert.pem")" -eq 2 ]
  is key "$(openssl pkey -in "$leaf/key.pem" -pubout)" "$(openssl x509 -in "$leaf/cert.pem" -noout -pubkey)"
}

@test "dev-cert: the authority's key is its owner's; the proxy can read the leaf, and nobody else reaches it" {
  umask 077
  keel dev-cert
  exits 0
  is ca-key "$(mode secrets/tls/ca-key.pem)" 600
  is secrets "$(mode secrets) $(mode secrets/tls)" "700 700"
  is leaf "$(mode $leaf) $(mode $leaf/cert.pem) $(mode $leaf/key.pem)" "755 644 644"
}

@test "dev-cert: again changes nothing" {
  keel dev-cert
  before=$(sha256sum secrets/tls/*.pem $leaf/*)
  keel dev-cert
  exits 0
  is stderr "$stderr" "dev-cert: secrets/tls/development: well, nothing changed"
  is files "$(sha256sum secrets/tls/*.pem $leaf/*)" "$before"
}

@test "dev-cert: another domain: a new certificate for the same key, from the same authority" {
  keel dev-cert
  authority=$(sha256sum secrets/tls/ca.pem $leaf/key.pem)
  set_env KEEL_DOMAIN=new.test
  keel dev-cert
  exits 0
  has "new certificate for new.test: it was for localhost, 127.0.0.1, ::1" "$stderr"
  is authority "$(sha256sum secrets/tls/ca.pem $leaf/key.pem)" "$authority"
  openssl verify -CAfile secrets/tls/ca.pem -verify_hostname new.test "$leaf/cert.pem"
}

@test "dev-cert: less than 30 days left: a new one" {
  keel dev-cert
  openssl req -x509 -key secrets/tls/ca-key.pem -in <(openssl req -new -key $leaf/key.pem -subj /CN=localhost) -CA secrets/tls/ca.pem \
    -CAkey secrets/tls/ca-key.pem -days 29 -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1' -out $leaf/cert.pem 2>/dev/null
  old=$(print $leaf/cert.pem)
  keel dev-cert
  exits 0
  has "it had 28 days left" "$stderr"
  [ "$(print $leaf/cert.pem)" != "$old" ]
}

@test "dev-cert: a certificate and a key that are no pair are made one" {
  keel dev-cert
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $leaf/key.pem
  keel dev-cert
  exits 0
  has "is not the key of cert.pem" "$stderr"
  is key "$(openssl pkey -in $leaf/key.pem -pubout)" "$(openssl x509 -in $leaf/cert.pem -noout -pubkey)"
}

@test "dev-cert: a certificate that came from elsewhere is never replaced" {
  mkdir -p $leaf
  openssl req -x509 -newkey rsa:2048 -nodes -keyout $leaf/key.pem -out $leaf/cert.pem -days 1 -subj '/CN=bought' 2>/dev/null
  before=$(sha256sum $leaf/*)
  keel dev-cert
  exits 1
  has "is not ours to replace: it is from CN=bought" "$stderr"
  has "hint: move cert.pem and key.pem away first" "$stderr"
  is files "$(sha256sum $leaf/*)" "$before"
}

@test "dev-cert: a key that cannot be read: 65, nothing changed" {
  mkdir -p $leaf
  echo rubbish >$leaf/key.pem
  keel dev-cert
  exits 65
  has "key.pem: " "$stderr"
  is key "$(cat $leaf/key.pem)" rubbish
}

@test "dev-cert: production is refused, with a hint" {
  export KEEL_ENV=production
  set_env KEEL_DOMAIN=shop.test
  keel dev-cert
  exits 1
  has "error: production wants a certificate that browsers trust" "$stderr"
  has "--accept-untrusted" "$stderr"
  [ ! -e secrets/tls ]
}

@test "dev-cert: production with a reason, which goes into the history" {
  export KEEL_ENV=production
  set_env KEEL_DOMAIN=shop.test KEEL_STATE=var
  keel dev-cert --accept-untrusted "rehearsal of the move"
  exits 0
  has '"accepted": "rehearsal of the move"' "$(cat var/production/history)"
  openssl verify -CAfile secrets/tls/ca.pem -verify_hostname shop.test secrets/tls/production/cert.pem
}

@test "dev-cert: an empty reason is none" {
  keel dev-cert --accept-untrusted " "
  exits 2
}

@test "dev-cert: where the proxy fetches certificates itself there is nothing to make" {
  set_env KEEL_TLS=acme
  keel dev-cert
  exits 1
  has "KEEL_TLS=acme: the proxy fetches its certificate itself" "$stderr"
}

@test "dev-cert: --dry-run writes nothing" {
  keel dev-cert -n
  exits 0
  rehearsed
  has "would: write" "$stderr"
  is files "$(ls -A secrets)" ""
}
