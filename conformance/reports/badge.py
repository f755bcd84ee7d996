"""The badge: whether a run conforms, and how many of its results."""

from __future__ import annotations

from xml.sax.saxutils import escape

from unilossseg.conformance.reports.model import StoredRun
from unilossseg.conformance.verdict import CONFORM

_LABEL = "conformance"
# Blue and vermilion differ to every eye, in grey too; the words say it anyway.
_GOOD, _BAD = "#0065a3", "#b84300"
_TEMPLATE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{title}">
<title>{title}</title>
<clipPath id="r"><rect width="{width}" height="20" rx="3"/></clipPath>
<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3d444d"/>
<rect x="{left}" width="{right}" height="20" fill="{color}"/></g>
<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11" text-anchor="middle">
<text x="{label_at}" y="14" textLength="{label_length}">{label}</text>
<text x="{words_at}" y="14" textLength="{words_length}">{words}</text>
</g>
</svg>
"""
#: Of a letter of that size; `textLength` fits the words in, whatever font there is.
_LETTER = 6.2
_PADDING = 7


def render(run: StoredRun) -> str:
    """An SVG."""
    conforming = run.count(CONFORM)
    words = f"{conforming} conform" if run.conforms else f"{len(run.bad)} fail" if run.bad else "does not conform"
    label_length, words_length = round(_LETTER * len(_LABEL)), round(_LETTER * len(words))
    left, right = label_length + 2 * _PADDING, words_length + 2 * _PADDING
    return _TEMPLATE.format(
        title=escape(f"{_LABEL}: {words}", {'"': "&quot;"}),
        label=escape(_LABEL),
        words=escape(words),
        color=_GOOD if run.conforms else _BAD,
        width=left + right,
        left=left,
        right=right,
        label_at=left / 2,
        words_at=left + right / 2,
        label_length=label_length,
        words_length=words_length,
    )
