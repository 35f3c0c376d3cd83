#!/bin/sh
# Makes the secrets of a new installation as files in deploy/secrets, or in the directory given; existing ones stay.
#
# The directory can be entered by its owner alone. The files in it are readable, because the processes in the
# containers, which are other users, read them through mounts of single files.
set -eu
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
chmod 700 "$directory"
cd "$directory"

keep() {  # keep NAME: writes standard input to a file, unless there is one
    if [ -e "$1" ]; then cat > /dev/null; else (umask 022 && cat > "$1.new" && mv "$1.new" "$1"); fi
}

for role in postgres writer tenant; do
    openssl rand -hex 24 | keep "${role}_password"
done
openssl rand -hex 32 | keep secret
openssl genpkey -algorithm ed25519 | keep evidence_key

# The server and its clients derive the same passwords from the secret; zentra.streams.accounts has the rule.
runtime=$(printf 'zentra nats password runtime' | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$(cat secret)" -binary |
    head -c 20 | base32 | tr 'A-Z' 'a-z')

echo "postgresql://postgres:$(cat postgres_password)@postgres:5432/zentra" | keep postgres_admin_url
echo "postgresql://zentra_writer:$(cat writer_password)@postgres:5432/zentra" | keep postgres_writer_url
echo "postgresql://zentra_tenant:$(cat tenant_password)@postgres:5432/zentra" | keep postgres_tenant_url
echo "nats://runtime:$runtime@nats:4222" | keep nats_url
