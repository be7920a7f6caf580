"""Attention statistics of one model over its pairs, as one table.

Finished batches are kept in a folder of their own, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attention_collapse.engine.attention_pieces import Batches
from attention_collapse.engine.attention_table import ROWS_AT_ONCE, SURROGATE, pairs_alone
from attention_collapse.engine.pieces import Runner, here
from attention_collapse.families import NO_ATTENTION
from attention_collapse.files import whole_file
from attention_collapse.models.interface import Model

if TYPE_CHECKING:
    from datasets import Dataset


def _observed(
    model: Model, pairs: Dataset, *, batch_size: int, work: Path | None, identity: str, run: Runner
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Every column, and the parts: first what was attention, so that no batch size shows in the order of the rows."""
    if model.family == NO_ATTENTION:
        alone = pairs_alone(model, pairs)
        return alone.schema, iter([alone])
    parts = Batches(model, pairs, batch_size=batch_size, folder=work, identity=identity)
    run(parts, model)
    schemas = [parts[piece].table.schema for some in parts.rounds for piece in some.pieces[:1]]

    def tables() -> Iterator[pa.Table]:
        for piece in range(len(parts)):
            table = parts[piece].table
            yield table.filter(pc.not_equal(table["tower"], SURROGATE))
        for piece in parts.rounds[-1].pieces:
            table = parts[piece].table
            yield table.filter(pc.equal(table["tower"], SURROGATE))

    return pa.unify_schemas(schemas), tables()


def extract(
    model: Model, pairs: Dataset, *, batch_size: int, work: Path | None = None, identity: str = "", run: Runner = here
) -> pa.Table:
    """Attention statistics of every image and caption.

    Parameters
    ----------
    pairs
        The table of `data.pairs.table`.
    work
        Folder for finished batches; batches found there are not run again if they were written for the same
        `identity` and `batch_size`.
    run
        Who makes the batches that are missing.

    Returns
    -------
    pyarrow.Table
        One row for each item, tower, layer and head: image_id, caption_id (null where the pass saw the image alone),
        tower ("vision", "text", "surrogate"; "none" for a model without attention), layer, head, n_tokens, truncated,
        and the statistics of `probe.rows.average_rows`.
    """
    schema, parts = _observed(model, pairs, batch_size=batch_size, work=work, identity=identity, run=run)
    return pa.concat_tables([schema.empty_table(), *parts], promote_options="default")


def extract_into(
    out: Path, model: Model, pairs: Dataset, *, batch_size: int, work: Path, identity: str = "", run: Runner = here,
    about: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """The table of `extract` as a Parquet file, of which no more than one part is in memory; returns its rows.

    `about` is written into the file's metadata.
    """
    schema, parts = _observed(model, pairs, batch_size=batch_size, work=work, identity=identity, run=run)
    empty, rows = schema.empty_table(), 0
    with (
        whole_file(out) as temporary,
        pq.ParquetWriter(temporary, schema.with_metadata(dict(about or {}))) as writer,
    ):
        for some in _together(parts, ROWS_AT_ONCE // 2):
            writer.write_table(pa.concat_tables([empty, *some], promote_options="default"))
            rows += sum(part.num_rows for part in some)
    return rows


def _together(parts: Iterable[pa.Table], least: int) -> Iterator[list[pa.Table]]:
    """The parts, so many together that they have `least` rows: every group of rows has its own entry in the file."""
    held: list[pa.Table] = []
    for part in parts:
        held.append(part)
        if sum(one.num_rows for one in held) >= least:
            yield held
            held = []
    if held:
        yield held
