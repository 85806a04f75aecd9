"""A Lua script, run many times in one pipeline. Each run stays a step of its own, with its own answer or error.

redis-py's own Script would ask before each pipeline whether Redis knows the script; here Redis says so if it does not.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoScriptError

_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script: its keys and arguments."""

    keys: Sequence[str]
    args: Sequence[Any]


class Batch:
    """Runs one script of a client (redis.asyncio)."""

    def __init__(self, client: Any, script: str) -> None:
        self._client = client
        self._script = client.register_script(script)
        self._waiting: list[tuple[Call, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def run(self, call: Call) -> Any:
        """Run the script, together with what other tasks ask for meanwhile; return the answer. Raises a Redis error."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, answer))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        return await answer

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run the script for all calls and return the answers, an error of Redis in the place of one that failed.

        Raises a Redis error where the pipeline as a whole fails: then any of the calls may have been run.
        """
        answers = await self._pipeline(calls)
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # Redis was restarted
            await self._client.script_load(self._script.script)
            again = await self._pipeline([calls[number] for number in unknown])
            for number, answer in zip(unknown, again, strict=True):
                answers[number] = answer
        return answers

    async def close(self) -> None:
        """Wait for what is on its way."""
        if self._sender:
            await self._sender

    async def _pipeline(self, calls: Sequence[Call]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for call in calls:
            pipe.execute_command("EVALSHA", self._script.sha, len(call.keys), *call.keys, *call.args)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
        return answers

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_LIMIT], self._waiting[_LIMIT:]
            try:
                answers = await self.run_all([call for call, _ in batch])
            # Whatever it is, those who wait must hear of it; they know what to do.
            except Exception as error:
                answers = [error] * len(batch)
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if waiting.done():  # whoever asked was broken off
                    continue
                if isinstance(answer, Exception):
                    waiting.set_exception(answer)
                else:
                    waiting.set_result(answer)
