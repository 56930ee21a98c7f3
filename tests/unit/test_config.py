"""The sources of trusted directories."""

import os
from pathlib import Path

import pytest

from fvd._config import ConfigError, config_path, is_url, split_trust, trusted_directories


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_the_three_sources_add_up_each_directory_once(tmp_path: Path) -> None:
    a, b, templates = folders = [str(tmp_path / name) for name in ("a", "b", "templates")]
    for folder in folders:
        os.mkdir(folder)
    config = write(tmp_path / "config.toml", f'trust = ["{templates}", "{b}"]')
    environ = {"FVD_CONFIG": config, "FVD_TRUST": f"{a}:{b}::"}
    assert trusted_directories([str(tmp_path)], environ) == [str(tmp_path), a, b, templates]


def test_a_missing_folder_is_an_error_only_on_the_command_line(tmp_path: Path) -> None:
    here, missing = str(tmp_path), str(tmp_path / "not mounted")
    config = write(tmp_path / "config.toml", f'trust = ["{missing}", "{here}"]')
    assert trusted_directories([], {"FVD_CONFIG": "", "FVD_TRUST": f"{missing}:{here}"}) == [here]
    assert trusted_directories([], {"FVD_CONFIG": config}) == [here]
    with pytest.raises(ConfigError, match="Not a directory"):
        trusted_directories([missing], {"FVD_CONFIG": ""})


def test_the_default_file_is_under_xdg_config_home_or_home(tmp_path: Path) -> None:
    assert config_path({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == "/x/fvd/config.toml"
    assert config_path({"HOME": "/h"}) == "/h/.config/fvd/config.toml"
    assert config_path({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}) == "/h/.config/fvd/config.toml"
    assert config_path({}) is None
    write(tmp_path / "fvd" / "config.toml", 'trust = ["/"]')
    assert trusted_directories([], {"XDG_CONFIG_HOME": str(tmp_path)}) == ["/"]


def test_a_missing_default_file_is_no_error(tmp_path: Path) -> None:
    assert trusted_directories([], {"HOME": str(tmp_path)}) == []


def test_a_missing_named_file_is_an_error(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=f"Could not open '{missing}': No such file or directory"):
        trusted_directories([], {"FVD_CONFIG": missing})


def test_an_empty_file_name_means_no_file(tmp_path: Path) -> None:
    write(tmp_path / ".config" / "fvd" / "config.toml", "broken")
    assert trusted_directories([], {"FVD_CONFIG": "", "HOME": str(tmp_path)}) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("trusted = []", "unknown key 'trusted'"),
        ("[trust]\na = 1", "'trust' must be an array of strings"),
        ("trust = 1", "'trust' must be an array of strings"),
        ("trust = '/a'", "'trust' must be an array of strings"),
        ("trust = ['/a', 1]", "'trust' must be an array of strings"),
        ("trust = ['a/b']", "'trust': 'a/b' is not an absolute path"),
        ("trust = ['']", "'trust': '' is not an absolute path"),
        ("trust = ", "not valid TOML: "),
        ("trust = ['/a']\ntrust = []", "not valid TOML: "),
        ("x = " + "[" * 5000, "not valid TOML: "),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_key(tmp_path: Path, text: str, complaint: str) -> None:
    config = write(tmp_path / "config.toml", text)
    with pytest.raises(ConfigError) as raised:
        trusted_directories([], {"FVD_CONFIG": config})
    assert str(raised.value).startswith(f"{config}: {complaint}")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        trusted_directories([], {"FVD_CONFIG": str(tmp_path / "config.toml")})


def test_a_relative_directory_in_the_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="FVD_TRUST: 'here' is not an absolute path"):
        trusted_directories([], {"FVD_TRUST": "/a:here"})


def test_a_command_line_directory_may_be_relative_but_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert trusted_directories(["sub"], {}) == [str(tmp_path / "sub")]
    with pytest.raises(ConfigError, match="--trust 'none': Not a directory"):
        trusted_directories(["none"], {})


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("", []),
        ("/a::/b:", ["/a", "/b"]),
        ("/a:https://x.org/y:/b", ["/a", "https://x.org/y", "/b"]),
        ("https://x.org", ["https://x.org"]),
        ("https://x.org:8443/y:/b", ["https://x.org:8443/y", "/b"]),
        ("https://x.org:8443:/b", ["https://x.org:8443", "/b"]),
        ("https://x.org:8443:s3://images/a:/b", ["https://x.org:8443", "s3://images/a", "/b"]),
        ("http://[2001:db8::1]:80/a:/b", ["http://[2001:db8::1]:80/a", "/b"]),
        ("http://[::1]:/b", ["http://[::1]", "/b"]),
        ("nbd+unix:///?socket=/run/s:/b", ["nbd+unix:///?socket=/run/s", "/b"]),
        ("https://x.org/a:b:/c", ["https://x.org/a:b", "/c"]),
        ("a:/b", ["a", "/b"]),
        ("nbd:host", ["nbd", "host"]),
    ],
)
def test_a_colon_within_a_url_separates_no_entries(text: str, entries: list[str]) -> None:
    assert split_trust(text) == entries


def test_a_url_is_trusted_from_each_source_as_it_is(tmp_path: Path) -> None:
    config = write(tmp_path / "config.toml", 'trust = ["gs://images/debian"]')
    environ = {"FVD_CONFIG": config, "FVD_TRUST": f"https://x.org:8443/y:{tmp_path}"}
    found = trusted_directories(["s3://images/../a"], environ)
    assert found == ["s3://images/../a", "https://x.org:8443/y", str(tmp_path), "gs://images/debian"]


def test_only_a_scheme_and_two_slashes_make_a_url() -> None:
    assert all(map(is_url, ["https://x", "s3://b/k", "nbd+unix:///?socket=/s"]))
    assert not any(map(is_url, ["", "/a", "./https://x", "nbd:host:1", "a b://x", "://x", "\xe4://x"]))
