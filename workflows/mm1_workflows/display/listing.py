"""Tables without borders that fit into the terminal: whole words, no trailing blanks."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Column, Table

GAP = 3
"""Blanks between two columns."""


class Listing(Table):
    """A table whose columns are at least as wide as their longest words.

    If it does not fit, it omits the columns that are less important. If that is not enough, each row becomes a block with one
    line per column; without blocks, the widest columns become narrower.

    Args:
        columns: names of the columns.
        less_important: columns to omit on a narrow terminal, first the least important one; their lines are not wrapped.
        blocks: whether a row may become a block.
    """

    def __init__(self, *columns: str, less_important: Sequence[str] = (), blocks: bool = True) -> None:
        super().__init__(box=None, padding=(0, GAP, 0, 0), header_style="dim")
        self.less_important, self.blocks = less_important, blocks
        for name in columns:
            self.add_column(name, overflow="fold", no_wrap=name in less_important)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the columns that fit, and end each line after its last character."""
        everything = self.columns
        columns, widths = self._fit(console, options)
        if self.blocks and sum(widths) < sum(_size(console, options, column).minimum for column in columns):
            yield from console.render(self._as_blocks(), options)
            return
        self.columns = columns
        for column, width in zip(columns, widths, strict=True):
            column.width = width
        try:
            wider = options.update_width(options.max_width + GAP)  # the last column has a gap, too, which is stripped
            segments = list(super().__rich_console__(console, wider))
        finally:
            self.columns = everything
            for column in everything:
                column.width = None
        for line in Segment.split_lines(segment for segment in segments if isinstance(segment, Segment)):
            yield from _stripped(line)
            yield Segment.line()

    def _fit(self, console: Console, options: ConsoleOptions) -> tuple[list[Column], list[int]]:
        """Return the columns that fit, and their widths without the gap after them."""
        columns = list(self.columns)
        sizes = {id(column): _size(console, options, column) for column in columns}

        def room() -> int:
            return options.max_width - GAP * (len(columns) - 1)

        for name in self.less_important:
            if sum(sizes[id(column)].minimum for column in columns) <= room():
                break
            columns = [column for column in columns if column.header != name]
        return columns, fitted([sizes[id(column)] for column in columns], room())

    def _as_blocks(self) -> Listing:
        """Return a table with a row for each cell that is not empty, and an empty row between the old rows."""
        result = Listing("", "", blocks=False)
        result.show_header = False
        result.columns[0].style, result.columns[0].no_wrap = self.header_style, True
        for row, cells in zip(self.rows, zip(*(column.cells for column in self.columns), strict=True), strict=True):
            if result.row_count:
                result.add_row()
            for column, cell in zip(self.columns, cells, strict=True):
                if not isinstance(cell, str) or cell:
                    result.add_row(column.header, cell, style=row.style)
        return result


def _size(console: Console, options: ConsoleOptions, column: Column) -> Measurement:
    """Return the lengths of a column's longest word (with `no_wrap`: line) and longest line."""
    sizes = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
    widest = max(size.maximum for size in sizes)
    return Measurement(widest if column.no_wrap else max(size.minimum for size in sizes), widest)


def fitted(sizes: Sequence[Measurement], room: int) -> list[int]:
    """Return widths that add up to at most the room if each can be at least 1: whole words first, then whole lines."""
    widths = [size.minimum for size in sizes]
    while sum(widths) > max(room, len(widths)):
        widths[widths.index(max(widths))] -= 1
    spare = max(0, room - sum(widths))
    for index in sorted(range(len(widths)), key=lambda index: sizes[index].maximum - widths[index]):
        more = min(spare, sizes[index].maximum - widths[index])
        widths[index] += more
        spare -= more
    return widths


def _stripped(line: list[Segment]) -> list[Segment]:
    """Return a line without the blanks at its end."""
    line = list(line)
    while line and not line[-1].text.rstrip(" "):
        line.pop()
    return [*line[:-1], Segment(line[-1].text.rstrip(" "), line[-1].style, line[-1].control)] if line else []
