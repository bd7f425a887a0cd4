"""The AI-content label that every delivered picture carries (GB 45438-2025, appendix E and TC260-PG-20258A).

The label is the property `AIGC` of an XMP packet; its value is JSON. Key order is the standard's.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from xml.sax.saxutils import escape

KEYWORD = b"XML:com.adobe.xmp"
NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"

_PACKET_HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description rdf:about="" xmlns:TC260="{NAMESPACE}"><TC260:AIGC>'
).encode()
_PACKET_TAIL = b'</TC260:AIGC></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
#: An iTXt chunk up to its text: keyword, uncompressed, no language, no translated keyword.
_CHUNK_HEAD = b"iTXt" + KEYWORD + b"\0\0\0\0\0" + _PACKET_HEAD


@dataclass(frozen=True, slots=True)
class Label:
    """Who made the picture, and its number there. We produce and propagate: the same id says both."""

    producer: str
    produce_id: str


def render_value(label: Label) -> str:
    """The JSON of the property; ASCII, so that no character of a producer's name can break the XML."""
    return json.dumps(
        {
            "Label": "1",
            "ContentProducer": label.producer,
            "ProduceID": label.produce_id,
            "ReservedCode1": "",
            "ContentPropagator": label.producer,
            "PropagateID": label.produce_id,
            "ReservedCode2": "",
        },
        separators=(",", ":"),
    )


def render_chunk(label: Label) -> bytes:
    """The label as a whole PNG chunk."""
    body = _CHUNK_HEAD + escape(render_value(label), {'"': "&quot;"}).encode("ascii") + _PACKET_TAIL
    return (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
