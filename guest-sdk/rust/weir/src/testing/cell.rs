//! Rows as values instead of columns: slow, and easy to pick apart.

use crate::bindings::weir::dataflow::types::{Batch, DataType, Field};
use crate::value::{BitWriter, Buffers, OffsetWriter, Offsets, Writer};

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Cell {
    /// no value
    Missing,
    Bool(bool),
    /// a number or time: its little-endian bytes
    Number(Vec<u8>),
    /// text or bytes
    Bytes(Vec<u8>),
    List(Vec<Cell>),
    Record(Vec<Cell>),
}

/// The columns of some rows, apart: `fields` is a schema, depth first.
pub(super) fn decode(fields: &[Field], batch: Batch) -> Result<Vec<Vec<Cell>>, String> {
    let rows = batch.rows as usize;
    let mut buffers = Buffers::new(rows, batch.buffers);
    let columns = top_level(fields).map(|column| decode_column(column, &mut buffers, rows)).collect::<Result<Vec<_>, _>>()?;
    Ok(transpose(rows, columns))
}

/// The columns of a schema, each with what is nested in it.
pub(super) fn top_level(fields: &[Field]) -> impl Iterator<Item = &[Field]> {
    let mut rest = fields;
    std::iter::from_fn(move || {
        let (column, tail) = rest.split_at_checked(length(rest)?)?;
        rest = tail;
        Some(column)
    })
}

/// How many fields the first one takes up with those nested in it.
fn length(fields: &[Field]) -> Option<usize> {
    let first = fields.first()?;
    (0..first.children).try_fold(1, |end, _| Some(end + length(&fields[end..])?))
}

fn transpose(rows: usize, columns: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    (0..rows).map(|_| columns.iter_mut().filter_map(Iterator::next).collect()).collect()
}

fn decode_column(fields: &[Field], buffers: &mut Buffers, rows: usize) -> Result<Vec<Cell>, String> {
    let validity = buffers.take(0)?;
    let mut cells = match fields[0].data_type {
        DataType::Structure => {
            let columns = top_level(&fields[1..]).map(|f| decode_column(f, buffers, rows)).collect::<Result<Vec<_>, _>>()?;
            transpose(rows, columns).into_iter().map(Cell::Record).collect()
        }
        DataType::Sequence => {
            let (offsets, end) = Offsets::open(buffers, rows)?;
            let items = decode_column(&fields[1..], buffers, end)?;
            (0..rows).map(|row| offsets.bounds(row)).map(|(start, end)| Cell::List(items[start..end].to_vec())).collect()
        }
        DataType::Utf8 | DataType::Binary => {
            let (offsets, end) = Offsets::open(buffers, rows)?;
            let bytes = buffers.take(end)?;
            (0..rows).map(|row| offsets.bounds(row)).map(|(start, end)| Cell::Bytes(bytes[start..end].to_vec())).collect()
        }
        DataType::Boolean => {
            let bits = buffers.take(rows.div_ceil(8))?;
            (0..rows).map(|row| Cell::Bool(bits[row / 8] >> (row % 8) & 1 == 1)).collect()
        }
        number => {
            let bytes = buffers.take(rows * width(number))?;
            bytes.chunks_exact(width(number)).map(|number| Cell::Number(number.to_vec())).collect::<Vec<_>>()
        }
    };
    if cells.len() != rows {
        return Err(format!("the column `{}` has {} rows instead of {rows}", fields[0].name, cells.len()));
    }
    if !validity.is_empty() {
        let missing = |row: &usize| validity[row / 8] >> (row % 8) & 1 == 0;
        (0..rows).filter(missing).for_each(|row| cells[row] = Cell::Missing);
    }
    Ok(cells)
}

/// The width of a number in bytes.
fn width(data_type: DataType) -> usize {
    match data_type {
        DataType::Int8 | DataType::Uint8 => 1,
        DataType::Int16 | DataType::Uint16 => 2,
        DataType::Int32 | DataType::Uint32 | DataType::Float32 => 4,
        _ => 8,
    }
}

/// Rows as columns again.
pub(super) fn encode<'a>(fields: &[Field], rows: impl ExactSizeIterator<Item = Vec<&'a Cell>>) -> Batch {
    let count = rows.len() as u32;
    let mut columns: Vec<Vec<&Cell>> = top_level(fields).map(|_| vec![]).collect();
    for row in rows {
        columns.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
    }
    let mut buffers = vec![];
    top_level(fields).zip(&columns).for_each(|(fields, column)| encode_column(fields, column, &mut buffers));
    Batch { rows: count, buffers }
}

fn encode_column(fields: &[Field], cells: &[&Cell], buffers: &mut Vec<Vec<u8>>) {
    buffers.push(if fields[0].nullable { bits(cells.iter().map(|c| **c != Cell::Missing)) } else { vec![] });
    match fields[0].data_type {
        DataType::Structure => {
            for (i, field) in top_level(&fields[1..]).enumerate() {
                let nested: Vec<_> =
                    cells.iter().map(|c| if let Cell::Record(cells) = c { &cells[i] } else { &Cell::Missing }).collect();
                encode_column(field, &nested, buffers);
            }
        }
        DataType::Sequence => {
            let lists: Vec<&[Cell]> = cells.iter().map(|c| if let Cell::List(items) = c { &items[..] } else { &[] }).collect();
            buffers.push(offsets(lists.iter().map(|l| l.len())));
            encode_column(&fields[1..], &lists.concat().iter().collect::<Vec<_>>(), buffers);
        }
        DataType::Utf8 | DataType::Binary => {
            let values: Vec<&[u8]> = cells.iter().map(|c| if let Cell::Bytes(bytes) = c { &bytes[..] } else { &[] }).collect();
            buffers.push(offsets(values.iter().map(|v| v.len())));
            buffers.push(values.concat());
        }
        DataType::Boolean => buffers.push(bits(cells.iter().map(|c| **c == Cell::Bool(true)))),
        number => {
            let none = vec![0; width(number)];
            buffers.push(cells.iter().flat_map(|c| if let Cell::Number(bytes) = c { bytes } else { &none }).copied().collect());
        }
    }
}

fn bits(values: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut writer = BitWriter::default();
    writer.reserve(values.len());
    values.for_each(|value| writer.push(value));
    written(|buffers| writer.finish(buffers))
}

fn offsets(lengths: impl ExactSizeIterator<Item = usize>) -> Vec<u8> {
    let mut writer = OffsetWriter::default();
    writer.reserve(lengths.len());
    let end = lengths.fold(0, |start, length| {
        writer.push(start);
        start + length
    });
    written(|buffers| writer.finish(end, buffers))
}

/// The one buffer that `finish` writes.
fn written(finish: impl FnOnce(&mut Vec<Vec<u8>>) -> Result<(), String>) -> Vec<u8> {
    let mut buffers = vec![];
    finish(&mut buffers).expect("the columns of a test are small");
    buffers.swap_remove(0)
}
