"""How mgmtd is configured."""

from pathlib import Path

import pytest

from kvstore.addresses import Address
from kvstore.errors import InvalidOptionError
from kvstore.node.mgmtd import secret_for
from kvstore.node.mgmtd_config import MgmtdConfig, MgmtdSource


def load(**flags: object) -> MgmtdConfig:
    return MgmtdSource(None, flags).load()


def test_flags_win_over_the_file_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / "mgmtd.toml"
    file.write_text(
        'metadata = "records"\nlisten = "10.0.0.1"\nexpected_nodes = 5\nlease_ms = 3000\n'
        'spare_after_s = 1.5\nsecret_file = "secret"\n'
    )

    config = MgmtdSource(file, {"expected_nodes": 4, "seed": None}).load()

    assert f"file://{tmp_path / 'records'}" == config.metadata
    assert tmp_path / "records" == config.directory
    assert tmp_path / "secret" == config.secret_file
    assert Address("10.0.0.1", 7300) == config.listen
    assert 4 == config.settings.expected_nodes
    assert 1500 == config.settings.spare_after_ms
    assert (200, 3000) == (
        config.settings.terms.heartbeat_ms,
        config.settings.terms.lease_ms,
    )


def test_a_url_stays_what_it_is() -> None:
    config = load(metadata="etcd://a:2379,b/prefix")

    assert "etcd://a:2379,b/prefix" == config.metadata
    assert config.directory is None


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({}, "--metadata: name a directory"),
        ({"metadata": "x", "lease_ms": 300}, "too short for a heartbeat"),
        ({"metadata": "x", "expected_nodes": 2}, "ask for fewer replicas"),
        ({"metadata": "x", "slots": 7}, "a power of two"),
        ({"metadata": "x", "replicas": 17}, "--replicas"),
        ({"metadata": "x", "listen": "[::1"}, "--listen"),
        ({"metadata": "x", "advertise": "0.0.0.0"}, "nobody can connect"),
        ({"metadata": "x", "open": True, "secret_file": "y"}, "contradict"),
    ],
)
def test_what_makes_no_sense_is_refused(flags: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidOptionError, match=why):
        load(**flags)


def test_a_file_with_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "mgmtd.toml"
    file.write_text('metadata = "x"\nreplica = 3\n')

    with pytest.raises(InvalidOptionError, match=r"mgmtd\.toml: .*did you mean 'replicas'"):
        MgmtdSource(file).load()


def test_beyond_loopback_a_secret_is_made_beside_the_records(tmp_path: Path) -> None:
    config = load(metadata=str(tmp_path / "records"), listen="0.0.0.0:0")

    made = secret_for(config, {})
    again = secret_for(config, {})

    assert (True, False) == (made.made, again.made)
    assert made.secret == again.secret
    assert b"" != made.secret


def test_several_mgmtd_are_given_their_secret() -> None:
    config = load(metadata="etcd://x:1", listen="0.0.0.0:0")

    with pytest.raises(InvalidOptionError, match="needs a secret"):
        secret_for(config, {})
    assert b"s" == secret_for(config, {"KVSTORE_SECRET": "s"}).secret


def test_on_loopback_and_in_the_open_nobody_needs_a_secret() -> None:
    assert b"" == secret_for(load(metadata="x"), {}).secret
    assert b"" == secret_for(load(metadata="x", listen="0.0.0.0:0", open=True), {}).secret
    with pytest.raises(InvalidOptionError, match="contradict"):
        secret_for(load(metadata="x", open=True), {"KVSTORE_SECRET": "s"})
