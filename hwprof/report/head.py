"""What does every page begin with? Its title, and the answer in a sentence with its key numbers."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.report.cells import Table
from hwprof.report.pictures import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What any page has, and its tables by their names."""

    title: str
    subtitle: str
    version: str
    tables: dict[str, Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPage(Page):
    """A page that answers a question; ``caution`` says what makes the answer unsure, empty where nothing does."""

    sentence: str
    caution: str
    cards: tuple[Card, ...]


def card(title: str, value: str, detail: str) -> Card:
    """A key number whose detail is for the page alone."""
    return Card(title=title, value=value, brief=value, detail=detail)
