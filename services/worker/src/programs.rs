//! Programs: what a job's units have in common, kept in memory by the digest of its brief.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ports::sandbox::Program;
use protocol::job::Brief;
use protocol::unit::Work;
use protocol::{CodecError, Digest, Format, MeterId, codec};

use crate::fetch::{FetchError, Fetcher};

/// Programs kept; a worker serves few jobs at a time, and the rest is on disk.
const MAX_PROGRAMS: usize = 8;

/// Why a program cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// A blob of it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The brief.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A program and how its fuel is counted.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) program: Program,
    pub(crate) meter: MeterId,
}

/// The programs in memory, the one used last at the back.
#[derive(Default)]
pub(crate) struct Programs(Mutex<VecDeque<(Digest, Loaded)>>);

impl Programs {
    /// The program of that unit.
    pub(crate) async fn get(&self, fetcher: &Fetcher, work: &Work) -> Result<Loaded, ProgramError> {
        if let Some(mut known) = self.known(work.brief) {
            known.program.customer = work.customer.clone();
            return Ok(known);
        }
        let brief: Brief = codec::decode("brief", &fetcher.get(work.brief).await?, Format::MessagePack)?;
        let artefact = fetcher.get(brief.artefact).await?;
        let shared = match brief.shared {
            Some(digest) => fetcher.get(digest).await?,
            None => Vec::new(),
        };
        let program = Program {
            brief: work.brief,
            customer: work.customer.clone(),
            artefact: Arc::new(artefact),
            entry: brief.entry,
            params: Arc::new(brief.params),
            shared: Arc::new(shared),
            limits: brief.limits,
        };
        let loaded = Loaded { program, meter: brief.meter };
        self.keep(work.brief, loaded.clone());
        Ok(loaded)
    }

    fn known(&self, brief: Digest) -> Option<Loaded> {
        let mut programs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = programs.iter().position(|(known, _)| *known == brief)?;
        let entry = programs.remove(place)?;
        let loaded = entry.1.clone();
        programs.push_back(entry);
        Some(loaded)
    }

    fn keep(&self, brief: Digest, loaded: Loaded) {
        let mut programs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        programs.retain(|(known, _)| *known != brief);
        programs.push_back((brief, loaded));
        if programs.len() > MAX_PROGRAMS {
            programs.pop_front();
        }
    }
}
