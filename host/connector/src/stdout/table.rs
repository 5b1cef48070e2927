//! Rows as a table of text.

use arrow_schema::{DataType, SchemaRef};
use weir_types::Batch;

use crate::format::cells::{CellValues, Cells};
use crate::format::encoder::write_json;

/// A table that is being filled.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: usize,
    max_rows: usize,
    /// rows that are not shown
    more: u64,
}

struct Column {
    name: String,
    is_number: bool,
    cells: Vec<String>,
}

impl Table {
    pub fn new(schema: &SchemaRef, max_rows: usize) -> Self {
        let column = |field: &arrow_schema::FieldRef| Column {
            name: printable(field.name()),
            is_number: field.data_type().is_numeric() && !matches!(field.data_type(), DataType::Timestamp(_, _)),
            cells: Vec::new(),
        };
        Self { columns: schema.fields().iter().map(column).collect(), rows: 0, max_rows, more: 0 }
    }

    /// Adds rows, as many as are to be shown.
    pub fn add(&mut self, batch: &Batch) {
        let shown = batch.rows().min(self.max_rows - self.rows);
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            let cells = Cells::new(array);
            column.cells.extend((0..shown).map(|row| cell(&cells, row)));
        }
        self.rows += shown;
        self.more += (batch.rows() - shown) as u64;
    }

    /// The text of the table: a header, a rule, the rows, and how many more there are.
    pub fn render(&self) -> String {
        let width = |column: &Column| column.cells.iter().chain([&column.name]).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = self.columns.iter().map(width).collect();
        let mut text = String::new();
        let mut line = |cell: &dyn Fn(usize) -> String| {
            let cells = widths.iter().enumerate().map(|(i, &width)| padded(&cell(i), width, self.columns[i].is_number));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        };
        line(&|i| self.columns[i].name.clone());
        line(&|i| "-".repeat(widths[i]));
        (0..self.rows).for_each(|row| line(&|i| self.columns[i].cells[row].clone()));
        if self.more > 0 {
            text.push_str(&format!("… and {} more {}\n", self.more, if self.more == 1 { "row" } else { "rows" }));
        }
        text
    }
}

/// A cell as wide as its column, a number at its right. By hand, since a width in a format string is at most 65,535.
fn padded(cell: &str, width: usize, is_number: bool) -> String {
    let spaces = " ".repeat(width.saturating_sub(cell.chars().count()));
    if is_number { spaces + cell } else { cell.to_owned() + &spaces }
}

/// A cell's text; empty where there is no value.
fn cell(cells: &Cells, row: usize) -> String {
    if cells.is_null(row) {
        return String::new();
    }
    if let Some(text) = cells.text(row) {
        return printable(text);
    }
    match &cells.values {
        CellValues::Float64(values) => short(values[row]),
        CellValues::Float32(values) => short(f64::from(values[row])),
        _ => {
            let mut text = Vec::new();
            if !cells.write_plain(row, &mut text) {
                write_json(cells, row, &mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        }
    }
}

/// A number with at most 6 decimals; very small and very large ones with an exponent.
fn short(value: f64) -> String {
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    let size = value.abs();
    if value == 0.0 || !value.is_finite() || (1e-3..1e15).contains(&size) {
        return trim(&format!("{value:.6}"));
    }
    let scientific = format!("{value:.6e}");
    match scientific.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trim(mantissa)),
        None => scientific,
    }
}

/// Text in which nothing moves a terminal's cursor.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, StringArray, UInt64Array};
    use arrow_schema::{Field, Schema};

    use super::*;

    #[test]
    fn long_cells_widen_their_columns() {
        // Goal: columns are as wide as their longest cell, on both sides, also where that is wider than a format string can say.
        let long = "ß".repeat(70_000);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec![long.as_str(), "y"])), Arc::new(UInt64Array::from(vec![1, 20]))];
        let names = ["text", long.as_str()];
        let fields: Vec<_> = names.iter().zip(&columns).map(|(n, c)| Field::new(*n, c.data_type().clone(), false)).collect();
        let mut table = Table::new(&Arc::new(Schema::new(fields)), 10);
        table.add(&Batch::new(2, columns, None));
        let spaces = |count: usize| " ".repeat(count);
        let expected = [
            format!("text{}  {long}", spaces(69_996)),
            format!("{0}  {0}", "-".repeat(70_000)),
            format!("{long}  {}1", spaces(69_999)),
            format!("y{}  {}20", spaces(69_999), spaces(69_998)),
        ];
        // Without the lines themselves: they are too long to be read.
        assert!(table.render().lines().eq(expected), "the table has other lines");
    }
}
