//! The director of a daemon with its connection table: in memory, or in a file that keeps the
//! connections when the daemon ends.
//!
//! In: the configuration. Out: a director that has the rules, and the connections of the daemon that
//! had the file before, given to their destinations. Never: a file overwritten that is not known to
//! be a table of this program's; it is refused with what to do.

use crate::config::Config;
use crate::control::{Rules, reload};
use crate::dataplane::clock;
use crate::run::RunError;
use lvs_conn::{FileError, Table, TableConfig};
use lvs_director::Director;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::info;

/// Why a file cannot have the connections, and what can be done.
#[derive(Debug, thiserror::Error)]
#[error("connections.file = {path:?}: {why}; {}", advice(.why))]
pub struct TableFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    #[source]
    pub why: FileError,
}

const fn advice(why: &FileError) -> &'static str {
    match why {
        FileError::InUse => "give each director a file of its own",
        FileError::NotATable | FileError::Version { .. } | FileError::Damaged(_) => {
            "name another file, or remove this one, and begin without its connections"
        }
        FileError::NoRoom { .. } => "lower connections.capacity, or lay the file elsewhere",
        _ => "name a file that lvsd may make, in a directory that is there",
    }
}

/// A director with the rules of a configuration, and its connections.
pub(crate) fn director(config: &Config, workers: usize) -> Result<Arc<Director>, RunError> {
    let table = TableConfig::with_capacity(config.capacity);
    let Some(path) = &config.table else {
        let director = Director::with_table(Table::new(&table)?, workers);
        apply(config, &director)?;
        return Ok(director);
    };
    let failed = |why| TableFileError {
        path: path.clone(),
        why,
    };
    let (table, attached) = Table::open(path, &table, clock::now()).map_err(failed)?;
    let director = Director::with_table(table, workers);
    apply(config, &director)?;
    let adopted = director.adopt();
    info!(
        file = %path.display(),
        go_on = adopted.found,
        without_destination = adopted.orphans,
        dropped = attached.dropped,
        "connections of the last run"
    );
    Ok(director)
}

/// Nobody has to follow the rules yet.
fn apply(config: &Config, director: &Arc<Director>) -> Result<(), RunError> {
    let rules = Rules::new(Arc::clone(director), || {});
    reload::apply(config, &rules)?;
    Ok(())
}
