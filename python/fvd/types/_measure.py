"""Options and results of `measure`."""

from typing import Literal, TypedDict

from fvd.types._arguments import StrPath, StrSize, Switch

MeasureResult = TypedDict("MeasureResult", {"required": int, "fully-allocated": int})
"""How large a new image can become, in bytes, as in `qemu-img measure --output=json`.

`required`: what the copy needs when it is made. `fully-allocated`: what it needs when everything has been
written.

```pycon
>>> result: MeasureResult = fvd.measure("disk.fvd", format="fvd")
>>> result["required"] <= result["fully-allocated"]
True
```
"""


class Qcow2Options(TypedDict, total=False):
    """The options of a qcow2 image, as `qemu-img create` has them, for `measure`.

    Only `cluster_size`, `refcount_bits`, `extended_l2` and `preallocation` change the result.

    ```pycon
    >>> options: Qcow2Options = {"cluster_size": "4K"}
    >>> fvd.measure(size="1G", format="qcow2", options=options)["required"]
    2637824
    ```
    """

    backing_file: StrPath
    backing_fmt: str
    cluster_size: StrSize
    compat: str
    compression_type: str
    extended_l2: Switch
    lazy_refcounts: Switch
    preallocation: Literal["off", "metadata", "falloc", "full"]
    refcount_bits: int | str
