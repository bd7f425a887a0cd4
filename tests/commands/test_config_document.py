"""The configuration file as text: what a plain word means, where everything stands, and what is never read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crazyrouter.management.configuration import document
from crazyrouter.management.configuration.document import read_document, to_plain
from crazyrouter.management.configuration.exporting import dump
from crazyrouter.management.configuration.faults import Faults, Unfit
from crazyrouter.management.configuration.secrets import find_value, name_secrets, read_secret
from crazyrouter.management.configuration.values import format_rate, parse_rate


def read(text: str | bytes) -> Any:
    """As plain data; the document must be right."""
    faults = Faults()
    node = read_document(text.encode() if isinstance(text, str) else text, faults)
    assert faults.list() == []
    assert node is not None
    return to_plain(node)


def blame(text: str | bytes) -> list[str]:
    faults = Faults()
    read_document(text.encode() if isinstance(text, str) else text, faults)
    return [fault.render("f") for fault in faults.list()]


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'null'", "null"),
        ("7", 7),
        ("-7", -7),
        ("'7'", "7"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2.50", 2.5),
        ("1.0e-07", 1e-7),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("2027-01-31", "2027-01-31"),
        ("${NAME}", "${NAME}"),
        ('"a\\tb"', "a\tb"),
        ("画像", "画像"),
    ],
)
def test_what_a_word_means(word: str, meaning: Any) -> None:
    assert read(f"a: {word}\n") == {"a": meaning}
    assert type(read(f"a: {word}\n")["a"]) is type(meaning)


def test_values_know_their_lines() -> None:
    node = read_document(b"# first\na:\n  b: 1\n  c:\n    - x\n    - y: |\n        text\n", Faults())
    assert node is not None
    a = node.items["a"]
    assert (a.line, a.node.line) == (2, 3)
    assert isinstance(a.node, document.Mapping)
    c = a.node.items["c"].node
    assert isinstance(c, document.Sequence)
    assert [item.line for item in c.items] == [5, 6]


def test_a_byte_order_mark_and_other_line_ends() -> None:
    assert read(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["f:1: the file is empty"]),
        ("# nothing\n", ["f:1: the file is empty"]),
        ("- a", ["f:1: a mapping is meant, with `schema: 1` and the sections"]),
        ("a: 1\nb: 2\na: 3\nc:\n  d: 1\n  d: 2\n",
         ["f:3: a: stands here a second time: the first is in line 1",
          "f:6: c.d: stands here a second time: the first is in line 5"]),
        ("a: 1\n---\nb: 2", ["f:2: a second document begins here: one file holds one"]),
        ("a:\n\tb: 1", ["f:2: not YAML: found character '\\t' that cannot start any token"]),
        ("a:\n  - [1, 2\nb: 1", ["f:3: not YAML: expected ',' or ']', but got ':' "
                                 "(while parsing a flow sequence, which begins in line 2)"]),
        ("x:\n a: !!python/object/apply:os.system [ls]",
         ["f:2: x.a: the tag tag:yaml.org,2002:python/object/apply:os.system is not read: quote what is a text"]),
        ("a: !!int 5", ["f:1: a: the tag tag:yaml.org,2002:int is not read: quote what is a text"]),
        ("b: &b {x: 1}\na:\n  <<: *b\n", ["f:3: a: merge keys (<<) are not read: write out what the entry has"]),
        ("? [a]\n: 1", ["f:1: a key must be a text"]),
        ("a: {*x : 1}", ["f:1: a: a key must be a text"]),
        ("a: *b", ["f:1: a: no anchor &b ends before its alias"]),
        ("a: &b [1, *b]", ["f:1: a[2]: no anchor &b ends before its alias"]),
        ('a:\n b: "\\0"', ["f:2: a.b: a text with a NUL or half a character cannot be stored"]),
        ('a: "\\uD800"', ["f:1: a: a text with a NUL or half a character cannot be stored"]),
        (b"a: 1\nb: \x01", ["f:2: the character U+0001 cannot stand in a YAML file"]),
        (b"a: 1\nb: \xff", ["f:2: not UTF-8 text"]),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named_with_its_line(text: str | bytes, said: list[str]) -> None:
    assert blame(text) == said


def test_an_alias_stands_for_its_anchor() -> None:
    assert read("a: &x [1, {b: 2}]\nc: *x\nd: [*x]") == {"a": [1, {"b": 2}], "c": [1, {"b": 2}], "d": [[1, {"b": 2}]]}


def test_aliases_of_aliases_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert blame("\n".join(lines)) == [
        "f:6: a5[2]: more than 300,000 values, counting each alias as what it stands for"
    ]


def test_depth_is_bounded_also_through_aliases() -> None:
    assert blame("[" * 500_000) == [f"f:1: {'[1]' * 21}: nested deeper than 20"]
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 400)]
    assert blame("\n".join(lines)) == ["f:19: a18[1]: nested deeper than 20"]


def test_length_is_bounded() -> None:
    assert blame(b"a" * (4 << 20) + b"a") == ["f:1: the file has more than 4,194,304 bytes"]


# --- what is written is read back ---


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(WORDS, PLAIN, max_size=5).filter(bool))
def test_whatever_is_written_is_read_back(written: dict[str, Any]) -> None:
    assert read(dump(written)) == written


# --- rates ---


@pytest.mark.parametrize(
    ("text", "interval_ms", "burst"),
    [
        ("2 per 60s", 30_000, 2),
        ("2 per 1s", 500, 2),
        ("2 per s", 500, 2),
        ("2 per minute", 30_000, 2),
        ("1 per 500ms", 500, 1),
        ("2/min", 30_000, 2),
        ("10 per h", 360_000, 10),
        ("3 per 10s", 3334, 3),
        ("100 per 1ms", 1, 100),
    ],
)
def test_a_rate_is_never_more_than_was_written(text: str, interval_ms: int, burst: int) -> None:
    assert parse_rate(text) == (interval_ms, burst)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2", "write a rate like 2 per 60s, not '2'"),
        ("0 per 1s", "write a rate like 2 per 60s, not '0 per 1s'"),
        ("2 per 0s", "write a rate like 2 per 60s, not '2 per 0s'"),
        ("2.5 per 1s", "write a rate like 2 per 60s, not '2.5 per 1s'"),
        ("2 per fortnight", "write a rate like 2 per 60s, not '2 per fortnight'"),
        ("300 per 1s", "at most 100 submits at once can be counted: write 100 per 334ms"),
        ("1 per 999999h", "'1 per 999999h' is less than one submit in 2147483647 ms"),
    ],
)
def test_what_is_no_rate(text: str, said: str) -> None:
    with pytest.raises(Unfit) as unfit:
        parse_rate(text)
    assert str(unfit.value) == said


@given(st.integers(1, 2_147_483_647 // 100), st.integers(1, 100))
def test_every_rate_of_the_database_can_be_written(interval_ms: int, burst: int) -> None:
    assert parse_rate(format_rate(interval_ms, burst)) == (interval_ms, burst)


# --- secrets ---


def refuse_secret(text: str) -> str:
    node = read_document(f"a: {text}".encode(), Faults())
    assert node is not None
    with pytest.raises(Unfit) as unfit:
        read_secret(node.items["a"].node)
    return str(unfit.value)


def test_a_reference_is_looked_up_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CARRIER_KEY", "sk-from-the-environment")
    assert find_value("CARRIER_KEY") == "sk-from-the-environment"
    (tmp_path / "key").write_text("sk-from-a-file\n")
    monkeypatch.setenv("CARRIER_KEY_FILE", str(tmp_path / "key"))
    assert find_value("CARRIER_KEY") == "sk-from-a-file"


def test_a_secret_that_stands_in_the_file_is_refused_and_not_repeated() -> None:
    said = "write ${NAME}, the name of an environment variable: a secret itself never stands in a file"
    for text in ("sk-abcdefgh", "$NAME", "${}", "${A B}", "x${NAME}", "null", "[a]", "{a: b}", "'${NAME} '"):
        assert refuse_secret(text) == said


def test_what_a_reference_must_stand_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "CARRIER_KEY holds no key: one has 8 to 500 printable ASCII characters without spaces"
    monkeypatch.delenv("CARRIER_KEY", raising=False)
    assert refuse_secret("${CARRIER_KEY}") == "CARRIER_KEY is not set in the environment"
    for value in ("", "short", "sk-with a-space", "sk-密钥密钥密钥", "x" * 501):
        monkeypatch.setenv("CARRIER_KEY", value)
        assert refuse_secret("${CARRIER_KEY}") == said
    monkeypatch.setenv("CARRIER_KEY_FILE", str(tmp_path / "none"))
    assert (
        refuse_secret("${CARRIER_KEY}")
        == "CARRIER_KEY_FILE names a file that cannot be read: No such file or directory"
    )


def test_variables_are_named_after_channels_alike_everywhere() -> None:
    names = ["DashScope, sync", "dashscope sync", "302.AI", "通义", "DashScope, async", "Ä"]
    assert (
        name_secrets(names)
        == name_secrets(reversed(names))
        == {
            "302.AI": "CHANNEL_302_AI_KEY",
            "DashScope, async": "DASHSCOPE_ASYNC_KEY",
            "DashScope, sync": "DASHSCOPE_SYNC_KEY",
            "dashscope sync": "DASHSCOPE_SYNC_KEY_2",
            "通义": "CHANNEL_41A8D6A9_KEY",
            "Ä": "CHANNEL_2FE5CA1C_KEY",
        }
    )
