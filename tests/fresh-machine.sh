#!/usr/bin/env bash
# fresh-machine.sh [test|all]   What a newcomer meets: a bare Debian 12 (debootstrap into a new folder), a clean clone of HEAD in it,
# a user who is not root but may use sudo, and the README's commands. Says which of them failed; 0 when none did.
#
#   test   only ./quickstart.sh test (default)      all   ./quickstart.sh first, so that it is what installs and builds (a model: 269 MB from the hub, or 93 MB)
#
# Needs root, debootstrap and 3 GB under $TMPDIR. Where packages come from (apt's mirror, pip's settings, certificates, name servers)
# is taken from this machine. The folder goes at the end; FRESH_KEEP=1 keeps it.
set -euo pipefail
what=${1:-test}
source_tree=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "fresh-machine: run it as root (it makes a chroot)" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "fresh-machine: debootstrap is missing; apt-get install debootstrap" >&2; exit 3; }
case $what in test | all) ;; *) echo "fresh-machine: $what is neither test nor all" >&2; exit 2 ;; esac

root=$(mktemp -d "${TMPDIR:-/tmp}/fresh-machine.XXXXXX")
chmod 755 "$root" # it becomes somebody's /
leave() {
    for at in dev/pts proc; do
        if mountpoint -q "$root/$at"; then
            umount "$root/$at" || umount -l "$root/$at"
        fi
    done
    rm -f "$root.log"
    if [ -n "${FRESH_KEEP:-}" ]; then
        echo "fresh-machine: kept $root" >&2
    elif mountpoint -q "$root/proc" || mountpoint -q "$root/dev/pts"; then
        echo "fresh-machine: $root is still mounted, not removed" >&2
    else
        rm -rf --one-file-system "$root"
    fi
}
trap leave EXIT
trap 'exit 130' INT TERM

# The first archive of bookworm that apt uses here, in either of apt's two notations.
mirror() {
    local f
    for f in /etc/apt/sources.list.d/*.sources; do
        [ -f "$f" ] || continue
        awk '/^URIs:/ { uri = $2 } /^Suites:/ { for (i = 2; i <= NF; i++) if ($i == "bookworm") hit = 1 }
             /^$/ { if (hit) exit; uri = "" } END { if (hit && uri) print uri }' "$f"
    done
    { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
        awk '$1 == "deb" { for (i = 2; i < NF; i++) if ($(i + 1) == "bookworm") { print $i; exit } }'
}
url=$(mirror)
url=${url%%$'\n'*}
[ -n "$url" ] || { echo "fresh-machine: no archive of bookworm in /etc/apt" >&2; exit 3; }

say() { printf '\n== %s\n' "$*"; }
say "debootstrap from $url"
debootstrap --variant=minbase --include=ca-certificates,sudo bookworm "$root" "$url" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log"; exit 1; }
mount -t proc proc "$root/proc"
mkdir -p "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts" # `chat` is tried at a terminal
ln -sf pts/ptmx "$root/dev/ptmx"

# The way out to the network: what this machine has, that one gets.
for f in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt /etc/apt/apt.conf; do
    if [ -f "$f" ]; then
        mkdir -p "$root${f%/*}"
        cp -L "$f" "$root$f"
    fi
done
cp -rL /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
for f in /etc/apt/apt.conf.d/*; do
    if grep -qi 'proxy\|CaInfo\|Verify' "$f"; then
        cp "$f" "$root/etc/apt/apt.conf.d/"
    fi
done
network=$(env | grep -iE '^(https?_proxy|no_proxy|PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|SSL_CERT_FILE)=' || true)

chroot "$root" useradd -m -s /bin/bash newcomer
echo 'newcomer ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/newcomer"
git clone -q --no-hardlinks "$source_tree" "$root/home/newcomer/nibble"
chroot "$root" chown -R newcomer: /home/newcomer/nibble

# One command of the README as the newcomer types it; what he sees, and what the folder looks like afterwards.
failed=0
try() {
    local start=$SECONDS rc=0
    say "newcomer: $*"
    chroot "$root" setpriv --reuid=newcomer --regid=newcomer --init-groups \
        env -i PATH=/usr/local/bin:/usr/bin:/bin TERM=dumb HOME=/home/newcomer ${network:+$network} \
        bash -c "cd ~/nibble && $*" || rc=$?
    say "$* ended with $rc after $((SECONDS - start)) s"
    if [ $rc != 0 ]; then
        failed=$((failed + 1))
    fi
}
if [ "$what" = all ]; then
    try ./quickstart.sh
fi
try ./quickstart.sh test
dirty=$(git -C "$root/home/newcomer/nibble" -c safe.directory='*' status --porcelain)
if [ -n "$dirty" ]; then
    say "the commands left files that git does not ignore:"
    echo "$dirty"
    failed=$((failed + 1))
fi
say "$failed failed"
[ $failed = 0 ]
