import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import run
from support.corpus import Case

# `default` is what CI runs. FVD_HYPOTHESIS=long is for a whole night.
settings.register_profile(
    "default",
    deadline=None,
    print_blob=True,
    max_examples=20,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", settings.get_profile("default"), max_examples=2000, stateful_step_count=60)
settings.load_profile(os.environ.get("FVD_HYPOTHESIS", "default"))


def pytest_configure() -> None:
    """Signals end the programs under test, also where the tests run in the background or under `nohup`.

    There SIGINT and SIGHUP are ignored, and programs inherit that.
    """
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def corpus_image(case: Case, tmp_path: Path) -> Path:
    """The image of the parametrised `case`, unpacked with its base and data file."""
    return case.unpack(tmp_path / case.name)


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """The programs that the tests call. A missing one fails the run; no test is skipped."""
    for command in (
        ["qemu-img", "--version"],
        ["qemu-io", "--version"],
        ["mkfs.ext4", "-V"],
        ["mkfs.xfs", "-V"],
        ["e2fsck", "-V"],
        ["debugfs", "-V"],
        ["nbdinfo", "--version"],
        ["nbdcopy", "--version"],
        ["nbdfuse", "--version"],
        ["fusermount3", "--version"],
        ["fio", "--version"],
        ["/usr/bin/python3", "-c", "import nbd"],
        ["xz", "--version"],
        ["zsh", "--version"],
        ["fish", "--version"],
        ["man", "--version"],
        ["sh", "-c", "command -v mandoc"],
    ):
        try:
            run(*command)
        except FileNotFoundError:
            pytest.exit(f"{command[0]} is missing: scripts/install-tools.sh installs it", returncode=1)
