//! What goes wrong inside the store, and what the caller is told of it.

use ports::store::StoreError;

/// A statement's failure, before it is known to which operation it belongs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The driver's or the database's.
    #[error("statement failed")]
    Sql(#[from] sqlx::Error),
    /// What is stored, or was to be stored, cannot be understood.
    #[error("{0}")]
    Data(String),
}

impl From<protocol::CodecError> for Fault {
    fn from(error: protocol::CodecError) -> Self {
        Self::Data(error.to_string())
    }
}

impl From<protocol::frame::FrameError> for Fault {
    fn from(error: protocol::frame::FrameError) -> Self {
        Self::Data(error.to_string())
    }
}

/// What a database error means to the caller.
enum Meaning {
    /// The transaction lost a race; doing it again may succeed at once.
    Race,
    /// No space.
    Full,
    /// The data is not as expected; waiting does not help.
    Wrong,
    /// The schema or the rights are not.
    Unfit,
    /// Anything else: the database is away, too slow, shutting down.
    Away,
}

impl Fault {
    pub(crate) fn data(detail: impl Into<String>) -> Self {
        Self::Data(detail.into())
    }

    /// Whether the transaction lost a race against another and may simply be tried again.
    pub(crate) fn is_race(&self) -> bool {
        match self {
            Self::Sql(error) => is_race(error),
            Self::Data(_) => false,
        }
    }

    /// What the caller is told.
    pub(crate) fn of(self, operation: &'static str) -> StoreError {
        match self {
            Self::Data(detail) => StoreError::Corrupt { operation, detail },
            Self::Sql(error) => match meaning(&error) {
                Meaning::Full => StoreError::Full { operation, source: Box::new(error) },
                Meaning::Unfit => StoreError::Unfit { operation, detail: error.to_string() },
                Meaning::Wrong => StoreError::Corrupt { operation, detail: error.to_string() },
                Meaning::Race | Meaning::Away => StoreError::Unavailable { operation, source: Box::new(error) },
            },
        }
    }
}

/// Whether the database ended a transaction for the sake of another.
pub(crate) fn is_race(error: &sqlx::Error) -> bool {
    matches!(meaning(error), Meaning::Race)
}

fn meaning(error: &sqlx::Error) -> Meaning {
    if let sqlx::Error::Database(database) = error {
        let code = database.code().unwrap_or_default();
        let postgres = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some();
        return if postgres { postgres_meaning(&code) } else { sqlite_meaning(&code) };
    }
    let wrong = matches!(
        error,
        sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::RowNotFound
    );
    if wrong { Meaning::Wrong } else { Meaning::Away }
}

/// By SQLSTATE (PostgreSQL documentation, appendix A): its first two characters are the class.
fn postgres_meaning(code: &str) -> Meaning {
    match code {
        // Serialization failure, deadlock, and a lock that did not come in time, where there is a limit.
        "40001" | "40P01" | "55P03" => Meaning::Race,
        "53100" => Meaning::Full,
        _ if code.starts_with("54") => Meaning::Full,
        // Undefined table or column, insufficient privilege.
        _ if code.starts_with("42") => Meaning::Unfit,
        // Data exception, constraint violation, corrupted data or index.
        _ if ["22", "23", "XX"].iter().any(|class| code.starts_with(class)) => Meaning::Wrong,
        _ => Meaning::Away,
    }
}

/// By extended result code (sqlite.org/rescode.html): its low byte is the primary code.
fn sqlite_meaning(code: &str) -> Meaning {
    // SQLITE_BUSY_SNAPSHOT; after a plain SQLITE_BUSY the connection has waited already.
    if code == "517" {
        return Meaning::Race;
    }
    match code.parse::<u32>().map(|code| code & 0xff) {
        // SQLITE_FULL, SQLITE_TOOBIG
        Ok(13 | 18) => Meaning::Full,
        // SQLITE_ERROR (no such table or column), SCHEMA
        Ok(1 | 17) => Meaning::Unfit,
        // SQLITE_CORRUPT, CONSTRAINT, MISMATCH, RANGE, NOTADB
        Ok(11 | 19 | 20 | 25 | 26) => Meaning::Wrong,
        _ => Meaning::Away,
    }
}
