//! What a database is and how it stands, for those who examine it.

use ports::store::StoreError;
use protocol::Micros;

use crate::connect::{Pools, SqlStore};
use crate::fault::Fault;
use crate::sql::Row;

/// What a database tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Which database it is.
    pub product: Product,
    /// Its version, such as 15.6.
    pub version: String,
    /// Bytes that the grid's database takes on its disk.
    pub bytes: u64,
}

/// The two databases, with what only one of them has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Product {
    /// A file of this machine.
    Sqlite,
    /// A server.
    Postgres {
        /// The time by its clock.
        now: Micros,
        /// Connections of clients, of everyone.
        connections: u32,
        /// And how many it takes.
        max_connections: u32,
        /// Whether it refuses to write: a standby, or set so.
        read_only: bool,
        /// Whether a commit is on disk before it is told.
        durable: bool,
    },
}

impl SqlStore {
    /// Asks the database about itself; needs no tables of ours.
    pub async fn about(&self) -> Result<About, StoreError> {
        self.try_about().await.map_err(|fault| fault.of("examine database"))
    }

    async fn try_about(&self) -> Result<About, Fault> {
        let sql = match &self.pools {
            Pools::Sqlite { .. } => {
                "SELECT sqlite_version(), (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size)"
            }
            Pools::Postgres(_) => {
                "SELECT current_setting('server_version'), pg_database_size(current_database()),
                    CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT),
                    (SELECT COUNT(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                    CAST(current_setting('max_connections') AS BIGINT),
                    CAST(CASE WHEN pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'
                        THEN 1 ELSE 0 END AS BIGINT),
                    CAST(CASE WHEN current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'
                        THEN 1 ELSE 0 END AS BIGINT)"
            }
        };
        let row = self.read().await?.first(sql, Vec::new()).await?;
        let row = row.ok_or_else(|| Fault::data("the database says nothing about itself".to_owned()))?;
        let product = match &self.pools {
            Pools::Sqlite { .. } => Product::Sqlite,
            Pools::Postgres(_) => postgres(&row)?,
        };
        Ok(About { product, version: row.text(0)?, bytes: row.number(1)? })
    }
}

fn postgres(row: &Row) -> Result<Product, Fault> {
    Ok(Product::Postgres {
        now: row.time(2)?,
        connections: row.number(3)?,
        max_connections: row.number(4)?,
        read_only: row.flag(5)?,
        durable: row.flag(6)?,
    })
}
