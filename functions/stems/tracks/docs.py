"""/v1/openapi.json and /docs: the API described for programs and for people, out of the code that serves it."""

import re
from functools import cache
from typing import Any

from flask import Blueprint, Response, jsonify, render_template_string, request
from markupsafe import Markup, escape

_CODE = re.compile("`([^`]+)`")
# Nothing is loaded, from here or elsewhere, and nothing runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def routes(document: Any) -> Blueprint:
    """Return the routes; `document` (apispec.APISpec) is complete when the first request comes."""
    docs = Blueprint("docs", __name__)

    @cache
    def described() -> dict[str, Any]:
        found: dict[str, Any] = document.to_dict()
        return found

    def revalidated(response: Response) -> Response:
        response.add_etag()
        response.cache_control.no_cache = True
        return response.make_conditional(request)  # type: ignore[return-value]

    @docs.get("/v1/openapi.json")
    def openapi() -> Response:
        return revalidated(jsonify(described()))

    @docs.get("/docs")
    def reference() -> Response:
        response = Response(
            render_template_string(_PAGE, api=described(), schema=_schema, text=_text),
            content_type="text/html; charset=utf-8",
        )
        response.headers["Content-Security-Policy"] = _POLICY
        return revalidated(response)

    return docs


def _text(words: str | None) -> Markup:
    """Return a description as HTML; in it, what stands between backticks is code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(words or ""))))


def _schema(schema: dict[str, Any]) -> str:
    """Return what a schema allows, in words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_schema(each) for each in schema["anyOf"])
    kind = schema.get("type", "anything")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "items" in schema:
        words = f"list of {_schema(schema['items'])}"
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
        words = f"object of {_schema(schema['additionalProperties'])}"
    if "enum" in schema:
        words = ", ".join(str(each) for each in schema["enum"])
    limits = [f"{word} {schema[name]}" for name, word in _LIMITS.items() if schema.get(name, "") != ""]
    return " ".join([words, *limits])


_LIMITS = {
    "format": "as",
    "minimum": "from",
    "maximum": "to",
    "minLength": "of at least",
    "maxLength": "of at most",
    "default": "· default",
    "pattern": "like",
}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ api.info.title }} {{ api.info.version }}: reference</title>
<style>
  :root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 25%, transparent) }
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  nav ul { columns: 20rem; padding: 0; list-style: none }
  section > article { border-top: 1px solid var(--line); padding: .5rem 0 1rem }
  h3, h3 a, code { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
  h3 a { color: inherit; text-decoration: none }
  h3 a:hover, h3 a:focus { text-decoration: underline }
  div.wide { overflow-x: auto }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line) }
</style>
{% macro rows(schema) %}{% for name, each in schema.properties.items() %}
<tr><td><code>{{ name }}</code>{% if name in schema.required | default([]) %} *{% endif %}</td>
<td>{{ words(each) }}</td><td>{{ text(each.description) }}</td></tr>
{% endfor %}{% endmacro %}
{% macro words(each) %}{% set found = schema(each) %}{% if found in api.components.schemas %}<a
href="#{{ found }}">{{ found }}</a>{% else %}{{ found }}{% endif %}{% endmacro %}
<header><h1>{{ api.info.title }} {{ api.info.version }}</h1>
{% for part in api.info.description.strip().split("\n\n") %}<p>{{ text(part) }}</p>{% endfor %}
<p>For programs: <a href="/v1/openapi.json">OpenAPI {{ api.openapi }}</a></p></header>
<nav aria-label="Routes"><ul>
{% for path, methods in api.paths.items() %}{% for method, each in methods.items() if method != "parameters" %}
<li><a href="#{{ method }}{{ path }}"><code>{{ method | upper }} {{ path }}</code></a>
{% endfor %}{% endfor %}</ul></nav>
<main>
{% for tag in api.tags %}<section aria-labelledby="tag-{{ tag.name }}">
<h2 id="tag-{{ tag.name }}">{{ tag.description }}</h2>
{% for path, methods in api.paths.items() %}{% for method, each in methods.items() if method != "parameters"
  and tag.name in each.tags %}
<article><h3 id="{{ method }}{{ path }}"><a href="#{{ method }}{{ path }}">{{ method | upper }} {{ path }}</a></h3>
<p><strong>{{ each.summary }}.</strong> {{ text(each.description) }}</p>
{% set given = methods.parameters | default([]) + each.parameters | default([]) %}
{% if given %}<div class="wide"><table><thead><tr><th>parameter<th>in<th>value<th>meaning</thead><tbody>
{% for one in given %}<tr><td><code>{{ one.name }}</code>{% if one.required %} *{% endif %}</td>
<td>{{ one.in }}</td><td>{{ words(one.schema) }}</td><td>{{ text(one.description) }}</td></tr>
{% endfor %}</tbody></table></div>{% endif %}
{% if each.requestBody %}<p>Body:
{% for kind, content in each.requestBody.content.items() %}{{ words(content.schema) }} as <code>{{ kind }}</code>
{% endfor %}</p>{% endif %}
<div class="wide"><table><thead><tr><th>answer<th>meaning<th>body</thead><tbody>
{% for status, answer in each.responses.items() %}<tr><td>{{ status }}</td><td>{{ text(answer.description) }}</td>
<td>{% for kind, content in (answer.content or {}).items() %}{{ words(content.schema) }} as <code>{{ kind }}</code>
{% endfor %}</td></tr>
{% endfor %}</tbody></table></div></article>
{% endfor %}{% endfor %}</section>{% endfor %}
<section aria-labelledby="bodies"><h2 id="bodies">Bodies</h2>
{% for name, each in api.components.schemas.items() %}<article><h3 id="{{ name }}"><a href="#{{ name }}">{{ name }}</a>
</h3><div class="wide"><table><thead><tr><th>field<th>value<th>meaning</thead><tbody>{{ rows(each) }}</tbody></table>
</div></article>{% endfor %}
<p>* is always there.</p></section>
</main>
</html>
"""
