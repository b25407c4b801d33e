"""Division of images into tiles, which the model sees as images of their own (MM1 5, MM1.5 in arXiv 2409.20566).

    width, height -> ImageLayout -> Tiles: grid, size after resizing, padding, boxes, marks -> cut -> images of one size

    single                    the image, resized to a square
    static                    overview, then 2 x 2 crops of the image at twice the side (MM1: 1344 px in crops of 672)
    dynamic,grid=4-9          the grid of 4 to 9 tiles that fits the image best, then the overview (MM1.5)

An overview is the image as `single` gives it. The data plane, the processor of a model and generation all use this file,
which is also copied into exported models. It needs neither torch nor transformers.

Names of dimensions: I images, G grids.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

Integers = np.ndarray[Any, np.dtype[np.int64]]
LayoutName = Literal["single", "static", "dynamic"]
Marks = Literal["none", "index", "separators"]
MAX_TILES = 64
"""Maximum number of tiles in a grid."""
COLUMN_MARK, ROW_MARK, OVERVIEW_MARK = ",", "\n", ":"
"""Separators between the tiles of a row, between rows, and between tiles and overview."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of one image in the order in which the model sees them.

    Attributes:
        side: side of a tile in pixels.
        rows: rows of the grid; 0 if there is only the overview.
        columns: columns of the grid.
        width: width of the image after resizing for the grid, in pixels; the rest of the grid's width is padding.
        height: height of the image after resizing for the grid, in pixels.
        overview: place of the overview; empty if there is none.
        marks: texts around the tiles.
    """

    side: int
    rows: int = 0
    columns: int = 0
    width: int = 0
    height: int = 0
    overview: Literal["", "first", "last"] = "last"
    marks: Marks = "none"

    @property
    def count(self) -> int:
        """Number of tiles, including the overview."""
        return self.rows * self.columns + bool(self.overview)

    @property
    def padding(self) -> int:
        """Pixels of the grid that the image does not cover."""
        return self.rows * self.columns * self.side**2 - self.width * self.height

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Return left, top, right and bottom of each tile of the grid in reading order, in pixels of the grid."""
        side = self.side
        places = ((row * side, column * side) for row in range(self.rows) for column in range(self.columns))
        return [(left, top, left + side, top + side) for top, left in places]

    def pieces(self, image: int = 0) -> list[str | None]:
        """Return the texts of the marks and, as None, the tiles, in their order.

        Args:
            image: number of the image in its sample, from 0.
        """
        grid: list[str | None] = []
        for row in range(self.rows):
            for column in range(self.columns):
                grid += [*self._mark(image, row, column), None]
        overview: list[str | None] = [None] if self.overview else []
        if not grid or not overview:
            return grid or overview
        if self.marks == "index":
            overview = [f"({image},0,0)", None]
        between: list[str | None] = [OVERVIEW_MARK] if self.marks == "separators" else []
        return [*overview, *between, *grid] if self.overview == "first" else [*grid, *between, *overview]

    def _mark(self, image: int, row: int, column: int) -> list[str]:
        """Return the mark before a tile of the grid."""
        if self.marks == "index":
            return [f"({image},{row + 1},{column + 1})"]
        if self.marks == "none" or not row + column:
            return []
        return [COLUMN_MARK if column else ROW_MARK]

    def cut(self, image: Image.Image, resample: int = Image.Resampling.BICUBIC) -> list[Image.Image]:
        """Resize an image and cut it into its tiles; padding is white, on the right and at the bottom.

        Args:
            image: RGB image, of any size with the proportions for which the tiles were planned.
            resample: filter of Pillow for resizing.

        Returns:
            Square images of `side` pixels, in the order of the tiles.
        """
        overview = [_resized(image, (self.side, self.side), resample)] if self.overview else []
        if not self.rows:
            return overview
        grid = _resized(image, (self.width, self.height), resample)
        if self.padding:
            page = Image.new("RGB", (self.columns * self.side, self.rows * self.side), "white")
            page.paste(grid)
            grid = page
        tiles = [grid.crop(box) for box in self.boxes()]
        return overview + tiles if self.overview == "first" else tiles + overview


def _resized(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
    return image if image.size == size else image.resize(size, resample)


@dataclass(frozen=True)
class ImageLayout:
    """How the images of a sample are divided into tiles.

    Its text form names the layout and the options that differ from its defaults: `dynamic,grid=4-16,marks=none`.

    Attributes:
        name: single, static or dynamic.
        min_tiles: minimum number of tiles in a grid, without the overview. MM1.5 trains with 4 to 9.
        max_tiles: maximum number of tiles in a grid; MM1.5 goes up to 16 at inference.
        marks: texts around the tiles: none, index (image, row, column) before each tile, or separators between them.
        max_images: images of samples with more images than this are not divided (MM1.5: 2).
    """

    name: LayoutName = "single"
    min_tiles: int = 4
    max_tiles: int = 9
    marks: Marks = "none"
    max_images: int = 2

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: a field is out of its range.
        """
        if self.name not in get_args(LayoutName):
            raise ValueError(f"expected {_listed(LayoutName)}, got {self.name!r}")
        if self.marks not in get_args(Marks):
            raise ValueError(f"marks: expected {_listed(Marks)}, got {self.marks!r}")
        if not 1 <= self.min_tiles <= self.max_tiles <= MAX_TILES:
            raise ValueError(f"grid: expected two numbers from 1 to {MAX_TILES}, such as 4-9, got {self.grid}")
        if self.max_images < 1:
            raise ValueError(f"max_images: expected at least 1, got {self.max_images}")

    @classmethod
    def parse(cls, text: str) -> "ImageLayout":
        """Parse the text form; nothing is `single`.

        Raises:
            ValueError: an unknown name or option, or a value out of its range.
        """
        name, *options = (part.strip() for part in (text.strip() or "single").split(","))
        layout = _defaults(name)
        allowed = {"single": (), "static": ("marks", "max_images"), "dynamic": ("grid", "marks", "max_images")}[name]
        for option in options:
            key, _, value = (part.strip() for part in option.partition("="))
            if key not in allowed:
                raise ValueError(f"{name} has no option {key!r}: expected {', '.join(allowed) or 'none'}")
            layout = replace(layout, **_option(key, value))
        return layout

    @property
    def grid(self) -> str:
        """Minimum and maximum number of tiles."""
        return f"{self.min_tiles}-{self.max_tiles}"

    def __str__(self) -> str:
        """Return the text form."""
        default = _defaults(self.name)
        names = [name for name in ("grid", "marks", "max_images") if getattr(self, name) != getattr(default, name)]
        return ",".join([self.name, *(f"{name}={getattr(self, name)}" for name in names)])

    @property
    def is_single(self) -> bool:
        """Whether no image is divided."""
        return self.name == "single"

    @property
    def max_count(self) -> int:
        """Maximum number of tiles of an image, including the overview."""
        most = {"single": 0, "static": 4, "dynamic": self.max_tiles}[self.name]
        return most + (self.name != "dynamic" or most > 1)

    def with_max_tiles(self, max_tiles: int) -> "ImageLayout":
        """Return the layout with another maximum number of tiles, for inference (MM1.5: 16 after training with 9).

        Raises:
            ValueError: the layout is not dynamic, or the number is out of its range.
        """
        if self.name != "dynamic":
            raise ValueError(f"the number of tiles of the layout {self.name} is fixed; only that of dynamic can be set")
        return replace(self, max_tiles=max_tiles)

    def divides(self, num_images: int) -> bool:
        """Whether the images of a sample with this number of images are divided."""
        return not self.is_single and num_images <= self.max_images

    def tiles(self, width: int, height: int, side: int, num_images: int = 1) -> Tiles:
        """Divide an image.

        Args:
            width: width of the image in pixels.
            height: height of the image in pixels.
            side: side of a tile in pixels.
            num_images: number of images of its sample.
        """
        if not self.divides(num_images):
            return Tiles(side)
        return _tiles(self, max(1, width), max(1, height), side)

    def kinds(self, width_I: Integers, height_I: Integers, side: int) -> Integers:
        """Return the number of the grid of each image, for images that are divided.

        Args:
            width_I: width of each image in pixels.
            height_I: height of each image in pixels.
            side: side of a tile in pixels.
        """
        if self.name != "dynamic":
            return np.zeros(len(width_I), np.int64)
        return _fit(self, np.maximum(1, width_I), np.maximum(1, height_I), side)[0]

    def all_marks(self, num_images: int | None = None) -> list[str]:
        """Return the texts of all marks that its images can have.

        Args:
            num_images: number of images of a sample whose images are all divided; by default `max_images`.
        """
        grids = {"single": [], "static": [(2, 2)], "dynamic": self.grids()}[self.name]
        numbers = range(num_images or self.max_images)
        tiles = [Tiles(1, *grid, marks=self.marks) for grid in grids]
        marks = {piece for each in tiles for number in numbers for piece in each.pieces(number) if piece is not None}
        return sorted(marks)

    def grids(self) -> list[tuple[int, int]]:
        """Return rows and columns of all grids with `min_tiles` to `max_tiles` tiles, those of fewer tiles first."""
        sides = range(1, self.max_tiles + 1)
        grids = ((rows, columns) for rows in sides for columns in sides)
        allowed = (grid for grid in grids if self.min_tiles <= grid[0] * grid[1] <= self.max_tiles)
        return sorted(allowed, key=lambda grid: (grid[0] * grid[1], grid[0]))


@lru_cache(maxsize=65_536)
def _tiles(layout: ImageLayout, width: int, height: int, side: int) -> Tiles:
    if layout.name == "static":
        return Tiles(side, 2, 2, 2 * side, 2 * side, "first", layout.marks)
    (number,), (resized_width,), (resized_height,) = _fit(layout, np.asarray([width]), np.asarray([height]), side)
    rows, columns = layout.grids()[number]
    overview: Literal["", "last"] = "" if rows * columns == 1 else "last"
    return Tiles(side, rows, columns, int(resized_width), int(resized_height), overview, layout.marks)


def _fit(layout: ImageLayout, width_I: Integers, height_I: Integers, side: int) -> tuple[Integers, Integers, Integers]:
    """Choose the grid of each image.

    Integers alone, so that every machine divides an image in the same way.

    Returns:
        The number of the grid, and width and height of the image after resizing.
    """
    rows_G, columns_G = np.asarray(layout.grids()).T
    width_I1, height_I1 = width_I[:, None], height_I[:, None]
    # The side that limits the image fills the grid.
    by_width_IG = columns_G * height_I1 <= rows_G * width_I1
    width_IG = np.where(by_width_IG, columns_G * side, _scaled(width_I1, rows_G * side, height_I1))
    height_IG = np.where(by_width_IG, _scaled(height_I1, columns_G * side, width_I1), rows_G * side)
    area_IG = width_IG * height_IG
    padding_IG = rows_G * columns_G * side**2 - area_IG
    # Grids that need not shrink the image; if there are none, those with the least loss of resolution.
    covers_IG = (columns_G * side >= width_I1) & (rows_G * side >= height_I1)
    sharpest_IG = area_IG == area_IG.max(axis=1, keepdims=True)
    allowed_IG = np.where(covers_IG.any(axis=1, keepdims=True), covers_IG, sharpest_IG)
    # Of these the one with the least padding; of several, the first: grids are in the order of their tiles.
    number_I = np.where(allowed_IG, padding_IG, np.iinfo(np.int64).max).argmin(axis=1)
    chosen = np.arange(len(number_I)), number_I
    return number_I, width_IG[chosen], height_IG[chosen]


def _scaled(length: Integers, numerator: Integers, denominator: Integers) -> Integers:
    """Scale lengths in pixels and round them."""
    return np.maximum(1, (2 * length * numerator + denominator) // (2 * denominator))


def _defaults(name: str) -> ImageLayout:
    """Return a layout with its own default options."""
    return ImageLayout(name, marks="index" if name == "dynamic" else "none")  # type: ignore[arg-type]  # checked


def _option(key: str, value: str) -> dict[str, Any]:
    try:
        if key == "grid":
            first, _, last = value.partition("-")
            return {"min_tiles": int(first), "max_tiles": int(last or first)}
        return {key: int(value) if key == "max_images" else value}
    except ValueError:
        example = "two numbers such as 4-9" if key == "grid" else "a whole number"
        raise ValueError(f"{key}: expected {example}, got {value!r}") from None


def _listed(choices: object) -> str:
    return " or ".join(get_args(choices))
