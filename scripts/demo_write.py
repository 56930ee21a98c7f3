"""Overwrites one line in a file system on an FVD disk: demo_write.py IMAGE OFFSET (run by demo.sh)."""

import sys

import fvd

LINE = b"This line is in an overlay now.\n"

path, offset = sys.argv[1], int(sys.argv[2])
with fvd.open(path, "r+") as img:
    print("on the disk before:", img.pread(len(LINE), offset))
    img.pwrite(LINE, offset)
    img.flush()  # from here on it survives a power cut
    print("on the disk now:   ", img.pread(len(LINE), offset))
