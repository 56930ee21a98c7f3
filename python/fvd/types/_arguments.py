"""Types of arguments."""

import os
from collections.abc import Callable
from typing import Literal

StrPath = str | os.PathLike[str]
"""The name of a file: a string or a path object, not `bytes`.

```pycon
>>> from pathlib import Path
>>> fvd.info(Path("disk.fvd"))["format"]
'fvd'
```
"""
Format = Literal["fvd", "raw", "qcow2"]
"""Formats that can be read.

```pycon
>>> fvd.info("base.raw", format="raw")["virtual-size"]
1048576
```
"""
TargetFormat = Literal["fvd", "raw"]
"""Formats that can be written.

```pycon
>>> fvd.create("empty.raw", "1M", format="raw")["format"]
'raw'
```
"""
MeasuredFormat = Literal["fvd", "raw", "qcow2"]
"""Formats whose size can be calculated.

```pycon
>>> fvd.measure(size="1G", format="qcow2")["required"]
393216
```
"""
CacheMode = Literal["writeback", "writethrough", "none", "directsync", "unsafe"]
"""When writes are durable, and whether the page cache is bypassed (`none`, `directsync`): as in QEMU.

```pycon
>>> with fvd.open("disk.fvd", "r+", cache="writethrough") as image:
...     image.pwrite(b"durable at once", 0)
15
```
"""
Aio = Literal["threads", "io_uring"]
"""How to wait for disks.

```pycon
>>> with fvd.serve("disk.fvd", socket="nbd.sock", aio="threads") as server:
...     server.closed
False
```
"""
Discard = Literal["ignore", "unmap"]
"""What happens to ranges that are discarded: nothing, or their space is freed.

```pycon
>>> with fvd.open("disk.fvd", "r+", discard="ignore") as image:
...     image.discard(4096, 0)
```
"""
DetectZeroes = Literal["off", "on", "unmap"]
"""What happens to writes of only zeros: they are written, become zeroing that keeps space, or zeroing that
frees it.

```pycon
>>> with fvd.open("disk.fvd", "r+", detect_zeroes="unmap") as image:
...     written = image.pwrite(bytes(4096), 0)
...     image.stats()["detected-zeroes"]
1
```
"""
BaseError = Literal["wait", "report"]
"""What a read does if the base does not answer: it waits, however long that takes, or fails after
`base_timeout` seconds.

```pycon
>>> with fvd.open("overlay.fvd", base_error="report", base_timeout=60) as image:
...     image.pread(4, 0)
b'base'
```
"""
Repair = Literal["leaks", "all"]
"""What `check` repairs: only leaked space, which loses nothing, or everything.

```pycon
>>> fvd.check("disk.fvd", repair="leaks")["leaks-fixed"]
0
```
"""
Mode = Literal["r", "rb", "r+", "r+b", "rb+"]
"""How to open: to read (`r`, `rb`), or to read and write (the others).

```pycon
>>> with fvd.open("disk.fvd", "r+") as image:
...     image.writable
True
```
"""
StrSize = int | str
"""Bytes, or a text such as `"64K"` (`fvd.options.parse_size`).

```pycon
>>> fvd.amend("disk.fvd", size="80M")
>>> fvd.amend("disk.fvd", size=96 << 20)
```
"""
Switch = bool | str
"""On or off; a text is parsed as on the command line.

```pycon
>>> fvd.amend("overlay.fvd", copy_on_read=True)
>>> fvd.amend("overlay.fvd", copy_on_read="off")
```
"""
Progress = Callable[[int, int], object]
"""Called with the bytes done and the total bytes to do. Holes do not count, so the total can decrease while
holes are still being found. The total is 0 while it is unknown (a stream), and if there is nothing to do.

It is called in the thread of the caller. What it raises ends the operation, and is raised by it.

```pycon
>>> seen = []
>>> result = fvd.convert("overlay.fvd", "copy.raw", progress=lambda *numbers: seen.append(numbers))
>>> done, total = seen[-1]
>>> done == total
True
```
"""
