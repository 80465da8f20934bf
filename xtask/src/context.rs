//! Where a run of xtask stands: the repository, and the folder for what it leaves behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The repository and the output folder of one run.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The repository's root.
    pub(crate) root: PathBuf,
}

impl Context {
    /// The repository that this xtask was built in.
    pub(crate) fn here() -> Result<Self, String> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().ok_or("xtask stands in no repository")?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// A folder below `target/` for `what`, made if it is not there.
    pub(crate) fn folder(&self, what: &str) -> Result<PathBuf, String> {
        let folder = self.root.join("target").join(what);
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(folder)
    }

    /// A new log `target/xtask/<kind>/<name>.log`.
    pub(crate) fn log(&self, kind: &str, name: &str) -> Result<File, String> {
        let path = self
            .folder(&format!("xtask/{kind}"))?
            .join(format!("{name}.log"));
        File::create(&path).map_err(|e| format!("{}: {e}", path.display()))
    }
}
