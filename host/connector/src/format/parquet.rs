//! Apache Parquet.
//!
//! Reading, only the chunks of wanted columns are decoded. Writing, each subtask makes row groups of its own, so that subtasks encode
//! beside each other and only take turns to append; the footer completes the file.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, RecordBatchReader};
use arrow_schema::{DataType, Schema, SchemaRef};
use parking_lot::Mutex;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, ArrowWriter, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use weir_types::Batch;

use super::casting;
use crate::Error;
use crate::error::BRING_BACK;

/// How many rows are decoded at once.
const READ_ROWS: usize = 8192;
/// How many rows a subtask collects into a row group.
const ROW_GROUP_ROWS: usize = 256 * 1024;
/// How large the row groups of a writer that may have many files open become at most, for they are in memory until they are written.
const ROW_GROUP_BYTES: usize = 32 << 20;

fn failed(what: &str, path: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::io(format!("the parquet file {path} cannot be {what}"), error)
}

/// Reads the rows of a file.
pub(crate) struct Reader {
    /// what messages call the file
    path: String,
    rows: ParquetRecordBatchReader,
    /// for each column of the rows, which of the file's projected columns it is
    columns: Vec<usize>,
    schema: SchemaRef,
    decoded: Batch,
    position: u64,
}

impl Reader {
    /// Reads a file behind its first `position` rows. `path` is what messages call it.
    pub fn new(file: File, path: &str, schema: &SchemaRef, position: u64) -> Result<Self, Error> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)
            .map_err(|e| Error::unreadable(format!("the parquet file {path} cannot be read"), e))?;
        let fields = builder.schema().fields().clone();
        let mut roots = Vec::new();
        for wanted in schema.fields() {
            let Some((index, found)) = fields.find(wanted.name()) else {
                let names: Vec<_> = fields.iter().map(|f| f.name().as_str()).collect();
                return Err(Error::options(format!("{path} has no column \"{}\"; it has: {}", wanted.name(), names.join(", "))));
            };
            if let Some(why) = casting::misfit(wanted.name(), found.data_type(), wanted.data_type()) {
                return Err(Error::options(format!("{path}: {why}")));
            }
            roots.push(index);
        }
        let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        if position > total {
            return Err(Error::options(format!(
                "{path} has {total} rows; it cannot be read from row {position} on, up to which it was read before: {BRING_BACK}"
            )));
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let rows = builder
            .with_projection(mask)
            .with_batch_size(READ_ROWS)
            .with_offset(usize::try_from(position).unwrap_or(usize::MAX))
            .build()
            .map_err(|e| failed("read", path, e))?;
        let projected = rows.schema();
        let columns = schema.fields().iter().map(|f| projected.index_of(f.name())).collect::<Result<_, _>>();
        Ok(Self {
            path: path.into(),
            rows,
            columns: columns.map_err(|e| failed("read", path, e))?,
            schema: Arc::clone(schema),
            decoded: Batch::empty(schema),
            position,
        })
    }

    /// The number of rows that were read or passed over.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next rows; none at the end.
    pub fn read(&mut self, max_rows: usize) -> Result<Option<Batch>, Error> {
        while self.decoded.is_empty() {
            match self.rows.next() {
                None => return Ok(None),
                Some(batch) => self.decoded = self.convert(&batch.map_err(|e| failed("read", &self.path, e))?)?,
            }
        }
        let rows = self.decoded.rows().min(max_rows.max(1));
        let head = self.decoded.slice(0, rows);
        self.decoded = self.decoded.slice(rows, self.decoded.rows() - rows);
        self.position += rows as u64;
        Ok(Some(head))
    }

    /// The columns in the order and the types of the rows.
    fn convert(&self, batch: &RecordBatch) -> Result<Batch, Error> {
        let convert = |(field, &index): (&arrow_schema::FieldRef, &usize)| -> Result<ArrayRef, Error> {
            casting::read_as(field.name(), batch.column(index), field, None).map_err(|why| {
                let (first, last) = (self.position + 1, self.position + batch.num_rows() as u64);
                Error::malformed(format!("{}, rows {first} to {last}: {why}", self.path))
            })
        };
        let columns = self.schema.fields().iter().zip(&self.columns).map(convert).collect::<Result<_, _>>()?;
        Ok(Batch::new(batch.num_rows(), columns, None))
    }
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()))
}

/// A file that several writers append row groups to.
pub(crate) struct Output {
    /// what messages call the file
    path: String,
    /// of the columns as they are stored, all in the plain layouts
    schema: SchemaRef,
    groups: ArrowRowGroupWriterFactory,
    /// none once it is complete
    file: Mutex<Option<SerializedFileWriter<File>>>,
}

impl Output {
    /// Begins a file. `path` is what messages call it.
    pub fn new(file: File, path: &str, schema: &SchemaRef) -> Result<Self, Error> {
        let (writer, groups) = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties().build()))
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|e| failed("written", path, e))?;
        Ok(Self { path: path.into(), schema: Arc::clone(schema), groups, file: Mutex::new(Some(writer)) })
    }

    /// Appends a row group of these rows. Returns the bytes that it takes.
    fn append(&self, batches: &[Batch]) -> Result<u64, Error> {
        self.try_append(batches).map_err(|e| failed("written", &self.path, e))
    }

    fn try_append(&self, batches: &[Batch]) -> Result<u64, ParquetError> {
        let mut writers = self.groups.create_column_writers(0)?;
        for batch in batches {
            let mut leaf_writers = writers.iter_mut();
            for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
                // Text in views is written as plain text.
                let column = arrow_cast::cast(column, field.data_type())?;
                for (leaf, writer) in compute_leaves(field, &column)?.iter().zip(leaf_writers.by_ref()) {
                    writer.write(leaf)?;
                }
            }
        }
        let chunks = writers.into_iter().map(|w| w.close()).collect::<Result<Vec<_>, _>>()?;
        let mut file = self.file.lock();
        let file = file.as_mut().ok_or_else(|| ParquetError::General("the file is complete".into()))?;
        let mut group = file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        Ok(u64::try_from(group.close()?.compressed_size()).unwrap_or(0))
    }

    /// Completes the file by its footer. Returns the bytes of the file.
    pub fn complete(&self) -> Result<u64, Error> {
        let Some(mut file) = self.file.lock().take() else { return Ok(0) };
        file.finish().map_err(|e| failed("completed", &self.path, e))?;
        Ok(file.bytes_written() as u64)
    }
}

/// A file that one writer writes by itself.
pub(crate) struct Alone<W: Write + Send> {
    /// what messages call the file
    path: String,
    schema: SchemaRef,
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> Alone<W> {
    /// Begins a file. `path` is what messages call it.
    pub fn new(file: W, path: String, schema: &SchemaRef) -> Result<Self, Error> {
        let properties =
            properties().set_max_row_group_row_count(Some(ROW_GROUP_ROWS)).set_max_row_group_bytes(Some(ROW_GROUP_BYTES)).build();
        let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties)).map_err(|e| failed("written", &path, e))?;
        Ok(Self { path, schema: Arc::clone(schema), writer })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let failed = |e: ParquetError| failed("written", &self.path, e);
        // Text in views is written as plain text.
        let columns = self.schema.fields().iter().zip(batch.columns()).map(|(f, c)| arrow_cast::cast(c, f.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| failed(e.into()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        self.writer.write(&batch.map_err(|e| failed(e.into()))?).map_err(failed)
    }

    /// About how many bytes the file has so far.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Completes the file by its footer.
    pub fn complete(self) -> Result<W, Error> {
        self.writer.into_inner().map_err(|e| failed("completed", &self.path, e))
    }
}

/// The rows that a subtask collects for its next row group.
#[derive(Default)]
pub(crate) struct RowGroup {
    batches: Vec<Batch>,
    rows: usize,
}

impl RowGroup {
    /// Adds rows; a full group goes to the file. Returns the bytes that went there.
    pub fn add(&mut self, batch: &Batch, output: &Output) -> Result<u64, Error> {
        self.batches.push(batch.clone());
        self.rows += batch.rows();
        if self.rows >= ROW_GROUP_ROWS { self.end(output) } else { Ok(0) }
    }

    /// Appends what there is to the file. Returns the bytes that went there.
    pub fn end(&mut self, output: &Output) -> Result<u64, Error> {
        self.rows = 0;
        let batches = std::mem::take(&mut self.batches);
        if batches.is_empty() { Ok(0) } else { output.append(&batches) }
    }
}

/// Refuses a schema that parquet does not have.
pub(crate) fn check(schema: &Schema) -> Result<(), Error> {
    match schema.fields().iter().find(|f| matches!(f.data_type(), DataType::Struct(fields) if fields.is_empty())) {
        None => Ok(()),
        Some(field) => {
            Err(Error::options(format!("parquet has no records without fields, as the column \"{}\" is", field.name())))
        }
    }
}
