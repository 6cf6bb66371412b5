//! The values that both engines have, as arguments and as cells.

use alloy::primitives::{Address, B256};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Postgres, Row as _, Sqlite, Type, ValueRef as _};

/// An argument. A NULL has a type too: PostgreSQL asks for it.
#[derive(Debug, Clone)]
pub(in crate::store) enum Value {
    Int(Option<i64>),
    Bytes(Option<Vec<u8>>),
    Text(Option<String>),
    /// A column of a bulk statement, for PostgreSQL only.
    Ints(Vec<Option<i64>>),
    BytesList(Vec<Option<Vec<u8>>>),
    Texts(Vec<Option<String>>),
}

macro_rules! value_from {
    ($($from:ty => $variant:ident($value:ident) $to:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                Self::$variant($to)
            }
        })*
    };
}

value_from! {
    i64 => Int(v) Some(v);
    Option<i64> => Int(v) v;
    Vec<u8> => Bytes(v) Some(v);
    Option<Vec<u8>> => Bytes(v) v;
    B256 => Bytes(v) Some(v.to_vec());
    Address => Bytes(v) Some(v.to_vec());
    Option<Address> => Bytes(v) v.map(|a| a.to_vec());
    String => Text(v) Some(v);
    &String => Text(v) Some(v.clone());
    &str => Text(v) Some(v.to_owned());
    Option<&str> => Text(v) v.map(str::to_owned);
}

fn encoded(result: Result<(), sqlx::error::BoxDynError>) -> sqlx::Result<()> {
    result.map_err(sqlx::Error::Encode)
}

pub(super) fn sqlite_arguments(values: Vec<Value>) -> sqlx::Result<SqliteArguments> {
    let mut args = SqliteArguments::default();
    args.reserve(values.len(), 0);
    for value in values {
        encoded(match value {
            Value::Int(v) => Arguments::add(&mut args, v),
            Value::Bytes(v) => Arguments::add(&mut args, v),
            Value::Text(v) => Arguments::add(&mut args, v),
            Value::Ints(_) | Value::BytesList(_) | Value::Texts(_) => {
                Err("SQLite has no lists".into())
            }
        })?;
    }
    Ok(args)
}

pub(super) fn postgres_arguments(values: Vec<Value>) -> sqlx::Result<PgArguments> {
    let mut args = PgArguments::default();
    for value in values {
        encoded(match value {
            Value::Int(v) => args.add(v),
            Value::Bytes(v) => args.add(v),
            Value::Text(v) => args.add(v),
            Value::Ints(v) => args.add(v),
            Value::BytesList(v) => args.add(v),
            Value::Texts(v) => args.add(v),
        })?;
    }
    Ok(args)
}

/// A row of either engine.
#[derive(Debug)]
pub(in crate::store) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self::Postgres(row)
    }
}

impl Row {
    /// A cell by the name of its column.
    pub(in crate::store) fn get<T>(&self, column: &str) -> sqlx::Result<T>
    where
        T: for<'r> sqlx::Decode<'r, Sqlite>
            + Type<Sqlite>
            + for<'r> sqlx::Decode<'r, Postgres>
            + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// True for a column that is there and NULL.
    pub(in crate::store) fn is_null(&self, column: &str) -> bool {
        match self {
            Self::Sqlite(row) => row.try_get_raw(column).is_ok_and(|v| v.is_null()),
            Self::Postgres(row) => row.try_get_raw(column).is_ok_and(|v| v.is_null()),
        }
    }
}
