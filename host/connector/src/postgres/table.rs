//! The table that a sink writes to, and whether its rows fit.

use arrow_schema::Schema;

use super::lines::takers;
use super::session::Session;
use crate::Error;

/// The name of a table, perhaps with that of its schema; each exactly as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    schema: Option<String>,
    table: String,
}

impl Name {
    /// Reads `TABLE` or `SCHEMA.TABLE`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (schema, table) = match text.split_once('.') {
            Some((schema, table)) => (Some(schema.to_owned()), table),
            None => (None, text),
        };
        if table.is_empty() || schema.as_ref().is_some_and(String::is_empty) || text.contains('\0') {
            return Err(Error::options(format!("table = \"{text}\": it has to be like \"TABLE\" or \"SCHEMA.TABLE\"")));
        }
        Ok(Self { schema, table: table.to_owned() })
    }

    /// As SQL writes it.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.table)),
            None => quoted(&self.table),
        }
    }

    /// As messages write it.
    pub fn shown(&self) -> String {
        match &self.schema {
            Some(schema) => format!("the table {schema}.{}", self.table),
            None => format!("the table {}", self.table),
        }
    }
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    /// the type as `pg_type` names it; of a domain, the one underneath; `enum` for all enumerations
    pub base: String,
    /// the type as SQL writes it
    pub declared: String,
    pub not_null: bool,
    /// whether the table has a value of its own if none is given
    has_default: bool,
    /// whether the table takes no value
    is_generated: bool,
}

/// A table that was found, and takes the rows of the sink.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// the schema that it is in, as SQL writes it
    pub schema: String,
    /// the table, with its schema, as SQL writes it
    pub quoted: String,
    /// what messages call it
    pub shown: String,
    /// the columns of the sink's rows, in their order
    pub columns: Vec<Column>,
}

/// The columns of the table of this name, and where it is. A domain may be one over another, and each of them may forbid null; the default is that of the
/// column's own.
const COLUMNS: &str = "
    WITH RECURSIVE under (type, base, kind, name, not_null) AS (
        SELECT oid, typbasetype, typtype, typname, typnotnull FROM pg_type
        WHERE oid IN (SELECT atttypid FROM pg_attribute WHERE attrelid = to_regclass($1::text))
        UNION ALL
        SELECT u.type, b.typbasetype, b.typtype, b.typname, u.not_null OR b.typnotnull
        FROM under u JOIN pg_type b ON b.oid = u.base WHERE u.kind = 'd'
    )
    SELECT a.attname, CASE WHEN b.kind = 'e' THEN 'enum' ELSE b.name::text END, format_type(a.atttypid, a.atttypmod),
        a.attnotnull OR b.not_null, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attidentity = 'a' OR a.attgenerated <> '',
        n.nspname, c.relname
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    JOIN under b ON b.type = a.atttypid AND b.kind <> 'd'
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

/// The columns of each index that makes rows unique, and the name of those that do so for a constraint that is deferrable.
const UNIQUE: &str = "
    SELECT array_agg(a.attname::text ORDER BY a.attname::text), CASE WHEN NOT i.indimmediate THEN c.relname::text END
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
    JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = to_regclass($1::text) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid
    GROUP BY i.indexrelid, i.indimmediate, c.relname";

impl Table {
    /// Finds the table, and checks that it takes rows of this schema.
    pub fn find(session: &Session, name: &Name, schema: &Schema) -> Result<Self, Error> {
        let regclass = name.quoted();
        let shown = name.shown();
        let rows = session
            .run(&format!("{shown} cannot be looked up"), |client| async move { client.query(COLUMNS, &[&regclass]).await })?;
        let Some(first) = rows.first() else {
            return Err(Error::options(format!(
                "there is no {} with columns that this user may see; create it before the job starts (names are case-sensitive)",
                shown.trim_start_matches("the ")
            )));
        };
        let (in_schema, table): (String, String) = (first.get(6), first.get(7));
        let found: Vec<_> = rows
            .iter()
            .map(|row| Column {
                name: row.get(0),
                base: row.get(1),
                declared: row.get(2),
                not_null: row.get(3),
                has_default: row.get(4),
                is_generated: row.get(5),
            })
            .collect();
        let columns = fit(&shown, &found, schema)?;
        let quoted_schema = quoted(&in_schema);
        Ok(Self { quoted: format!("{quoted_schema}.{}", quoted(&table)), schema: quoted_schema, shown, columns })
    }

    /// Checks that rows with the same key are one row in the table.
    pub fn check_key(&self, session: &Session, key: &[String]) -> Result<(), Error> {
        for name in key {
            match self.columns.iter().find(|column| column.name == *name) {
                Some(column) if column.not_null => {}
                Some(_) => {
                    return Err(Error::options(format!(
                        "key: the column \"{name}\" of {} may be null, and null is never the same as null; set it NOT NULL",
                        self.shown
                    )));
                }
                None => {
                    let names: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
                    return Err(Error::options(format!(
                        "key: the rows have no column \"{name}\"; they have: {}",
                        names.join(", ")
                    )));
                }
            }
        }
        let mut wanted = key.to_vec();
        wanted.sort();
        let regclass = self.quoted.clone();
        let what = format!("the indexes of {} cannot be looked up", self.shown);
        let rows = session.run(&what, |client| async move { client.query(UNIQUE, &[&regclass]).await })?;
        let found: Vec<Option<String>> =
            rows.iter().filter(|row| row.get::<_, Vec<String>>(0) == wanted).map(|row| row.get(1)).collect();
        let names: Vec<_> = key.iter().map(|name| quoted(name)).collect();
        let names = names.join(", ");
        if found.is_empty() {
            return Err(Error::options(format!(
                "{} has no unique index on ({names}), by which rows with the same key are found; make one: CREATE UNIQUE INDEX ON {} ({names})",
                self.shown, self.quoted
            )));
        }
        // One of these is in the way even beside another index that would do.
        match found.into_iter().flatten().next() {
            None => Ok(()),
            Some(constraint) => Err(Error::options(format!(
                "the constraint \"{constraint}\" of {} is DEFERRABLE, and rows with the same key are not found by such a one; put another one in its place: \
                 ALTER TABLE {} DROP CONSTRAINT {}, ADD UNIQUE ({names})",
                self.shown,
                self.quoted,
                quoted(&constraint)
            ))),
        }
    }

    /// The names of the columns, as SQL writes them.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }

    /// The columns with their types, for a table that takes the same values.
    pub fn declarations(&self) -> String {
        let declare = |column: &Column| {
            format!("{} {}{}", quoted(&column.name), column.declared, if column.not_null { " NOT NULL" } else { "" })
        };
        let declared: Vec<_> = self.columns.iter().map(declare).collect();
        declared.join(", ")
    }
}

/// The table's columns for those of the rows, in their order.
fn fit(shown: &str, found: &[Column], schema: &Schema) -> Result<Vec<Column>, Error> {
    let fitting = |field: &arrow_schema::FieldRef| {
        let Some(column) = found.iter().find(|column| column.name == *field.name()) else {
            let names: Vec<_> = found.iter().map(|column| column.name.as_str()).collect();
            return Err(Error::options(format!("{shown} has no column \"{}\"; it has: {}", field.name(), names.join(", "))));
        };
        let takers = takers(field.data_type());
        if !takers.contains(&column.base.as_str()) {
            return Err(Error::options(format!(
                "the column \"{}\" of {shown} is of type {}, and the rows have {} there; its type can be: {}",
                field.name(),
                column.declared,
                field.data_type(),
                takers.join(", ")
            )));
        }
        if column.is_generated {
            return Err(Error::options(format!(
                "the column \"{}\" of {shown} is generated by the database, and takes no values",
                field.name()
            )));
        }
        Ok(column.clone())
    };
    let columns = schema.fields().iter().map(fitting).collect::<Result<Vec<_>, _>>()?;
    let left_out = |column: &&Column| schema.column_with_name(&column.name).is_none();
    let missing = found.iter().filter(left_out).find(|c| c.not_null && !c.has_default && !c.is_generated);
    match missing {
        None => Ok(columns),
        Some(column) => Err(Error::options(format!(
            "the column \"{}\" of {shown} is NOT NULL, and the rows do not have it; give it a DEFAULT in the table, or a value in the job",
            column.name
        ))),
    }
}
