//! `offpeak result`: writes the outputs of a job that has ended.

use std::path::PathBuf;

use anyhow::Result;

use super::connect;
use super::finish::finish;
use crate::args::ResultArgs;
use crate::exit::Refused;
use crate::outputs::OutputError;

/// Writes the outputs.
pub(super) async fn result(args: ResultArgs) -> Result<u8> {
    let store = connect::store(&args.store).await?;
    let report = store.job(args.job).await?.ok_or(Refused::UnknownJob(args.job))?;
    if !report.state.is_terminal() {
        return Err(OutputError::Unfinished(args.job).into());
    }
    let folder = args.out.unwrap_or_else(|| PathBuf::from(format!("{}-out", args.job)));
    finish(store.as_ref(), &report, &folder, args.json).await
}
