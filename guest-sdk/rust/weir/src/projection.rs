//! Which columns of a stream cross into the component, and how they become the columns that a row is read from.

use crate::bindings::weir::dataflow::types::DataType;
use crate::record::Row;
use crate::value::Column;

/// The columns, among those of a stream, that are read as others, found by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Projection {
    /// the columns of the stream that cross, each once
    pub columns: Vec<u32>,
    /// for each column that is read, the one of `columns` that it is
    places: Vec<usize>,
    /// how many buffers each of `columns` has
    buffers: Vec<usize>,
}

impl Projection {
    /// Finds `wanted` among `offered`. What stays with the host (`Pass`) does not cross.
    pub fn new(offered: &[Column], wanted: &[Column]) -> Result<Self, String> {
        let mut projection = Self::default();
        for column in wanted.iter().filter(|c| !c.passed) {
            let index = offered.iter().position(|o| o.name() == column.name()).filter(|&i| offered[i].fields == column.fields);
            let index = index.ok_or_else(|| {
                format!("the column `{}` is read, but the stream has no column of this name and type", column.name())
            })?;
            let place = projection.columns.iter().position(|&c| c == index as u32).unwrap_or_else(|| {
                projection.columns.push(index as u32);
                projection.buffers.push(buffers_of(column));
                projection.columns.len() - 1
            });
            projection.places.push(place);
        }
        Ok(projection)
    }

    /// The buffers of the columns that are read, from those that crossed. They differ if a column is read several times (by
    /// several aggregates of one window).
    pub fn expand(&self, buffers: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        if self.places.len() == self.columns.len() {
            return buffers;
        }
        let start = |place: usize| self.buffers[..place].iter().sum::<usize>();
        self.places.iter().flat_map(|&place| buffers.iter().skip(start(place)).take(self.buffers[place]).cloned()).collect()
    }
}

/// How many buffers a column has, with what is nested in it.
fn buffers_of(column: &Column) -> usize {
    let own = |data_type| match data_type {
        DataType::Structure => 0,
        DataType::Utf8 | DataType::Binary => 2,
        _ => 1,
    };
    column.fields.iter().map(|field| 1 + own(field.data_type)).sum()
}

/// The columns of `T` in a stream of `T`: all that do not stay with the host.
pub(crate) fn own_columns<T: Row>() -> Vec<u32> {
    T::columns().iter().enumerate().filter(|(_, c)| !c.passed).map(|(i, _)| i as u32).collect()
}
