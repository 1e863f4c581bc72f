#!/bin/sh
# Makes what the stack's programs need to trust each other, below secrets/ (or the folder that is given):
#
#   a private authority; for each server a certificate of it, by its name in the stack, localhost and $STACK_NAMES;
#   for hosts that push to Mimir, and for Grafana, certificates of clients; a password of 160 random bits for each
#   pair of user and server; the web configurations (bcrypt) and client files that go with them; and for each host in
#   $STACK_HOSTS a folder hosts/NAME with a password and a certificate of its own, to be taken there.
#
# Existing files stay. Missing ones are made, and a certificate is renewed 30 days before it ends or when
# $STACK_NAMES has changed: delete a file and run it again, and it is replaced, with what depends on it. Servers read
# certificates and web configurations again for each connection, and clients their passwords for each request; Grafana
# alone has to be restarted.
#
# Each program sees its own folder only. Run by root (the service `setup`), a folder belongs to its program's user, and
# nobody else can read it. It needs openssl, and perl with a crypt() that knows bcrypt, as Debian's does.
set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
top=${1:-$here/secrets}
names="localhost 127.0.0.1"
for name in ${STACK_NAMES:-}; do
    case " $names " in
        *" $name "*) ;;
        *) names="$names $name" ;;
    esac
done
hosts=${STACK_HOSTS:-}
mkdir -p "$top"
cd "$top"

say() { echo "setup: $*"; }

# A folder that its program can read: owner PROGRAM UID:GID
owner() {
    mkdir -p "$1"
    cp ca/ca.pem "$1/ca.pem.new" && mv "$1/ca.pem.new" "$1/ca.pem"
    if [ "$(id -u)" = 0 ]; then
        chown -R "$2" "$1"
    fi
}

authority() {
    mkdir -p ca
    [ -f ca/ca.key ] && [ -f ca/ca.pem ] && return
    openssl ecparam -name prime256v1 -genkey -noout -out ca/ca.key
    {
        echo "[req]"
        echo "distinguished_name = name"
        echo "[name]"
        echo "[authority]"
        echo "basicConstraints = critical, CA:true, pathlen:0"
        echo "keyUsage = critical, keyCertSign, cRLSign"
        echo "subjectKeyIdentifier = hash"
    } > ca/ca.cnf
    openssl req -x509 -new -sha256 -key ca/ca.key -days 3650 -subj "/CN=Limpet stack $(openssl rand -hex 4)" \
        -config ca/ca.cnf -extensions authority -out ca/ca.pem
    say "a new authority: every certificate is made anew"
    rm -f ./*/*.crt ./hosts/*/*.crt
}

# certificate PROGRAM FILE server|client NAMES: FILE.crt and FILE.key
certificate() {
    file=$1/$2
    mkdir -p "$1"
    if [ -f "$file.crt" ] && [ -f "$file.key" ] && openssl x509 -in "$file.crt" -noout -checkend 2592000 > /dev/null \
        && [ "$(cat "$file.names")" = "$4" ]; then
        return
    fi
    [ -f "$file.key" ] || openssl ecparam -name prime256v1 -genkey -noout -out "$file.key"
    alt=
    for name in $4; do
        case $name in
            *:*) alt="$alt,IP:$name" ;;
            *[!0-9.]*) alt="$alt,DNS:$name" ;;
            *) alt="$alt,IP:$name" ;;
        esac
    done
    {
        echo "[req]"
        echo "distinguished_name = name"
        echo "[name]"
        echo "[leaf]"
        echo "basicConstraints = critical, CA:false"
        echo "keyUsage = critical, digitalSignature"
        echo "extendedKeyUsage = ${3}Auth"
        echo "subjectAltName = ${alt#,}"
        echo "subjectKeyIdentifier = hash"
        echo "authorityKeyIdentifier = keyid"
    } > "$file.cnf"
    openssl req -new -sha256 -key "$file.key" -subj "/CN=$(basename "$1")" -config "$file.cnf" -out "$file.csr"
    openssl x509 -req -sha256 -in "$file.csr" -CA ca/ca.pem -CAkey ca/ca.key -set_serial "0x$(openssl rand -hex 16)" \
        -days 397 -extfile "$file.cnf" -extensions leaf -out "$file.new" 2> /dev/null
    mv "$file.new" "$file.crt"
    printf '%s' "$4" > "$file.names"
    rm -f "$file.csr" "$file.cnf"
    say "a certificate for $1 ($4)"
}

# password USER SERVER FILE: the one of USER at SERVER, also in FILE, where the user's program reads it
password() {
    mkdir -p passwords "$(dirname "$3")"
    if [ ! -s "passwords/$1@$2" ]; then
        openssl rand -hex 20 | tr -d '\n' > "passwords/$1@$2"
        say "a password for $1 at $2"
    fi
    cmp -s "passwords/$1@$2" "$3" || cp "passwords/$1@$2" "$3"
}

bcrypt() {
    # The salt is 16 random bytes in bcrypt's letters. The password goes through standard input, not the command line.
    salt=$(openssl rand -base64 16 | tr '+' '.' | tr -d '=')
    # shellcheck disable=SC2016 # the dollars are perl's and bcrypt's
    hash=$(SALT='$2y$10$'$salt perl -e 'my $word = <STDIN>; print crypt($word, $ENV{SALT})' < "$1")
    case $hash in
        '$2y$10$'*) printf '%s' "$hash" ;;
        *)
            say "this perl's crypt() knows no bcrypt; use the service: docker compose run --rm setup" >&2
            exit 1
            ;;
    esac
}

# web SERVER: its web configuration: TLS, and the hashes of all its users' passwords
web() {
    users=$(cd passwords && echo *@"$1")
    newest=$1/web.yml
    for file in passwords/*@"$1"; do
        [ -f "$newest" ] && [ "$newest" -nt "$file" ] || newest=
    done
    [ -n "$newest" ] && grep -qxF "# Made by setup.sh for $users" "$newest" && return
    {
        echo "# Made by setup.sh for $users"
        echo "tls_server_config: {cert_file: server.crt, key_file: server.key, min_version: TLS12}"
        echo "basic_auth_users:"
        for file in passwords/*@"$1"; do
            user=$(basename "$file" "@$1")
            hash=$(bcrypt "$file")
            echo "  $user: '$hash'"
        done
    } > "$1/web.yml.new"
    mv "$1/web.yml.new" "$1/web.yml"
    say "the web configuration of $1"
}

# client PROGRAM CONFIG USER PASSWORD: how PROGRAM's own tools reach a server: for health checks, and to repair (year)
client() {
    {
        echo "# Made by setup.sh."
        echo "basic_auth: {username: $3, password_file: $4}"
        echo "tls_config: {ca_file: ca.pem}"
    } > "$1/$2"
}

authority

for server in prometheus alertmanager grafana mimir year; do
    certificate $server server server "$server $names"
done
certificate grafana client client grafana
certificate limpet client client limpet
for host in $hosts; do
    certificate "hosts/$host" client client "$host"
done

password limpet prometheus limpet/password
password grafana prometheus grafana/prometheus-password
password prometheus prometheus prometheus/prometheus-password
password prometheus alertmanager prometheus/alertmanager-password
password alertmanager alertmanager alertmanager/alertmanager-password
password grafana alertmanager grafana/alertmanager-password
password mimir alertmanager mimir/alertmanager-password
password prometheus year prometheus/year-password
password grafana year grafana/year-password
password year year year/year-password
password year prometheus year/prometheus-password
password admin grafana grafana/admin-password
for host in $hosts; do
    password "$host" prometheus "hosts/$host/password"
    cp ca/ca.pem "hosts/$host/ca.pem"
done

web prometheus
web alertmanager
web year
client prometheus client.yml prometheus prometheus-password
client alertmanager client.yml alertmanager alertmanager-password
client year client.yml year year-password
client year prometheus.yml year prometheus-password

# The hourly rules alone, from which `year` records again what a backlog brought too late (docs/capacity.md).
tiers=$here/rules/tiers.rules.yml
if [ -f "$tiers" ]; then
    sed -n '/^groups:/p; /- name: tier-1h-/,$p' "$tiers" > year/hours.rules.yml
fi

# Mimir reads the password of Alertmanager from its configuration only.
sed "s/ALERTMANAGER_PASSWORD/$(cat mimir/alertmanager-password)/" "$here/mimir.yaml" > mimir/mimir.yaml.new
mv mimir/mimir.yaml.new mimir/mimir.yaml

owner prometheus 65534:65534
owner year 65534:65534
owner alertmanager 65534:65534
owner grafana 472:0
owner mimir 10001:10001
owner limpet 10001:10001

# The stack's volumes belong to the programs that write to them; they are mounted here in the service only.
for volume in prometheus:65534:65534 year:65534:65534 alertmanager:65534:65534 grafana:472:0 mimir:10001:10001 \
    limpet:10001:10001; do
    folder=/volumes/${volume%%:*}
    if [ -d "$folder" ]; then
        chown "${volume#*:}" "$folder"
        chmod 700 "$folder"
    fi
done
say "done"
