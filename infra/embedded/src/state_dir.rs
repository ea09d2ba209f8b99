//! Where the stand-ins keep their state: a directory that one process holds at a time, or memory.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use crate::{Service, StartError};

/// Held by everything that writes to the directory; the lock goes when the last of them does.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// The operating system lets go of it when the process ends, however it ends.
    _lock: File,
}

impl StateDir {
    /// Makes the directory if needed and takes it for this process.
    pub(crate) fn take(path: Option<&Path>) -> Result<Self, StartError> {
        let Some(path) = path else { return Ok(StateDir(None)) };
        let unusable = |cause: io::Error| StartError::StateDir { path: path.to_owned(), cause };
        private_dir(path).map_err(unusable)?;
        let lock =
            File::options().create(true).write(true).truncate(false).open(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {
                private_files(path).map_err(unusable)?;
                Ok(StateDir(Some(Arc::new(Held { path: path.to_owned(), _lock: lock }))))
            }
            Err(TryLockError::WouldBlock) => Err(StartError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(cause)) => Err(unusable(cause)),
        }
    }

    /// The service's database file, unless all is in memory.
    pub(crate) fn file(&self, service: Service) -> Option<PathBuf> {
        self.0.as_ref().map(|held| held.path.join(format!("{}.db", service.name())))
    }

    /// The service's database, with its tables.
    pub(crate) fn open(&self, service: Service, tables: &str) -> Result<Connection, StartError> {
        let opened = || {
            let connection = match self.file(service) {
                Some(path) => Connection::open(path)?,
                None => Connection::open_in_memory()?,
            };
            // With the write-ahead log a killed process loses nothing that it has answered.
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.set_prepared_statement_cache_capacity(64);
            connection.execute_batch(tables)?;
            Ok(connection)
        };
        opened().map_err(|cause: rusqlite::Error| StartError::Database { service, cause: cause.to_string() })
    }
}

/// The directory may have been there before, and open to others: the files are for their owner alone all the same.
/// SQLite gives its logs the rights of the database.
fn private_files(path: &Path) -> io::Result<()> {
    for service in [Service::DynamoDb, Service::Sqs, Service::Kms] {
        let mut options = File::options();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path.join(format!("{}.db", service.name())))?;
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(())
}

/// The key material lies in there in the clear.
fn private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
