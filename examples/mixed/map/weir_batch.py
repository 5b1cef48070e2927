"""What a Weir component in Python is made of: a graph with one stateless chain, and columns as Python sequences.

`component` turns a function over columns into the two exports of the world `job`. It shows the boundary as it is:
a batch is Arrow's flat buffers, and only the columns that the function reads or computes cross it. Numbers,
event times, booleans and text are covered; a column's missing values are `None`.
"""

from array import array
from itertools import accumulate
from typing import Callable, Sequence

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import chains, definition
from wit_world.imports.types import Batch, DataType, Field

#: The array codes of the fixed-width types. Guests are little-endian, as the boundary is.
CODES = {
    DataType.INT8: "b", DataType.INT16: "h", DataType.INT32: "i", DataType.INT64: "q",
    DataType.UINT8: "B", DataType.UINT16: "H", DataType.UINT32: "I", DataType.UINT64: "Q",
    DataType.FLOAT32: "f", DataType.FLOAT64: "d", DataType.EVENT_TIME: "q",
}  # fmt: skip


def bits(packed: bytes, rows: int) -> list[bool]:
    """Unpacks a bitmap, least significant bit first."""
    return [bool(packed[i >> 3] >> (i & 7) & 1) for i in range(rows)]


def pack(values: Sequence[bool]) -> bytes:
    """Packs a bitmap, least significant bit first."""
    packed = bytearray((len(values) + 7) // 8)
    for i, value in enumerate(values):
        packed[i >> 3] |= bool(value) << (i & 7)
    return bytes(packed)


def decode(types: Sequence[DataType], batch: Batch) -> list[Sequence]:
    """The columns of a batch: an `array` of numbers, or a list where text, booleans or missing values make one."""
    buffers = iter(batch.buffers)
    columns = []
    for data_type in types:
        validity = next(buffers)
        if data_type is DataType.BOOLEAN:
            values = bits(next(buffers), batch.rows)
        elif data_type is DataType.UTF8:
            ends, text = array("i", next(buffers)), next(buffers)
            values = [text[a:b].decode() for a, b in zip(ends, ends[1:])]
        else:
            values = array(CODES[data_type], next(buffers))
        if validity:
            values = [value if there else None for value, there in zip(values, bits(validity, batch.rows))]
        columns.append(values)
    return columns


def encode(types: Sequence[DataType], rows: int, columns: Sequence[Sequence]) -> Batch:
    """The batch of these columns; the reverse of `decode`."""
    buffers = []
    for data_type, values in zip(types, columns, strict=True):
        if not isinstance(values, array) and None in values:
            buffers.append(pack([value is not None for value in values]))
            values = [("" if data_type is DataType.UTF8 else 0) if value is None else value for value in values]
        else:
            buffers.append(b"")
        if data_type is DataType.BOOLEAN:
            buffers.append(pack(values))
        elif data_type is DataType.UTF8:
            texts = [value.encode() for value in values]
            buffers += [array("i", accumulate(map(len, texts), initial=0)).tobytes(), b"".join(texts)]
        else:
            buffers.append(array(CODES[data_type], values).tobytes())
    return Batch(rows, buffers)


def component(
    name: str,
    source: str,
    sink: str,
    schema: dict[str, DataType],
    reads: Sequence[str],
    computes: dict[str, DataType],
    function: Callable[..., Sequence[Sequence]],
) -> tuple[type, type]:
    """A map: `function` gets the columns `reads` of `source` and returns the columns `computes`, row by row.

    A computed column takes the place of the source's column of its name, or comes after all of them. The other columns
    are passed on by the host and never enter the guest. Returns the exports `Definition` and `Chains`.
    """
    names = list(schema)
    fields = lambda columns: [Field(column, data_type, False, 0) for column, data_type in columns.items()]
    origins = [
        definition.ColumnOrigin_Computed() if column in computes else definition.ColumnOrigin_Passed(names.index(column))
        for column in schema | computes
    ]
    # The computed columns cross in the order of the output's schema.
    computed = {column: data_type for column, data_type in (schema | computes).items() if column in computes}
    order = [list(computes).index(column) for column in computed]
    graph = definition.Graph(
        name=name,
        sources=[definition.Source(source, "", fields(schema))],
        chains=[
            definition.Chain(
                operators=[definition.OperatorInfo(name, "map")],
                head=definition.Head_Transform(),
                inputs=[
                    definition.ChainInput(
                        from_=[definition.Endpoint_Source(0)],
                        partitioning=definition.Partitioning.FORWARD,
                        key=[],
                        columns=[names.index(column) for column in reads],
                        times=False,
                    )
                ],
                outputs=[definition.ChainOutput("", fields(schema | computes), origins)],
                event_time=None,
                parallelism=None,
                state_schema=None,
            )
        ],
        sinks=[definition.Sink(sink, [definition.Endpoint_Chain(definition.ChainPort(0, 0))])],
    )

    class Definition(exports.Definition):
        def describe(self, arguments):
            return graph

    class Chains(exports.Chains):
        def open(self, chain, subtask, schemas):
            pass

        def process(self, chain, input):
            try:
                columns = function(*decode([schema[column] for column in reads], input.rows))
            except ValueError as error:
                raise Err(str(error))
            rows = encode(list(computed.values()), input.rows.rows, [columns[i] for i in order])
            return chains.Reply([chains.Output(0, chains.Origins_Identity(), b"", rows)], [], None, 0)

        def stateless(self, *_):
            raise Err("a map has no state")

        assign_slots = accumulate = emit = merge_slots = clear_slots = export_slots = import_slots = timers_fired = stateless

    return Definition, Chains
