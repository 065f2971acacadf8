//! Opens the publisher, whose compiler is a child process; a worker is built without this.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ports::Publish;
use sandbox::{Compiler, PublishSettings, Publisher};

use super::open::own;
use super::settings::PublisherSettings;

/// A publisher with the default bounds.
pub fn publisher() -> Result<Arc<dyn Publish>> {
    Ok(Arc::new(Publisher::new(PublishSettings::new(Compiler::Child(own("compiler")?)))?))
}

/// A publisher with bounds as set.
pub(super) fn bounded_publisher(settings: &PublisherSettings) -> Result<Arc<dyn Publish>> {
    let bounds = PublishSettings {
        compiler: Compiler::Child(own("compiler")?),
        cpu_seconds: settings.cpu_seconds,
        memory_bytes: settings.memory_bytes,
        wall_limit: Duration::from_secs(settings.wall_seconds),
    };
    Ok(Arc::new(Publisher::new(bounds)?))
}

/// A child that compiles an app; returns its exit code.
pub fn compiler_main() -> ExitCode {
    sandbox::compiler_main()
}
