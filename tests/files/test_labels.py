from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from crazyrouter.files.labels import Label
from crazyrouter.files.pictures import prepare
from tests.files.samples import decode, encode, kinds, make_png, paint, split

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TC260 = "http://www.tc260.org.cn/ns/AIGC/1.0/"


def read_packet(data: bytes) -> str:
    """The XMP packet as the XMP specification, part 3, places it: an uncompressed iTXt."""
    (body,) = [body for kind, body in split(data) if kind == b"iTXt"]
    keyword, rest = body.split(b"\0", 1)
    assert keyword == b"XML:com.adobe.xmp"
    assert rest[:4] == b"\0\0\0\0"  # not compressed, method 0, no language, no translated keyword
    return rest[4:].decode("utf-8")


def read_label(data: bytes) -> dict[str, str]:
    root = ET.fromstring(read_packet(data))
    (description,) = root.findall(f"{{{RDF}}}RDF/{{{RDF}}}Description")
    (value,) = list(description)
    assert value.tag == f"{{{TC260}}}AIGC"
    assert description.attrib == {f"{{{RDF}}}about": ""}
    return json.loads(value.text or "")


def label(producer: str, produce_id: str, data: bytes | None = None) -> bytes:
    source = data or make_png()
    return prepare(source, asked=(64, 48), target=(64, 48), label=Label(producer, produce_id)).data


def test_says_what_the_law_asks():
    assert read_label(label("crazyrouter", "gen_abc-3")) == {
        "Label": "1",
        "ContentProducer": "crazyrouter",
        "ProduceID": "gen_abc-3",
        "ReservedCode1": "",
        "ContentPropagator": "crazyrouter",
        "PropagateID": "gen_abc-3",
        "ReservedCode2": "",
    }


def test_prefix_is_the_registered_one():
    packet = read_packet(label("crazyrouter", "gen_abc-3"))

    assert '<rdf:Description rdf:about="" xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"><TC260:AIGC>{' in packet
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert packet.endswith('<?xpacket end="r"?>')


@pytest.mark.parametrize(
    "producer", ["疯狂路由 & <Söhne> \"x\" 'y' \\", "</TC260:AIGC><evil/>", "]]>", "a\0\x0b\ud800\uffff\n"]
)
def test_no_name_breaks_the_packet(producer):
    assert read_label(label(producer, "gen-0"))["ContentProducer"] == producer


def test_stands_before_the_pixels_and_once():
    assert kinds(label("crazyrouter", "gen-0")) == [b"IHDR", b"iTXt", b"IDAT", b"IEND"]


def test_ours_replaces_a_label_that_was_there():
    once = label("somebody else", "theirs-0")

    assert read_label(label("crazyrouter", "ours-0", once))["ContentProducer"] == "crazyrouter"


def test_other_readers_find_it():
    assert b"TC260:AIGC" in decode(label("crazyrouter", "gen-0")).info["xmp"]


@pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
def test_decoded_pictures_carry_it_too(format_):
    assert read_label(label("crazyrouter", "gen-7", encode(paint((64, 48)), format_)))["ProduceID"] == "gen-7"
