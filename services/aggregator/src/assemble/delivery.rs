//! Delivery: the parts of what is assembled, numbered and, as the job asks, sent; and a whole job's outputs as one part.

use std::sync::Arc;

use ports::store::{Assembly, AssemblyView, OutputPage, ReportStore, StoreError, UnitState};
use protocol::JobId;
use protocol::job::Delivery;
use protocol::reply::Part;
use rules::assemble::{self, PART_BYTES};
use rules::delivery::Parts;

use super::replies::reply;

/// Bytes of a frame that are not its entries', at most: the count, and padding.
const FRAME_OVERHEAD: usize = 8;

/// What was assembled of a whole job before the transaction that ends it, read again from the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Earlier {
    /// It is all up to this item of the last stage.
    before: u64,
    /// First item, end and frame of each unit with an output.
    units: Arc<OutputPage>,
    /// They do not fit a message, and not all of them were read.
    too_large: bool,
}

impl Earlier {
    /// Reads the assembled outputs before that item, as far as they can fit a message.
    pub(super) async fn read(store: &(impl ReportStore + ?Sized), job: JobId, before: u64) -> Result<Self, StoreError> {
        let (mut units, mut bytes, mut next) = (OutputPage::new(), 0_usize, 0);
        while next < before {
            // A page has a unit at least; without one there is nothing further.
            let page = store.outputs(job, next).await?;
            let Some((_, end, _)) = page.last() else { break };
            next = *end;
            bytes = page.iter().fold(bytes, |sum, (_, _, frame)| sum.saturating_add(frame.len()));
            units.extend(page.into_iter().filter(|(first, _, _)| *first < before));
            // Joined, they are shorter by their counts and padding.
            if bytes.saturating_sub(units.len().saturating_mul(FRAME_OVERHEAD)) > PART_BYTES {
                return Ok(Self { before, units: Arc::default(), too_large: true });
            }
        }
        Ok(Self { before, units: Arc::new(units), too_large: false })
    }

    #[cfg(test)]
    pub(super) fn of(before: u64, units: OutputPage) -> Self {
        Self { before, units: Arc::new(units), too_large: false }
    }

    /// Whether nothing is missing before what the view shows.
    fn reaches(&self, view: &AssemblyView) -> bool {
        self.before == view.assembled
    }
}

/// Numbers the parts of the last stage's units, and sends those that are to be sent.
pub(super) fn number(view: &AssemblyView, assembly: &mut Assembly) -> Result<(), String> {
    if !view.last_stage {
        return Ok(());
    }
    let mut parts = Parts {
        numbered: view.parts,
        sent: view.parts_sent,
        waiting_messages: view.unsent.messages,
        waiting_bytes: view.unsent.bytes,
    };
    for (first, _, state, output) in &view.units {
        if !has_output(*state) {
            continue;
        }
        assembly.numbered.push((*first, parts.numbered));
        if view.job.spec.delivery == Delivery::Parts && parts.may_send() {
            for (first, output) in assemble::parts(*first, output).map_err(|e| e.to_string())? {
                if parts.may_send() {
                    send(view, first, output, &mut parts, assembly)?;
                } else {
                    parts.keep(1);
                }
            }
        } else {
            parts.keep(assemble::count_parts(output).map_err(|e| e.to_string())?);
        }
    }
    (assembly.parts, assembly.parts_sent) = (parts.numbered, parts.sent);
    Ok(())
}

/// Makes one part of a whole job that ends, if its outputs fit one: fetched again, they are the same. It is sent unless too much
/// waits. An error is how far the outputs must be read first.
pub(super) fn whole(view: &AssemblyView, earlier: &Earlier, assembly: &mut Assembly) -> Result<Result<(), u64>, String> {
    if view.job.spec.delivery != Delivery::Whole || assembly.parts == 0 {
        return Ok(Ok(()));
    }
    if !earlier.reaches(view) {
        return Ok(Err(view.assembled));
    }
    if earlier.too_large {
        return Ok(Ok(()));
    }
    let now = view.units.iter().filter(|(_, _, state, _)| has_output(*state));
    let now = now.map(|(first, _, _, frame)| (*first, frame.as_slice()));
    let frames = earlier.units.iter().map(|(first, _, frame)| (*first, frame.as_slice())).chain(now);
    if let Some((first, output)) = assemble::whole(frames).map_err(|e| e.to_string())? {
        let mut parts = Parts { waiting_messages: view.unsent.messages, waiting_bytes: view.unsent.bytes, ..Parts::default() };
        if parts.may_send() {
            send(view, first, output, &mut parts, assembly)?;
        } else {
            parts.keep(1);
        }
        (assembly.parts, assembly.parts_sent) = (parts.numbered, parts.sent);
    }
    Ok(Ok(()))
}

/// Whether a customer that wants its outputs sent has not been sent all of them.
pub(super) fn is_withheld(view: &AssemblyView, assembly: &Assembly) -> bool {
    match view.job.spec.delivery {
        Delivery::Stored => false,
        Delivery::Parts | Delivery::Whole => assembly.parts_sent < assembly.parts,
    }
}

fn send(view: &AssemblyView, first: u64, output: Vec<u8>, parts: &mut Parts, assembly: &mut Assembly) -> Result<(), String> {
    let part = Part { job: view.job.id, part: parts.numbered, first, output };
    let message = reply(&view.job, &format!("part.{}", part.part), &part).map_err(|e| e.to_string())?;
    parts.send(u64::try_from(message.body.len()).unwrap_or(u64::MAX));
    assembly.replies.push(message);
    Ok(())
}

fn has_output(state: UnitState) -> bool {
    match state {
        UnitState::Valid | UnitState::Failed => true,
        UnitState::Open | UnitState::Cancelled => false,
    }
}
