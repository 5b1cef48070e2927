// What a Weir component in JavaScript is made of: a graph with one stateless chain, and columns as JavaScript arrays.
//
// `component` turns a function over columns into the two exports of the world `job`. It shows the boundary as it is:
// a batch is Arrow's flat buffers, and only the columns that the function reads cross it. A filter sends nothing back but the
// indexes of the rows that it keeps.

// How the fixed-width types are read: 64-bit ones as BigInt, so that none loses its low bits.
const VIEWS = {
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
  float32: Float32Array, float64: Float64Array, "event-time": BigInt64Array,
};

const utf8 = new TextDecoder();

// Views bytes as numbers; they are copied where they do not lie on a multiple of the number's size.
function numbers(View, bytes) {
  const aligned = bytes.byteOffset % View.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new View(aligned.buffer, aligned.byteOffset, aligned.byteLength / View.BYTES_PER_ELEMENT);
}

const bit = (bitmap, row) => ((bitmap[row >> 3] >> (row & 7)) & 1) === 1;

// The columns of a batch, as arrays or typed arrays; a missing value is null.
export function decode(types, { rows, buffers }) {
  let at = 0;
  return types.map((type) => {
    const validity = buffers[at++];
    let values;
    if (type === "boolean") {
      const bitmap = buffers[at++];
      values = Array.from({ length: rows }, (_, row) => bit(bitmap, row));
    } else if (type === "utf8") {
      const ends = numbers(Int32Array, buffers[at++]);
      const bytes = buffers[at++];
      values = Array.from({ length: rows }, (_, row) => utf8.decode(bytes.subarray(ends[row], ends[row + 1])));
    } else {
      values = numbers(VIEWS[type], buffers[at++]);
    }
    return validity.length === 0 ? values : Array.from(values, (value, row) => (bit(validity, row) ? value : null));
  });
}

// The bytes of a typed array.
const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

// A filter: `open` gets the job's arguments and returns the predicate, which gets a row's values of the columns `reads` of
// `source`. All columns are passed on by the host. Returns the exports `definition` and `chains`.
export function component({ name, source, sink, schema, reads, open }) {
  const names = Object.keys(schema);
  const fields = names.map((column) => ({ name: column, dataType: schema[column], nullable: false, children: 0 }));
  const graph = {
    name,
    sources: [{ name: source, stream: "", schema: fields }],
    chains: [
      {
        operators: [{ id: name, kind: "filter" }],
        head: { tag: "transform" },
        inputs: [
          {
            from: [{ tag: "source", val: 0 }],
            partitioning: "forward",
            key: new Uint32Array(),
            columns: Uint32Array.from(reads, (column) => names.indexOf(column)),
            times: false,
          },
        ],
        outputs: [{ name: "", schema: fields, columns: names.map((_, index) => ({ tag: "passed", val: index })) }],
        eventTime: undefined,
        parallelism: undefined,
        stateSchema: undefined,
      },
    ],
    sinks: [{ name: sink, from: [{ tag: "chain", val: { chain: 0, port: 0 } }] }],
  };
  const types = reads.map((column) => schema[column]);
  let keeps;

  const definition = {
    describe(given) {
      keeps = open(Object.fromEntries(given.map(({ name, value }) => [name, value])));
      return graph;
    },
  };

  const stateless = () => {
    throw "a filter has no state";
  };
  const chains = {
    open() {},
    process(_chain, { rows: batch }) {
      const columns = decode(types, batch);
      const kept = new Uint32Array(batch.rows);
      let rows = 0;
      for (let row = 0; row < batch.rows; row++) {
        if (keeps(...columns.map((column) => column[row]))) kept[rows++] = row;
      }
      const origins = { tag: "picked", val: bytes(kept.subarray(0, rows)) };
      const output = { port: 0, origins, times: new Uint8Array(), rows: { rows, buffers: [] } };
      return { outputs: [output], timers: [], progress: undefined, late: 0 };
    },
    assignSlots: stateless,
    accumulate: stateless,
    emit: stateless,
    mergeSlots: stateless,
    clearSlots: stateless,
    exportSlots: stateless,
    importSlots: stateless,
    timersFired: stateless,
  };
  return { definition, chains };
}
