"""All recorded carriers at one address: who is meant is known by the credential, or by the path of a picture."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from typing import Any

from tests.anonymity.recordings import GALLERY, Recording, encode
from tests.files.stowaways import ALL as PICTURES
from tests.providers.exchanges import FAULTS
from tests.providers.upstream import Received, Upstream, say

CREDENTIAL = re.compile(r"canary-(\d+)-")
IN_GALLERY = re.compile(rf"{GALLERY}/(\d+)/")


def make_credential(number: int) -> str:
    return f"sk-ws-H.canary-{number}-9d41e0c7f2"


class Stage(Upstream):
    """Answers the calls of each order by its recording, one reply after the other; the last one stays.

    Pictures are of every kind that carries a name, in turn.
    """

    def __init__(self, recordings: list[Recording]) -> None:
        super().__init__(self.play)
        self.recordings = recordings
        self.calls: Counter[int] = Counter()
        self._pictures = itertools.cycle([make() for make in PICTURES.values()])

    async def play(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target.startswith(f"{GALLERY}/"):
            headers = {"Content-Type": "image/png", "x-oss-request-id": "65D1F0A2C8E9", "Server": "AliyunOSS"}
            await say(next(self._pictures), headers=headers)(request, writer)
            return
        found = CREDENTIAL.search(request.headers.get("authorization", ""))
        if found is None:
            await say(b"who is this?", status=418)(request, writer)
            return
        number = int(found[1])
        replies = self.recordings[number].replies
        reply = replies[min(self.calls[number], len(replies) - 1)]
        self.calls[number] += 1
        await self.say_recorded(reply, number)(request, writer)

    def say_recorded(self, reply: dict[str, Any], number: int) -> Any:
        if "fault" in reply:
            return FAULTS[reply["fault"]]
        headers = dict(reply.get("headers", {}))
        if "json" not in reply:
            return say(reply["text"].encode(), status=reply["status"], headers=headers)
        body = encode(reply["json"], origin=self.url, gallery=f"{self.url}{GALLERY}/{number}")
        return say(body, status=reply["status"], headers={"Content-Type": "application/json", **headers})
