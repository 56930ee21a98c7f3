#!/usr/bin/env bash
# The main use on a real disk: a base with a file system, a copy-on-write overlay, writes, check, convert,
# compare. Everything happens in ./demo-disks, which every run creates anew.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
[[ -x .venv/bin/fvd ]] || "${MAKE:-make}" --no-print-directory build

step() { printf '\n--- %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

rm -rf demo-disks
mkdir -p demo-disks/files
cp README.md docs/*.md demo-disks/files/
cp -r docs/cli demo-disks/files/cli
printf 'This line is in the base image.\n' >demo-disks/files/hello.txt
cd demo-disks

step "A disk to start from: 64 MiB, ext4, with this project's documentation in it"
truncate -s 64M base.raw
run mkfs.ext4 -q -F -b 4096 -d files base.raw
sha256sum base.raw >base.sha256
run qemu-img info base.raw

step "A copy-on-write overlay: the base stays as it is, what changes goes to overlay.fvd"
run fvd create -f fvd -b base.raw -F raw overlay.fvd

step "Writes through the Python API: the one data block of /hello.txt in the file system"
block=$(debugfs -R 'blocks /hello.txt' base.raw 2>/dev/null | tr -d '[:space:]')
run cat ../scripts/demo_write.py
run python ../scripts/demo_write.py overlay.fvd $((block * 4096))

step "The overlay is consistent"
run fvd check overlay.fvd

step "What it is: the base it stands on, what it occupies"
run fvd info overlay.fvd

step "Where its data comes from: depth 0 is the overlay, depth 1 the base"
run fvd map overlay.fvd

step "Flattened to a raw disk, which every tool reads"
run fvd convert -O raw overlay.fvd flat.raw

step "And to an FVD image that stands alone and occupies only what it holds (a compact image)"
run fvd convert -O fvd -o compact_image=on overlay.fvd compact.fvd
run fvd check compact.fvd
run ls -sh overlay.fvd flat.raw compact.fvd

step "All three are the same disk; qemu-img agrees about the raw one"
run fvd compare overlay.fvd flat.raw
run fvd compare compact.fvd overlay.fvd
run fvd convert -O raw compact.fvd again.raw
run qemu-img compare -f raw -F raw flat.raw again.raw

step "The file system in it is clean, and holds what was written"
run e2fsck -fn flat.raw
debugfs -R 'cat /hello.txt' flat.raw 2>/dev/null | tee hello.txt
grep -qx 'This line is in an overlay now.' hello.txt

step "The base was not touched"
run sha256sum --check base.sha256
debugfs -R 'cat /hello.txt' base.raw 2>/dev/null

printf '\nDone. The disks are in demo-disks/.\n'
