//! The sink `stdout`: rows for a human or for the next program in a pipe.
//!
//! As `jsonl`, rows are put out whenever the input pauses. As `table`, they are kept until the input ends, since only then it is known
//! how wide the columns are.

mod table;

use std::io::Write;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use parking_lot::Mutex;
use serde::Deserialize;
use weir_types::Batch;

use self::table::Table;
use crate::format::encoder::Encoder;
use crate::options;
use crate::registry::Stream;
use crate::totals::Totals;
use crate::{Connector, Context, Error, Report, Sink, Source, Writer};

/// The connector `stdout`.
pub struct Stdout;

/// Rows are put out once they are this long, even if the input does not pause.
const BLOCK_BYTES: usize = 64 * 1024;
/// How many rows of a table are shown unless the job says, and at most: they are kept until the input ends.
const TABLE_ROWS: usize = 1000;
const TABLE_ROWS_MAX: usize = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// how rows are shown
    #[serde(default)]
    format: Format,
    /// table: how many rows are shown
    max_rows: Option<usize>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// a JSON object a line
    #[default]
    Jsonl,
    /// columns side by side
    Table,
}

impl Connector for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn source(&self, _: &toml::Table, _: &[Stream], _: &Context) -> Result<Box<dyn Source>, Error> {
        Err(options::not_a_source(self.name()))
    }

    fn sink(&self, options: &toml::Table, schema: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error> {
        let options: Options = options::parse(options, context)?;
        if options.format == Format::Jsonl && options.max_rows.is_some() {
            return Err(Error::options("the option max_rows is for the format table only"));
        }
        let max_rows = options.max_rows.unwrap_or(TABLE_ROWS);
        if max_rows > TABLE_ROWS_MAX {
            return Err(Error::options(format!(
                "the option max_rows is at most {TABLE_ROWS_MAX}, not {max_rows}: write more rows to a file"
            )));
        }
        // A table shows all that JSON can write.
        let encoder = Encoder::jsonl(schema)?;
        let table = (options.format == Format::Table).then(|| Arc::new(Mutex::new(Table::new(schema, max_rows))));
        Ok(Box::new(Terminal { encoder, table, stdout: Arc::clone(&context.stdout), totals: Arc::default() }))
    }
}

struct Terminal {
    encoder: Encoder,
    table: Option<Arc<Mutex<Table>>>,
    stdout: Arc<Mutex<dyn Write + Send>>,
    totals: Arc<Totals>,
}

impl Sink for Terminal {
    fn writer(&self, _: u16, parallelism: u16) -> Result<Box<dyn Writer>, Error> {
        let (stdout, totals) = (Arc::clone(&self.stdout), Arc::clone(&self.totals));
        Ok(match &self.table {
            None => Box::new(Lines { encoder: self.encoder.clone(), block: Vec::new(), stdout, totals }),
            Some(table) => Box::new(TableWriter { table: Arc::clone(table), stdout, totals, parallelism }),
        })
    }

    fn report(&self) -> Report {
        self.totals.report()
    }
}

fn put_out(bytes: &[u8], stdout: &Mutex<dyn Write + Send>, totals: &Totals) -> Result<(), Error> {
    let mut stdout = stdout.lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| Error::io("the standard output cannot be written", e))?;
    totals.add_bytes(bytes.len() as u64);
    Ok(())
}

struct Lines {
    encoder: Encoder,
    block: Vec<u8>,
    stdout: Arc<Mutex<dyn Write + Send>>,
    totals: Arc<Totals>,
}

impl Writer for Lines {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.encoder.encode(batch, &mut self.block);
        self.totals.add_rows(batch.rows());
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.block.is_empty() {
            put_out(&self.block, &self.stdout, &self.totals)?;
            self.block.clear();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.flush()
    }
}

struct TableWriter {
    table: Arc<Mutex<Table>>,
    stdout: Arc<Mutex<dyn Write + Send>>,
    totals: Arc<Totals>,
    parallelism: u16,
}

impl Writer for TableWriter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.table.lock().add(batch);
        self.totals.add_rows(batch.rows());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        if self.totals.is_last(self.parallelism) {
            put_out(self.table.lock().render().as_bytes(), &self.stdout, &self.totals)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Float64Array, StringArray, TimestampMillisecondArray, UInt64Array};
    use arrow_schema::{Field, Schema};

    use super::*;

    fn context(stdout: Arc<Mutex<dyn Write + Send>>) -> Context {
        Context { stdout, ..Context::new("out", crate::Files::free(".")) }
    }

    fn shown(options: &str, parallelism: u16) -> String {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("Boise"), None, Some("two\nlines")])),
            Arc::new(UInt64Array::from(vec![1, 20, 300])),
            Arc::new(Float64Array::from(vec![0.1 + 0.2, 1e-9, -7.0])),
            Arc::new(TimestampMillisecondArray::from(vec![0, 1_436_918_400_500, 1]).with_timezone("UTC")),
        ];
        let names = ["city", "n", "x", "at"];
        let fields: Vec<_> = names.iter().zip(&columns).map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
        let stdout: Arc<Mutex<Vec<u8>>> = Arc::default();
        let context = context(Arc::clone(&stdout) as _);
        let sink = Stdout.sink(&options.parse().unwrap(), &Arc::new(Schema::new(fields)), &context).unwrap();
        let mut writers: Vec<_> = (0..parallelism).map(|i| sink.writer(i, parallelism).unwrap()).collect();
        writers[0].write(&Batch::new(3, columns, None)).unwrap();
        writers.iter_mut().for_each(|w| w.flush().unwrap());
        writers.iter_mut().for_each(|w| w.finish().unwrap());
        assert_eq!((sink.report().rows, sink.report().bytes), (3, stdout.lock().len() as u64));
        String::from_utf8(stdout.lock().clone()).unwrap()
    }

    #[test]
    fn tables_are_bounded() {
        // Goal: nobody can ask for a table that does not fit into memory.
        let context = Context::new("out", crate::Files::free("."));
        let bind = |max_rows: usize| {
            let options = format!("format = \"table\"\nmax_rows = {max_rows}").parse().unwrap();
            Stdout.sink(&options, &Arc::new(Schema::empty()), &context)
        };
        assert!(bind(TABLE_ROWS_MAX).is_ok());
        let Err(error) = bind(TABLE_ROWS_MAX + 1) else { panic!("too many") };
        assert!(error.message.contains("at most 100000, not 100001"), "{error}");
    }

    #[test]
    fn it_conforms() {
        // Goal: as `jsonl`, whatever its writers take is put out once, without a line that is torn by another one's.
        let stdout: Arc<Mutex<Vec<u8>>> = Arc::default();
        let bind = |schema: &SchemaRef| Stdout.sink(&toml::Table::new(), schema, &context(Arc::clone(&stdout) as _));
        crate::conformance::sink(&bind, true, &|_| {
            let bytes = std::mem::take(&mut *stdout.lock());
            String::from_utf8(bytes).unwrap().lines().map(String::from).collect()
        });
    }

    #[test]
    fn rows_are_json_lines() {
        // Goal: what `jsonl` puts out, exactly.
        let expected = concat!(
            "{\"city\":\"Boise\",\"n\":1,\"x\":0.30000000000000004,\"at\":\"1970-01-01T00:00:00Z\"}\n",
            "{\"n\":20,\"x\":1e-9,\"at\":\"2015-07-15T00:00:00.500Z\"}\n",
            "{\"city\":\"two\\nlines\",\"n\":300,\"x\":-7.0,\"at\":\"1970-01-01T00:00:00.001Z\"}\n",
        );
        assert_eq!(shown("", 1), expected);
    }

    #[test]
    fn rows_are_a_table() {
        // Goal: what `table` puts out, exactly, also when several subtasks write it and when it has more rows than are shown.
        let first =
            "city   n    x  at\n-----  -  ---  --------------------\nBoise  1  0.3  1970-01-01T00:00:00Z\n… and 2 more rows\n";
        assert_eq!(shown("format = \"table\"\nmax_rows = 1", 2), first);
        let all = concat!(
            "city          n     x  at\n",
            "----------  ---  ----  ------------------------\n",
            "Boise         1   0.3  1970-01-01T00:00:00Z\n",
            "             20  1e-9  2015-07-15T00:00:00.500Z\n",
            "two\\nlines  300    -7  1970-01-01T00:00:00.001Z\n",
        );
        assert_eq!(shown("format = \"table\"", 1), all);
    }
}
