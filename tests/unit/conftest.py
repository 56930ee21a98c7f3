"""Unit tests need no compiled core."""

from cli.fake_core import install_stub

install_stub()
