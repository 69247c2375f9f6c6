"""Report: the end of the line, a list of sections that becomes a page or a JSON text and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from memspike.cost import Cost
from memspike.errors import FileRefused, MemspikeError
from memspike.files import write_text
from memspike.mapping import Mapping as ChipMapping
from memspike.reporter import html
from memspike.reporter.items import Figure, Headline, Item, Note, Section, Table
from memspike.result import Result

VERSION = 1
_KINDS: dict[str, type[Item]] = {"note": Note, "headline": Headline, "table": Table, "figure": Figure}


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """One design that was run: how it is called ("4/4 bits"), where it lies, what came out, what it costs."""

    label: str
    mapping: ChipMapping
    result: Result
    cost: Cost


@dataclass(frozen=True, slots=True)
class Report:
    """A title and sections; everything in it is text and numbers, so that it can be read without memspike."""

    title: str
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section:
        """The section with that anchor; raises MemspikeError when there is none."""
        for section in self.sections:
            if section.name == name:
                return section
        raise MemspikeError(f"the report has no section {name!r}", cure=f"sections: {', '.join(s.name for s in self.sections)}")

    def html(self) -> str:
        """The report as one page that needs no network: text, tables, figures and their data."""
        return html.page(self.title, self.sections)

    def to_json(self) -> str:
        """The report as JSON; `Report.from_json` is the inverse."""
        sections = [{"name": s.name, "title": s.title, "items": [{"kind": _kind(item), **asdict(item)} for item in s.items]} for s in self.sections]
        return json.dumps({"memspike report": VERSION, "title": self.title, "sections": sections}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read what `to_json` wrote; raises FileRefused when it is something else."""
        try:
            document = json.loads(text)
            json.dumps(document, allow_nan=False)  # a ValueError where a number is not finite
            if document.get("memspike report") != VERSION:
                raise FileRefused(f"is no report of version {VERSION}")
            sections = [Section(str(s["name"]), str(s["title"]), tuple(_item(i) for i in s["items"])) for s in document["sections"]]
            return cls(str(document["title"]), tuple(sections))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise FileRefused(f"is no report: {'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from error
        except FileRefused:
            raise
        except MemspikeError as error:
            raise FileRefused(f"is no report: {error.what}", where=error.where, cure=error.cure) from error
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise FileRefused(f"is no report: {type(error).__name__}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the report to `path`, a page for `.html`, JSON for `.json`: the whole file or nothing.

        Raises FileRefused for any other suffix and when the folder cannot be written.
        """
        path = Path(path)
        writers = {".html": self.html, ".json": self.to_json}
        if path.suffix not in writers:
            raise FileRefused(f"a report is written as .html or .json, not as {path.suffix or 'a file without suffix'}", where=str(path))
        write_text(path, writers[path.suffix]())


def _kind(item: Item) -> str:
    return type(item).__name__.lower()


def _item(fields: Mapping[str, Any]) -> Item:
    values = dict(fields)
    return _checked(_KINDS[values.pop("kind")]).validate_json(json.dumps([values]))[0]


@cache
def _checked(kind: type[Item]) -> TypeAdapter[tuple[Item]]:
    # In a tuple, since pydantic refuses a configuration beside a bare dataclass; it holds for every dataclass within.
    wrapped: Any = tuple[kind]  # pyright: ignore[reportInvalidTypeForm]
    return TypeAdapter(wrapped, config=ConfigDict(strict=True, extra="forbid"))
