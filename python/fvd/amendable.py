"""The attributes of an existing image that can be changed, under their names in the header and all other
names.

```pycon
>>> from fvd.amendable import parse_attributes
>>> parse_attributes(["size=80M,backing_file=moved.raw"])
{'size': 83886080, 'base_img': 'moved.raw'}
```
"""

from __future__ import annotations

from fvd import _fvd as _core
from fvd.options import FVD_OPTIONS, Option, OptionError, normalise_known, parse_known

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fvd.types import OptionValue

AMENDABLE = tuple(Option(*row) for row in _core.amend_options())
"""Every attribute, under its name in the header.

```pycon
>>> [option.name for option in AMENDABLE if option.kind == "switch"]
['clean_shutdown', 'need_zero_init', 'copy_on_read', 'generate_prefetch_profile']
```
"""

ALIASES = _core.amend_aliases()
"""Other names, from `fvd create` and from the original driver's `update`, with the names in the header.

```pycon
>>> ALIASES["backing_file"]
'base_img'
```
"""

_FIXED = {option.name for option in FVD_OPTIONS} - {option.name for option in AMENDABLE} - set(ALIASES)


def parse_attributes(texts: Sequence[str]) -> dict[str, OptionValue]:
    """Return the changes that the `-o` strings ask for, by the names in the header.

    Raises `OptionError` at the first one that is unknown, fixed or wrong.

    ```pycon
    >>> parse_attributes(["copy_on_read,prefetch_start_delay=60"])
    {'copy_on_read': True, 'prefetch_start_delay': 60}
    ```
    """
    return _in_header_terms(parse_known(texts, _known()))


def normalise_attributes(attributes: Mapping[str, object]) -> dict[str, OptionValue]:
    """Return `attributes` by the names in the header. String values are parsed as on the command line.

    Raises `OptionError` for one that is unknown or fixed, or that has a value of the wrong type.

    ```pycon
    >>> normalise_attributes({"virtual_disk_size": "1G", "copy_on_read": True})
    {'size': 1073741824, 'copy_on_read': True}
    ```
    """
    for name in _FIXED.intersection(attributes):
        raise _fixed(name)
    return _in_header_terms(normalise_known(attributes, _known()))


def is_attribute(name: str) -> bool:
    """Tell whether an existing image has an attribute of that name that can be changed.

    ```pycon
    >>> is_attribute("backing_file"), is_attribute("block_size")
    (True, False)
    ```
    """
    return name in ALIASES or any(option.name == name for option in AMENDABLE)


def attributes_help() -> str:
    """Return the answer to `-o help`.

    ```pycon
    >>> attributes_help().splitlines()[1]
    '  size=<size>            - Virtual disk size'
    ```
    """
    return "\n".join(["Amend options for 'fvd':", *(option.help() for option in AMENDABLE)]) + "\n"


def later_help() -> str:
    """Return the part of `create -o help` about options that are set once an image exists.

    ```pycon
    >>> later_help().splitlines()[1]
    "Set with 'fvd amend -o', once the image exists:"
    ```
    """
    at_creation = {ALIASES.get(option.name, option.name) for option in FVD_OPTIONS}
    later = [option.help() for option in AMENDABLE if option.name not in at_creation]
    return "\n".join(["", "Set with 'fvd amend -o', once the image exists:", *later]) + "\n"


class _Fixed(Option):
    """An option of `create` that cannot be changed later."""

    def parse(self, text: str) -> OptionValue:
        """Raise OptionError."""
        raise _fixed(self.name)


def _fixed(name: str) -> OptionError:
    return OptionError(
        f"Parameter '{name}' cannot be changed in an image that exists ('fvd convert' makes a new one)"
    )


def _known() -> dict[str, Option]:
    known = {option.name: option for option in AMENDABLE}
    for alias, name in ALIASES.items():
        option = known[name]
        known[alias] = Option(alias, option.kind, option.description)
    known.update((name, _Fixed(name, "str", "")) for name in _FIXED)
    return known


def _in_header_terms(values: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    return {ALIASES.get(name, name): value for name, value in values.items()}
