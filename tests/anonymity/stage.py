"""All recorded carriers at one address: who is meant is known by the credential, or by the path of a picture."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

from tests.anonymity.recordings import GALLERY, Recording, encode
from tests.files.stowaways import ALL as PICTURES
from tests.providers.exchanges import FAULTS
from tests.providers.upstream import Answer, Received, Upstream, say

CREDENTIAL = re.compile(r"canary-(\d+)-")
IN_GALLERY = re.compile(rf"{GALLERY}/(\d+)/")


def make_credential(number: int) -> str:
    return f"sk-ws-H.canary-{number}-9d41e0c7f2"


def show(picture: bytes) -> Answer:
    headers = {"Content-Type": "image/png", "x-oss-request-id": "65D1F0A2C8E9", "Server": "AliyunOSS"}
    return say(picture, headers=headers)


class Stage(Upstream):
    """Answers the calls of each order by its recording, one reply after the other; the last one stays.

    The gallery shows one exhibit an order, in turn: as a rule, pictures of every kind that carries a name.
    """

    def __init__(self, recordings: list[Recording], gallery: list[Answer] | None = None) -> None:
        super().__init__(self.play)
        self.recordings = recordings
        self.calls: Counter[int] = Counter()
        self._gallery = gallery or [show(make()) for make in PICTURES.values()]

    async def play(self, request: Received, writer: asyncio.StreamWriter) -> None:
        if in_gallery := IN_GALLERY.match(request.target):
            await self._gallery[int(in_gallery[1]) % len(self._gallery)](request, writer)
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
