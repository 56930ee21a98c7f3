#!/usr/bin/env bash
# Fetches what the virtual machine of the tests consists of: a kernel, busybox, and QEMU where it is not
# installed. Nothing is installed: Debian's packages are unpacked into a folder in the cache of the user
# (FVD_MACHINE names another), so neither the boot loader nor other packages of this machine notice. Does
# nothing where the folder is complete.
set -euo pipefail

folder="${FVD_MACHINE:-${XDG_CACHE_HOME:-$HOME/.cache}/fvd/machine}"
complete() {
    [[ -e $folder/complete ]] && { command -v qemu-system-x86_64 >/dev/null || [[ -x $folder/usr/bin/qemu-system-x86_64 ]]; }
}
complete && exit
command -v apt-get >/dev/null || {
    echo "fetch-machine: no apt-get here; install qemu-system-x86_64, and put boot/vmlinuz-*, lib/modules," >&2
    echo "fetch-machine: bin/busybox (static) and an empty file named complete into $folder" >&2
    exit 1
}
as_root=()
(($(id -u) == 0)) || as_root=(sudo)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/debs/partial" "$scratch/machine"

# What apt-get would install is what is not here yet: QEMU and those of its libraries that are missing.
# Downloaded only, it may be of another version than installed tools of QEMU, which it would replace.
download() {
    local apt=(apt-get -q -y -o "Dir::Cache::archives=$scratch/debs" -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
    local kernel
    kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | sed 1q)
    [[ -n $kernel ]] || return 1
    (cd "$scratch/debs" && "${apt[@]}" download "$kernel" busybox-static) || return 1
    command -v qemu-system-x86_64 >/dev/null ||
        "${apt[@]}" install --download-only --no-install-recommends qemu-system-x86
}
echo "fetching a virtual machine for the tests into $folder"
download </dev/null >"$scratch/log" 2>&1 || {
    "${as_root[@]}" apt-get update -q </dev/null
    download </dev/null
} || { echo "fetch-machine: its packages could not be downloaded" >&2; exit 1; }

for deb in "$scratch"/debs/*.deb; do
    case ${deb##*/} in
        # Of a hundred megabytes the test needs the kernel and a few modules.
        linux-image-*) only=(--wildcards './boot/vmlinuz-*' '*/virtio*.ko*' '*/ext4.ko*' '*/jbd2.ko*' '*/mbcache.ko*' '*/crc16.ko*' '*/*crc32c*.ko*') ;;
        *) only=() ;;
    esac
    # A module that is built in is no file: tar says that it is missing.
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$scratch/machine" "${only[@]}" 2>"$scratch/tar" ||
        grep -q 'Not found in archive' "$scratch/tar" || { cat "$scratch/tar" >&2; exit 1; }
done
compgen -G "$scratch/machine/boot/vmlinuz-*" >/dev/null || { echo "fetch-machine: no kernel in its package" >&2; exit 1; }
touch "$scratch/machine/complete"
rm -rf "$folder"
mkdir -p "${folder%/*}"
mv "$scratch/machine" "$folder"
