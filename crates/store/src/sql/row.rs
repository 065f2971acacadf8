//! Rows of either database, read by column number into the grid's types.

use std::str::FromStr;

use protocol::{Digest, Fuel, JobId, Micros};
use sqlx::Row as _;

use crate::fault::Fault;

/// A row that was read.
pub(crate) enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

impl Row {
    pub(crate) fn opt_int(&self, column: usize) -> Result<Option<i64>, Fault> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    pub(crate) fn opt_text(&self, column: usize) -> Result<Option<String>, Fault> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    pub(crate) fn opt_bytes(&self, column: usize) -> Result<Option<Vec<u8>>, Fault> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    pub(crate) fn int(&self, column: usize) -> Result<i64, Fault> {
        self.opt_int(column)?.ok_or_else(|| missing(column))
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, Fault> {
        self.opt_text(column)?.ok_or_else(|| missing(column))
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<Vec<u8>, Fault> {
        self.opt_bytes(column)?.ok_or_else(|| missing(column))
    }

    pub(crate) fn flag(&self, column: usize) -> Result<bool, Fault> {
        Ok(self.int(column)? != 0)
    }

    /// A number of a smaller type.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: usize) -> Result<T, Fault> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_beyond| Fault::data(format!("column {column} holds {value}, which is out of its range")))
    }

    pub(crate) fn opt_number<T: TryFrom<i64>>(&self, column: usize) -> Result<Option<T>, Fault> {
        if self.opt_int(column)?.is_none() { Ok(None) } else { self.number(column).map(Some) }
    }

    pub(crate) fn fuel(&self, column: usize) -> Result<Fuel, Fault> {
        let count = self.number(column)?;
        Fuel::new(count).map_err(|e| Fault::data(e.to_string()))
    }

    pub(crate) fn time(&self, column: usize) -> Result<Micros, Fault> {
        self.int(column).map(Micros)
    }

    pub(crate) fn opt_time(&self, column: usize) -> Result<Option<Micros>, Fault> {
        Ok(self.opt_int(column)?.map(Micros))
    }

    /// A name or a state, read by its own parser.
    pub(crate) fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, column: usize) -> Result<T, Fault> {
        self.text(column)?.parse().map_err(|e: T::Err| Fault::data(e.to_string()))
    }

    pub(crate) fn opt_parsed<T: FromStr<Err: std::fmt::Display>>(&self, column: usize) -> Result<Option<T>, Fault> {
        let text = self.opt_text(column)?;
        text.map(|text| text.parse().map_err(|e: T::Err| Fault::data(e.to_string()))).transpose()
    }

    pub(crate) fn job(&self, column: usize) -> Result<JobId, Fault> {
        let bytes = self.bytes(column)?;
        uuid::Uuid::from_slice(&bytes).map(JobId).map_err(|e| Fault::data(format!("column {column} holds no job id: {e}")))
    }

    pub(crate) fn opt_digest(&self, column: usize) -> Result<Option<Digest>, Fault> {
        let Some(bytes) = self.opt_bytes(column)? else { return Ok(None) };
        let length = bytes.len();
        let digest = <[u8; 32]>::try_from(bytes);
        digest
            .map(|d| Some(Digest(d)))
            .map_err(|_length| Fault::data(format!("column {column} holds a digest of {length} bytes")))
    }

    pub(crate) fn digest(&self, column: usize) -> Result<Digest, Fault> {
        self.opt_digest(column)?.ok_or_else(|| missing(column))
    }
}

fn missing(column: usize) -> Fault {
    Fault::data(format!("column {column} has no value"))
}
