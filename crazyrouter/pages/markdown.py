"""Markdown as the pages use it: one text is the page for people and, as it stands, the page for programs.

CommonMark with tables, rendered by markdown-it. HTML in it is text, links lead to no scheme that runs anything, and
three things are added: `<a id="name"></a>` is an anchor (in the first cell of a row it names the row), headings have
ids, and examples that follow each other are one group.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

#: What an example is called, by the language of its block.
LABELS = {
    "sh": "curl",
    "python": "Python",
    "js": "Node",
    "http": "HTTP",
    "json": "Answer",
    "text": "Head of the answer",
}
#: What shows and asks for nothing.
ANSWERS = ("json", "text")
#: Texts that are kept rendered: all pages, in a few versions of the registry.
MOST_KEPT = 200

CHECKED = SafeString(" checked")
ANCHOR = re.compile(r'<a id="([a-z0-9][a-z0-9_.-]*)"></a>')
#: What means something inside a line; `#`, `-` and the like only do at its beginning.
SIGNS = re.compile(r"([\\`*_\[\]<>|~&])")
LEADING = re.compile(r"^([0-9]+(?=[.)](?:\s|$))|(?=[#+=-]))")
TICKS = re.compile(r"`+")


@dataclass(frozen=True, slots=True)
class Section:
    """A second-level heading."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text as HTML, without its first heading, which is `title`; `sections` are what a table of contents lists."""

    title: str
    html: SafeString
    sections: tuple[Section, ...]


@lru_cache(maxsize=MOST_KEPT)
def render_markdown(text: str) -> Document:
    parser = build_parser()
    env: dict[str, Any] = {}
    tokens = parser.parse(text, env)
    title, body = split_title(tokens)
    sections = [Section(str(one.attrGet("id")), read_text(body[at + 1])) for at, one in find_headings(body, "h2")]
    html = parser.renderer.render(body, parser.options, env)
    return Document(title, mark_safe(html), tuple(sections))  # noqa: S308 - made by the renderer, which escapes


def build_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.inline.ruler.before("html_inline", "anchor", read_anchor)
    parser.core.ruler.push("mark_headings", mark_headings)
    parser.core.ruler.push("mark_tables", mark_tables)
    parser.add_render_rule("anchor", render_anchor)
    parser.add_render_rule("fence", render_fence)
    return parser


def escape_markdown(text: Any) -> SafeString:
    """One line of text that means nothing but itself."""
    line = " ".join(str(text).split())
    return mark_safe(LEADING.sub(r"\1\\", SIGNS.sub(r"\\\1", line)))  # noqa: S308 - for Markdown, which escapes


def quote_code(text: Any) -> SafeString:
    """A code span that holds exactly this text, which may stand in a cell of a table."""
    line = " ".join(str(text).split()) or " "
    ticks = "`" * (max((len(run) for run in TICKS.findall(line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return mark_safe(f"{ticks}{pad}{line}{pad}{ticks}".replace("|", "\\|"))  # noqa: S308 - for Markdown, which escapes


# --- what is added to CommonMark ---


def read_anchor(state: StateInline, silent: bool) -> bool:
    match = ANCHOR.match(state.src, state.pos)
    if match is None:
        return False
    if not silent:
        state.push("anchor", "", 0).meta = {"id": match[1]}
    state.pos = match.end()
    return True


def mark_headings(state: StateCore) -> None:
    """Ids for headings, from their words."""
    taken: set[str] = set()
    for level in ("h2", "h3"):
        for at, heading in find_headings(state.tokens, level):
            name = slugify(read_text(state.tokens[at + 1])) or "section"
            while name in taken:
                name += "-again"
            taken.add(name)
            heading.attrSet("id", name)


def mark_tables(state: StateCore) -> None:
    """Scopes for screen readers, the column's name in each cell for narrow screens, names for rows.

    With two columns the second says what the first is about: such a table is `plain` and stays one on any screen.
    """
    names: list[str] = []
    table = row = None
    column = 0
    for at, token in enumerate(state.tokens):
        if token.type == "table_open":
            table, names = token, []
        elif token.type == "tr_open":
            row, column = token, 0
        elif token.type == "th_open":
            token.attrSet("scope", "col")
            names.append(read_text(state.tokens[at + 1]))
        elif token.type == "thead_close" and table is not None and len(names) < 3:
            table.attrSet("class", "plain")
        elif token.type == "td_open":
            # Cells beyond the head are cut by the parser, and missing ones filled in.
            mark_cell(state.tokens, at, row, first=column == 0, label=names[column] if len(names) > 2 else "")
            column += 1


def mark_cell(tokens: Sequence[Token], at: int, row: Token | None, *, first: bool, label: str) -> None:
    token, content = tokens[at], tokens[at + 1]
    if not first:
        if label:
            token.attrSet("data-label", label)
        return
    token.tag = tokens[at + 2].tag = "th"
    token.attrSet("scope", "row")
    children = content.children or []
    if row is not None and children and children[0].type == "anchor":
        row.attrSet("id", children.pop(0).meta["id"])


def render_anchor(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    return format_html('<span id="{}"></span>', tokens[at].meta["id"])


def render_fence(self: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """One example, or, at the first of several that ask for the same thing, all of them as one group."""
    if not is_request(tokens, at):
        return render_example(tokens[at])
    if is_request(tokens, at - 1):
        return ""
    group = [tokens[at]]
    while is_request(tokens, at + len(group)):
        group.append(tokens[at + len(group)])
    return render_example(group[0]) if len(group) == 1 else render_group(group, name=f"examples-{at}")


def is_request(tokens: Sequence[Token], at: int) -> bool:
    """An example that asks; answers stand for themselves."""
    return 0 <= at < len(tokens) and tokens[at].type == "fence" and read_language(tokens[at]) not in ANSWERS


def render_group(group: Sequence[Token], *, name: str) -> str:
    """Radio buttons that show one of them: it needs no script, and keyboards know how."""
    inputs = format_html_join(
        "",
        '<input type="radio" name="{}" id="{}-{}"{}><label for="{}-{}">{}</label>',
        (
            (name, name, number, CHECKED if number == 0 else "", name, number, find_label(token))
            for number, token in enumerate(group)
        ),
    )
    legend = '<legend class="visually-hidden">Language of the example</legend>'
    return f'<fieldset class="examples">{legend}{inputs}\n{"".join(map(render_example, group))}</fieldset>\n'


def render_example(token: Token) -> str:
    """The info string is the language and marks that become data, like `python runs=litellm`."""
    marks = [mark.partition("=")[::2] for mark in token.info.split()[1:]]
    return format_html(
        '<figure class="example"><figcaption>{}</figcaption>'
        '<pre tabindex="0"><code class="language-{}"{}>{}</code></pre></figure>\n',
        find_label(token),
        read_language(token),
        format_html_join("", ' data-{}="{}"', marks),
        token.content.rstrip("\n"),
    )


def read_language(token: Token) -> str:
    return token.info.partition(" ")[0]


def find_label(token: Token) -> str:
    """`fails=CODE` marks a request that is refused."""
    language = read_language(token)
    label = LABELS.get(language, language)
    return f"{label}, refused" if " fails=" in token.info else label


# --- reading tokens ---


def find_headings(tokens: Sequence[Token], tag: str) -> Iterator[tuple[int, Token]]:
    return ((at, one) for at, one in enumerate(tokens) if one.type == "heading_open" and one.tag == tag)


def read_text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [] if child.type in ("text", "code_inline"))


def split_title(tokens: list[Token]) -> tuple[str, list[Token]]:
    if tokens and tokens[0].tag == "h1":
        return read_text(tokens[1]), tokens[3:]
    return "", tokens
