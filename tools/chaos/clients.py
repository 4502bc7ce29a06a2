"""The clients of a run: processes that record histories, replaced by fresh ones when killed."""

import random
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.chaos.member import Member
from tools.chaos.sanitizers import SanitizedPython
from tools.chaos.schedule import Work


class Clients:
    """All client processes, those that were killed included."""

    def __init__(
        self,
        schedule: Path,
        url: str,
        work: Work,
        directory: Path,
        prefix: Sequence[str],
        seed: int,
        sanitized: SanitizedPython | None = None,
    ) -> None:
        """Start nothing yet; *prefix* starts a command where clients are."""
        self._sanitized = sanitized
        self._arguments = (str(schedule), url)
        self._work = work
        self._directory = directory
        self._prefix = tuple(prefix)
        self._random = random.Random(f"clients {seed}")
        self.members: list[Member] = []
        self._killed: list[str] = []

    def start(self) -> None:
        """Start all."""
        faces = ["blocking"] * self._work.blocking_clients + ["asyncio"] * self._work.async_clients
        for face in faces:
            self._start(face)

    def _start(self, face: str) -> None:
        number = len(self.members) + 1
        home = self._directory / f"client-{number}"
        home.mkdir(parents=True)
        module: tuple[str, ...] = (sys.executable, "-m", "tools.chaos.client")
        environment = {}
        if self._sanitized is not None:
            module = (*self._sanitized.prefix, self._sanitized.python, "-P", *module[1:])
            environment = self._sanitized.environment(home)
        history = str(home / f"client-{number}.history")
        command = (*self._prefix, *module, *self._arguments, str(number), face, history)
        member = Member(f"client-{number} ({face})", command, home, environment=environment)
        self.members.append(member)
        member.start()

    @property
    def running(self) -> list[Member]:
        """Return those that were not killed."""
        return [member for member in self.members if not member.expected_down]

    def kill_one(self) -> None:
        """kill -9 any of them."""
        member = self._random.choice(self.running)
        member.kill()
        self._killed.append("asyncio" if "asyncio" in member.name else "blocking")

    def start_one(self) -> None:
        """Start a fresh client in place of one that was killed."""
        self._start(self._killed.pop())

    def check(self) -> None:
        """Raise MemberError when one ended that was not killed."""
        for member in self.members:
            member.check()

    def stop(self) -> None:
        """Ask all to end, and wait."""
        running = self.running
        for member in running:
            member.ask_to_end()
        for member in running:
            member.wait_for_end()

    def clean_up(self) -> None:
        """Kill what is left."""
        for member in self.members:
            member.clean_up()
