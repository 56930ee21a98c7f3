#!/usr/bin/env bash
# Fetches the parts of the virtual machine for the tests: a kernel, busybox, and QEMU if it is not installed.
# Installs nothing: Debian's packages are unpacked into a folder in the user's cache (or in FVD_MACHINE), so
# neither the boot loader nor other packages of this machine change. Does nothing if the folder is complete.
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

# apt-get would install QEMU and those of its libraries that are missing. They are only downloaded, because
# their version may differ from that of installed QEMU tools, which an installation would replace.
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
        # The package has a hundred megabytes. The test needs only the kernel and a few modules.
        linux-image-*) only=(--wildcards './boot/vmlinuz-*' '*/virtio*.ko*' '*/ext4.ko*' '*/jbd2.ko*' '*/mbcache.ko*' '*/crc16.ko*' '*/*crc32c*.ko*') ;;
        *) only=() ;;
    esac
    # A module that is built into the kernel has no file, and tar reports it as missing.
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$scratch/machine" "${only[@]}" 2>"$scratch/tar" ||
        grep -q 'Not found in archive' "$scratch/tar" || { cat "$scratch/tar" >&2; exit 1; }
done
compgen -G "$scratch/machine/boot/vmlinuz-*" >/dev/null || { echo "fetch-machine: no kernel in its package" >&2; exit 1; }
touch "$scratch/machine/complete"
rm -rf "$folder"
mkdir -p "${folder%/*}"
mv "$scratch/machine" "$folder"
