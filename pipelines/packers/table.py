"""A table with images, or with the places of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Self

import pyarrow as pa
from pydantic import model_validator

from pipelines import core
from pipelines.packers._cells import bounded, column_fault, read_image, texts_of, to_json
from pipelines.packers._contract import Item, Unreadable
from pipelines.packers._keys import safe_key
from pipelines.packers._rows import Rows, batches, cells, is_table, one_schema
from pipelines.packers._tree import Skipped, Tree


class Table:
    """Rows of CSV, TSV or Parquet: images as bytes or by path, captions, the rest as json.

    SRC is a file, or a pattern of several with equal columns. A path is
    relative to the table's folder and stays in it, or a whole URL; bytes are
    a binary column, or a struct of bytes and path as Hugging Face writes it.
    Cells of CSV may be quoted; in TSV a quote is a letter like any other, so
    that cells hold neither tabs nor line breaks.
    """

    class Config(core.Config):
        """Which columns become what; those not named go to the json member.

        Attributes:
            image: Images, as bytes or paths.
            caption: Texts: one column or several, of text or of lists of texts. The first text
                becomes the txt member; where there may be several, all of them json.captions.
                None where there are no captions.
            key: Keys of the samples, different in every row; the number of the row where it is
                None.
            drop: Columns to leave out.
        """

        image: str = "image"
        caption: str | tuple[str, ...] | None = "caption"
        key: str | None = None
        drop: tuple[str, ...] = ()

        @property
        def captions(self) -> tuple[str, ...]:
            """Columns of captions."""
            if self.caption is None:
                return ()
            return (self.caption,) if isinstance(self.caption, str) else self.caption

        @model_validator(mode="after")
        def _one_use_each(self) -> Self:
            # A key may be anything: it is read by itself.
            uses = [(self.image, "image"), *((name, "caption") for name in self.captions)]
            uses += [(name, "drop") for name in dict.fromkeys(self.drop)]
            taken: dict[str, str] = {}
            for name, use in uses:
                if name in taken:
                    twice = use == taken[name]
                    other = f"{use} twice" if twice else f"both {taken[name]} and {use}"
                    hint = "; caption=null leaves captions out" if use == "drop" else ""
                    raise ValueError(f"column '{name}' is {other}, and can be one{hint}")
                taken[name] = use
            return self

    def __init__(self, config: Config):
        self._config = config

    def fits(self, tree: Tree) -> bool:
        """One or more files that are named like tables."""
        return not tree.folder and all(map(is_table, tree.names))

    def samples(self, tree: Tree) -> Iterator[Item | Skipped]:
        """List the rows in order.

        Raises:
            DataError: A table is damaged.
            UserError: A column is missing, or holds what no member can.
        """
        if not self.fits(tree):
            raise core.UserError(f"{tree.src}: a .csv, .tsv or .parquet file or pattern is needed")
        schema = one_schema(tree.names)
        columns = self._columns(schema, tree.src)
        rows = Rows(lambda: (batch for url in tree.names for batch in batches(url, columns)))
        number = 0
        for url in tree.names:
            for cell in cells(url, self._config.key):
                place = f"{url} row {number}"
                if cell is None:
                    parquet = url.lower().endswith(".parquet")
                    yield Skipped(place, "no key" if parquet else "not as many cells as columns")
                else:
                    key = f"{number:09d}" if self._config.key is None else safe_key(str(cell))
                    yield Item(key, place, partial(self._read, rows, number, url))
                number += 1

    def _columns(self, schema: pa.Schema, src: str) -> list[str]:
        """Columns to read, after checking that all can be made into members."""
        config = self._config
        named: dict[str, Sequence[str]] = {
            "image": [config.image],
            "caption": config.captions,
            "key": [] if config.key is None else [config.key],
            "drop": config.drop,
        }
        for option, names in named.items():
            for name in names:
                if name not in schema.names:
                    other = ", or --set caption=null" if option == "caption" else ""
                    hint = core.nearest(name, schema.names)
                    raise core.UserError(f"{src}: {option}: no column '{name}'; {hint}{other}")
        columns = [name for name in schema.names if name not in config.drop]
        uses = [(name, use) for use in ("image", "caption", "key") for name in named[use]]
        used = {name for name, _ in uses}
        for name, use in [*uses, *((name, "json") for name in columns if name not in used)]:
            fault = column_fault(use, schema.field(name).type)
            if fault:
                raise core.UserError(f"{src}: column '{name}' {fault}")
        return columns

    def _read(self, rows: Rows, number: int, url: str) -> dict[str, bytes]:
        config = self._config
        try:
            row = rows[number]
        except (ValueError, OverflowError):  # text that is none, times that no clock has
            raise Unreadable("a cell that is not of its column's type") from None
        members = dict([read_image(row.pop(config.image), url)])
        captions = [row.pop(name) for name in config.captions]
        row.pop(config.key or "", None)
        if captions:
            texts = [text for cell in captions for text in texts_of(cell)]
            if not texts:
                raise Unreadable("no caption")
            members["txt"] = bounded("txt", texts[0])
            if len(captions) > 1 or isinstance(captions[0], list):
                row["captions"] = texts
        if row:
            members["json"] = bounded("json", to_json(row))
        return members
