"""A real node: from its ready file to its last line, by signals, metrics and clients."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.nodes import NodeProcess, page, served
from prometheus_client.parser import text_string_to_metric_families

import kvstore
from kvstore import SetStatus
from kvstore.options import ReactorDriver

SMALL = ("--memory", "96MiB", "--capacity", "256MiB", "--listen", "127.0.0.1:0")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    arguments = ("--target", tmp_path / "a", "--target", tmp_path / "b", "--log-level", "debug")
    with NodeProcess(tmp_path, *SMALL, *arguments, "--metrics", "127.0.0.1:0") as node:
        yield node


def metrics_of(node: NodeProcess) -> dict[str, float]:
    """Return every sample, by its name and the values of its labels."""
    text = page(node.ready()["metrics"], "/metrics")
    return {
        ":".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_node_serves_until_it_is_told_to_stop(node: NodeProcess) -> None:
    url = node.url()
    with kvstore.connect_sync(url) as store:
        assert SetStatus.OK is store.set("k", b"value")
        assert b"value" == store.get("k")
        assert "targets=2" in store.stats().description

    node.signal(signal.SIGTERM)

    assert 0 == node.end()
    assert not node.ready_file.exists()
    assert ["stopping", "stopped"] == [e for e in node.events() if e.startswith("stop")]
    assert 2 == node.events().count("target open")
    with pytest.raises(kvstore.StoreUnreachableError, match="refused"):
        kvstore.connect_sync(url)


def test_a_stop_waits_for_requests_and_a_second_one_does_not(node: NodeProcess) -> None:
    address = node.wait_until_ready()["listen"][0]
    name, port = address.split(":")
    with socket.create_connection((name, int(port))), kvstore.connect_sync(node.url()) as store:
        store.set("k", b"value")

        node.signal(signal.SIGINT)
        node.wait_for_event("stopping")
        node.signal(signal.SIGINT)

        assert 0 == node.end()
    assert "stopping, again: not waiting for clients any more" in node.events()


def test_acknowledged_values_survive_a_kill(tmp_path: Path, node: NodeProcess) -> None:
    acknowledged: dict[str, bytes] = {}
    enough = threading.Event()

    def set_until_killed() -> None:
        with kvstore.connect_sync(node.url(), timeout_s=2) as store:
            for i in range(1_000_000):
                keys = [f"{i}/{j}" for j in range(8)]
                values = [os.urandom(1 + 997 * j) for j in range(8)]
                statuses = store.batch_set(keys, values)
                acknowledged.update(
                    (key, value)
                    for key, value, status in zip(keys, values, statuses, strict=True)
                    if status is SetStatus.OK
                )
                if i == 20:
                    enough.set()
                if SetStatus.OK not in statuses:
                    return

    node.wait_until_ready()
    setter = threading.Thread(target=set_until_killed)
    setter.start()
    assert enough.wait(60)
    node.signal(signal.SIGKILL)
    node.end()
    setter.join()

    arguments = ("--target", tmp_path / "a", "--target", tmp_path / "b")
    with (
        NodeProcess(tmp_path, *SMALL, *arguments) as again,
        kvstore.connect_sync(again.url()) as store,
    ):
        assert list(acknowledged.values()) == store.batch_get(list(acknowledged))
        assert () == store.verify().bad


def test_metrics_are_what_happened(node: NodeProcess) -> None:
    with kvstore.connect_sync(node.url()) as store:
        store.batch_set(["a", "b"], [b"1" * 1000, b"2" * 1000])
        store.batch_get_into(["a", "b", "x"], [bytearray(1000) for _ in range(3)])
        store.flush()

        found = metrics_of(node)

    assert 2 == found["kvstore_keys_total:set"]
    assert 3 == found["kvstore_keys_total:get"]
    assert (
        found["kvstore_requests_total:get"] == (found["kvstore_request_duration_seconds_count:get"])
    )
    assert 4 == found["kvstore_key_results_total:ok"]
    assert 1 == found["kvstore_key_results_total:not_found"]
    assert 2 == found["kvstore_target_objects:1"] + found["kvstore_target_objects:2"]
    assert 0 < found["kvstore_target_device_flushes_total:1"]
    assert 2000 < found["kvstore_received_bytes_total"]
    assert 2000 < found["kvstore_sent_bytes_total"]
    assert 0 < found["kvstore_connections"]
    assert 0 < found["process_resident_memory_bytes"]
    assert any(name.startswith("kvstore_build_info:") for name in found)


def test_pages_of_the_endpoint(node: NodeProcess) -> None:
    address = node.wait_until_ready()["metrics"]

    assert "ok\n" == page(address, "/healthz")
    name, port = address.split(":")
    for request, answer in (
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400"),
        (b"x" * 100_000, b""),
    ):
        with socket.create_connection((name, int(port)), timeout=30) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            try:
                assert client.recv(100).startswith(answer)
            except ConnectionResetError:
                assert b"" == answer
    assert "ok\n" == page(address, "/healthz")


def test_a_client_that_breaks_the_protocol_is_cut_logged_and_counted(node: NodeProcess) -> None:
    name, port = node.wait_until_ready()["listen"][0].split(":")

    with socket.create_connection((name, int(port)), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64)
        while client.recv(4096):
            pass

    line = node.wait_for_event("connection cut: it breaks the protocol")
    assert ("warning", 1) == (line["level"], line["connection"])
    assert line["about"].startswith("127.0.0.1:")
    assert 1 == metrics_of(node)["kvstore_connections_cut_total:protocol"]


# Secrets.


def test_a_wrong_secret_is_refused_logged_and_counted(tmp_path: Path) -> None:
    arguments = (*SMALL, "--target", tmp_path / "a", "--metrics", "127.0.0.1:0")
    with NodeProcess(tmp_path, *arguments, environment={"KVSTORE_SECRET": "right"}) as node:
        url = node.url()

        for options in ({}, {"secret": "wrong"}):
            with pytest.raises(kvstore.StoreAccessError, match="secret"):
                kvstore.connect_sync(url, **options)
        with kvstore.connect_sync(url, secret="right") as store:
            store.set("k", b"value")

        node.wait_for_event("connection refused", 2)
        assert 2 == metrics_of(node)["kvstore_connections_refused_total"]
        assert "right" not in node.text()


def test_beyond_loopback_a_secret_is_made(tmp_path: Path) -> None:
    arguments = ("--memory", "96MiB", "--capacity", "256MiB", "--listen", "0.0.0.0:0")
    target = ("--target", tmp_path / "a", "--advertise", "127.0.0.1")
    with NodeProcess(tmp_path, *arguments, *target) as node:
        port = node.wait_until_ready()["listen"][0].split(":")[1]
        path = node.wait_for_event("secret made: clients need it")["secret_file"]

        assert str(tmp_path / "kvstore.secret") == path
        with pytest.raises(kvstore.StoreAccessError):
            kvstore.connect_sync(f"kv://127.0.0.1:{port}")
        with kvstore.connect_sync(f"kv://127.0.0.1:{port}?secret_file={path}") as store:
            assert SetStatus.OK is store.set("k", b"value")
        assert Path(path).read_text().strip() not in node.text()


# Reload.


def test_sighup_reloads_secret_routing_and_log_level(tmp_path: Path) -> None:
    config, secret = tmp_path / "node.toml", tmp_path / "secret"
    text = (
        'listen = "127.0.0.1:0"\nmemory = "96MiB"\ncapacity = "256MiB"\nsecret_file = "secret"\n'
        '{more}\n[[targets]]\ntarget = 1\ndirectory = "a"\n'
    )
    config.write_text(text.format(more=""))
    secret.write_text("old")
    secret.chmod(0o600)
    with NodeProcess(tmp_path, "--config", config) as node:
        url = node.url()
        with kvstore.connect_sync(url, secret="old") as store:
            store.set("k", b"value")

            secret.write_text("new")
            config.write_text(text.format(more='log_level = "debug"\nreactors = 3'))
            node.signal(signal.SIGHUP)
            node.wait_for_event("reloaded")

            assert b"value" == store.get("k")
        assert ["log_level"] == node.wait_for_event("reloaded")["changed"]
        assert ["reactors"] == node.wait_for_event("these changes need a restart")["keys"]
        with pytest.raises(kvstore.StoreAccessError):
            kvstore.connect_sync(url, secret="old")
        with kvstore.connect_sync(url, secret="new") as store:
            assert b"value" == store.get("k")
        node.wait_for_event("connected")

        config.write_text("no toml")
        node.signal(signal.SIGHUP)
        said = node.wait_for_event("not reloaded: it goes on as before")
        assert str(config) in said["error"]
        with kvstore.connect_sync(url, secret="new") as store:
            assert b"value" == store.get("k")


# What does not start.


def test_a_bad_option_ends_with_one_line(tmp_path: Path) -> None:
    with NodeProcess(tmp_path, "--memory", "much", "--target", tmp_path / "a") as node:
        assert 2 == node.end()
    assert "kvstore: --memory: 'much' is no size: write bytes, or 64KiB, 10GB, 1.5G\n" == (
        node.text()
    )


def test_a_target_that_is_open_already_ends_the_start(tmp_path: Path, node: NodeProcess) -> None:
    node.wait_until_ready()
    home = tmp_path / "other"
    home.mkdir()

    with NodeProcess(home, *SMALL, "--target", tmp_path / "a") as other:
        assert 1 == other.end()

    line = other.wait_for_event("cannot start")
    assert ("error", "StoreLockedError") == (line["level"], line["kind"])
    assert not other.ready_file.exists()


def test_an_address_that_is_taken_ends_the_start(tmp_path: Path, node: NodeProcess) -> None:
    taken = node.wait_until_ready()["listen"][0]
    home = tmp_path / "other"
    home.mkdir()

    with NodeProcess(home, *SMALL[:-1], taken, "--target", tmp_path / "c") as other:
        assert 1 == other.end()

    assert taken.split(":")[1] in other.wait_for_event("cannot start")["error"]


# Clients.


def test_any_address_that_answers_will_do(tmp_path: Path) -> None:
    with served(tmp_path / "one", targets=1) as url:
        name = url.split("/")[2]
        with kvstore.connect_sync(f"kv://127.0.0.1:1,{name}/default") as store:
            store.set("k", b"value")
            assert b"value" == store.get("k")


@pytest.mark.parametrize("reactor", [ReactorDriver.IO_URING, ReactorDriver.EPOLL])
def test_both_reactor_drivers(tmp_path: Path, reactor: ReactorDriver) -> None:
    values = [os.urandom(size) for size in (0, 1, 5000, 1 << 20)]
    keys = ["a", "b", "c", "d"]
    with (
        served(tmp_path, reactor=reactor) as url,
        kvstore.connect_sync(url, reactor=reactor) as store,
    ):
        assert [SetStatus.OK] * 4 == store.batch_set(keys, values)
        assert values == store.batch_get(keys)


def test_a_dead_node_costs_its_keys_no_more_than_the_deadline(node: NodeProcess) -> None:
    with kvstore.connect_sync(node.url(), timeout_s=0.2) as store:
        store.set("k", b"value")
        node.signal(signal.SIGKILL)
        node.end()

        with pytest.raises(
            (kvstore.StoreUnavailableError, kvstore.KVTimeoutError), match=r"127\.0\.0\.1:"
        ):
            store.get("k")
        with pytest.raises((kvstore.StoreUnavailableError, kvstore.KVTimeoutError)):
            store.exists("k")
        assert [None, None] == store.batch_get(["k", "x"])
        assert [-3] == store.batch_get_into(["k"], [bytearray(9)])
        (status,) = store.batch_set(["k"], [b"1"])
        assert status in (SetStatus.UNAVAILABLE, SetStatus.TIMEOUT)
        with pytest.raises(kvstore.KVStoreError):
            store.stats()


def test_namespaces_and_tenants_have_keys_of_their_own(tmp_path: Path) -> None:
    with served(tmp_path) as url:
        urls = [url, url.replace("/default", "/pages"), f"{url}?tenant=other"]
        for i, each in enumerate(urls):
            with kvstore.connect_sync(each) as store:
                store.set("k", b"%d" % i)
        for i, each in enumerate(urls):
            with kvstore.connect_sync(each) as store:
                assert b"%d" % i == store.get("k")
                assert [b"k"] == [entry.key for entry in store.list()]


def test_values_larger_than_the_hint_come_whole(tmp_path: Path) -> None:
    with served(tmp_path, targets=1) as url, kvstore.connect_sync(url) as store:
        sizes = [10, 70_000, 5, 3 << 20, 0, 64 << 10]
        values = [os.urandom(size) for size in sizes]
        keys = [f"{i}" for i in range(len(sizes))]
        store.batch_set(keys, values)

        for _ in range(2):
            assert [*values, None] == store.batch_get([*keys, "missing"])
        for key, value in zip(keys, values, strict=True):
            assert value == store.get(key)
