//! What holds for the whole source tree: the import table and tidiness.

mod architecture;
mod tidy;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the root").to_owned()
}
