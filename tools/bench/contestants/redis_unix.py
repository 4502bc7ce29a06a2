"""redis-server without persistence, by redis-py (with hiredis) over a unix socket of its own."""

import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.bench.contestants.base import Options
from tools.bench.contestants.resp import READ_SIZE, RESP
from tools.bench.failures import ContestantError

READY_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10
SOCKET_PATH_SIZE_MAX = 107


class Redis(RESP):
    """A server started here and ended here, by its process id."""

    def __init__(self, directory: Path, options: Options) -> None:
        """Start the server and connect; there are no *options*."""
        del options
        path = directory / "s"  # paths of sockets are short
        if len(str(path)) > SOCKET_PATH_SIZE_MAX:
            raise ContestantError(f"{path} is too long for a unix socket: use --dir")
        command = ["redis-server", "--port", "0", "--unixsocket", str(path)]
        command += ["--save", "", "--appendonly", "no", "--logfile", str(directory / "log")]
        self._server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=directory
        )
        try:
            self._client = self._connect(path)
        except BaseException:
            self._stop()
            raise

    def _connect(self, path: Path) -> Any:
        library = import_module("redis")
        retry = import_module("redis.retry").Retry
        backoff = import_module("redis.backoff").ConstantBackoff
        every_s = 0.05
        client = library.Redis(
            unix_socket_path=str(path),
            socket_read_size=READ_SIZE,
            retry=retry(backoff(every_s), round(READY_TIMEOUT_S / every_s)),
            retry_on_error=[library.exceptions.ConnectionError],
        )
        client.ping()  # waits until the server is there
        return client

    def close(self) -> None:
        """Disconnect and end the server."""
        self._client.close()
        self._stop()

    def _stop(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
