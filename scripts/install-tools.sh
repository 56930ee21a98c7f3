#!/usr/bin/env bash
# Installs the programs that the tests and the demo need, if they are missing (Debian and derivatives). Then
# checks every tool and names each that is still missing. Does nothing on a machine that has them all.
set -euo pipefail

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" # where Debian has mkfs.ext4 and others
python="${PYTHON:-python3}"

# command:package
needed=(
    qemu-img:qemu-utils
    qemu-io:qemu-utils
    qemu-nbd:qemu-utils
    mkfs.ext4:e2fsprogs
    mkfs.xfs:xfsprogs
    e2fsck:e2fsprogs
    debugfs:e2fsprogs
    nbdinfo:libnbd-bin
    nbdcopy:libnbd-bin
    nbdfuse:libnbd-bin
    fusermount3:fuse3
    fio:fio
    nbdkit:nbdkit
    nginx:nginx-light
    strace:strace
    openssl:openssl
    xz:xz-utils
    tar:tar
    cc:build-essential
    zsh:zsh
    fish:fish
    mandoc:mandoc
    man:man-db
)

# A module of Debian's Python, whichever Python runs the tests.
has_libnbd() { /usr/bin/python3 -c 'import nbd' 2>/dev/null; }

packages=()
for entry in "${needed[@]}"; do
    command -v "${entry%%:*}" >/dev/null || packages+=("${entry#*:}")
done
has_libnbd || packages+=(python3-libnbd)
if ! command -v "$python" >/dev/null; then
    packages+=(python3 python3-venv)
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    packages+=(python3-venv)
fi

if ((${#packages[@]})); then
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    echo "installing: ${packages[*]}"
    as_root=()
    if (($(id -u) != 0)); then
        command -v sudo >/dev/null || {
            echo "install-tools: neither root nor sudo; install these yourself: ${packages[*]}" >&2
            exit 1
        }
        as_root=(sudo)
    fi
    command -v apt-get >/dev/null || {
        echo "install-tools: no apt-get here; install what holds these Debian packages: ${packages[*]}" >&2
        exit 1
    }
    "${as_root[@]}" apt-get update -q </dev/null
    # Newer Debian versions have a separate package for it.
    if apt-cache show nbdfuse >/dev/null 2>&1; then packages=("${packages[@]/libnbd-bin/nbdfuse}" libnbd-bin); fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends --no-remove "${packages[@]}" </dev/null
fi

status=0
missing() {
    echo "install-tools: missing: $1" >&2
    status=1
}
for entry in "${needed[@]}"; do
    command -v "${entry%%:*}" >/dev/null || missing "${entry%%:*} (package ${entry#*:})"
done
has_libnbd || missing "the module nbd of /usr/bin/python3 (package python3-libnbd)"
scripts/fetch-machine.sh || missing "a virtual machine for the tests (scripts/fetch-machine.sh)"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    missing "Python 3.11 or newer as '$python'; name another with make PYTHON=..."
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    missing "the venv module of $python (package python3-venv)"
fi
if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    missing "Rust: https://rustup.rs installs it (1.90 or newer, with rustfmt and clippy)"
else
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | sed -n 1p) == "$wanted" ]] ||
        missing "Rust $wanted or newer (found $found): rustup update"
    cargo fmt --version >/dev/null 2>&1 || missing "rustfmt: rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 || missing "clippy: rustup component add clippy"
fi
exit "$status"
