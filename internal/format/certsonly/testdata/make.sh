#!/bin/sh
# Makes the messages of this folder anew with openssl, from certificates whose keys
# are thrown away.
set -eu
cd "$(dirname "$0")"
keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT
rm -f ./*.pem ./*.p7 ./*.b64
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$keys/ca.key" -subj "/O=Test/CN=CA" -days 36500 -out "$keys/ca.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$keys/leaf.key" -subj "/O=Test/CN=leaf" -out "$keys/leaf.csr" 2>/dev/null
openssl x509 -req -in "$keys/leaf.csr" -CA "$keys/ca.pem" -CAkey "$keys/ca.key" -CAcreateserial -CAserial "$keys/serial" -days 36500 -out "$keys/leaf.pem" 2>/dev/null
cat "$keys/leaf.pem" "$keys/ca.pem" >chain.pem
openssl crl2pkcs7 -nocrl -certfile chain.pem -outform DER -out chain.p7
openssl base64 -in chain.p7 -out chain.b64

# With a revocation list, signed, and streamed (BER).
touch "$keys/index"
printf '[ca]\ndefault_ca=c\n[c]\ndatabase=%s/index\ndefault_md=sha256\ndefault_crl_days=36500\n' "$keys" >"$keys/ca.conf"
openssl ca -gencrl -config "$keys/ca.conf" -cert "$keys/ca.pem" -keyfile "$keys/ca.key" -out "$keys/crl.pem" 2>/dev/null
openssl crl2pkcs7 -in "$keys/crl.pem" -certfile chain.pem -outform DER -out crl.p7
openssl cms -sign -in chain.pem -binary -signer "$keys/leaf.pem" -inkey "$keys/leaf.key" -outform DER -out signed.p7
openssl cms -sign -in chain.pem -binary -nodetach -stream -signer "$keys/leaf.pem" -inkey "$keys/leaf.key" -outform DER -out stream.p7
