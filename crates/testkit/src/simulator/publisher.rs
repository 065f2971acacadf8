//! A publisher that takes any module for an app of the simulation.

use async_trait::async_trait;
use ports::Publish;
use ports::sandbox::{Inspection, PublishError, Published};
use protocol::job::EntryKind;
use protocol::{Digest, MeterId};

use super::METER;

/// The publisher.
#[derive(Debug, Clone, Copy, Default)]
pub struct Publisher;

#[async_trait]
impl Publish for Publisher {
    async fn publish(&self, module: &[u8]) -> Result<Published, PublishError> {
        let artefact = [module, b", compiled"].concat();
        Ok(Published {
            app: Digest::of(module),
            digest: Digest::of(&artefact),
            artefact,
            entry: EntryKind::Offpeak1,
            meter: MeterId::new(METER).expect("a constant name"),
            reduces: true,
            manifest: None,
        })
    }

    fn inspect(&self, _module: &[u8]) -> Inspection {
        let (imports, exports, reasons) = (Vec::new(), Vec::new(), Vec::new());
        Inspection { imports, exports, entry: Some(EntryKind::Offpeak1), manifest: None, reasons }
    }
}
