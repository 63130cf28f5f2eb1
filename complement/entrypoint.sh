#!/bin/sh
# Starts Sundial inside Complement's container. It runs again whenever the container, or a container made from an image
# committed from it, starts: everything under /data is kept, and only what is missing is made.
set -eu

: "${SERVER_NAME:?Complement sets it to the name of the homeserver}"
ca=/complement/ca
tls=/data/tls
config=/data/sundial.toml

# A certificate is made anew if it isn't for this name or this authority: a committed image may be started under another run's authority.
certificate_is_valid() {
    [ -s "$tls/server.key" ] && [ -s "$tls/server.crt" ] &&
        openssl verify -CAfile "$ca/ca.crt" -verify_hostname "$SERVER_NAME" "$tls/server.crt" >/dev/null 2>&1
}

make_certificate() {
    mkdir -p "$tls"
    printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' "$SERVER_NAME" >"$tls/extensions"
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$tls/server.key"
    openssl req -new -key "$tls/server.key" -subj "/CN=$SERVER_NAME" -out "$tls/server.csr"
    # The serial is random (`-CAcreateserial` would need to write beside the authority's key, which may be read-only).
    openssl x509 -req -in "$tls/server.csr" -CA "$ca/ca.crt" -CAkey "$ca/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
        -days 30 -extfile "$tls/extensions" -out "$tls/server.crt.new" 2>/dev/null
    mv "$tls/server.crt.new" "$tls/server.crt"
}

write_configuration() {
    cat >"$config" <<TOML
server_name = "$SERVER_NAME"
data_dir = "/data/store"
default_room_version = "11"

[[listeners]]
bind = "0.0.0.0:8008"

[[listeners]]
bind = "0.0.0.0:8448"
tls = { certificate = "$tls/server.crt", key = "$tls/server.key" }

[registration]
mode = "open"
shared_secret = "complement"
allow_guests = true

[limits]
enforce = false
password_hash_memory_kib = 64
password_hash_passes = 1
federation_backoff_min_seconds = 1
federation_backoff_max_seconds = 5

[storage]
# The suite kills containers, never the machine: what the kernel holds survives.
durability = "os"

[federation]
enabled = true
extra_ca_certificates = ["$ca/ca.crt"]
allow_private_addresses = true
device_names = true
TOML
}

certificate_is_valid || make_certificate
write_configuration
exec sundial serve --config "$config"
