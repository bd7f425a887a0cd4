"""What templates of Markdown need: `{% load pages %}`."""

from __future__ import annotations

from django import template

from crazyrouter.pages.markdown import escape_markdown, quote_code

register = template.Library()
#: Text of the registry or of the contract as a part of a line.
register.filter("text", escape_markdown)
#: The same as code.
register.filter("code", quote_code)
