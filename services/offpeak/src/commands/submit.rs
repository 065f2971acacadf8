//! `offpeak submit`: hands a job to a grid, and with `--wait` follows it to its outputs.

use anyhow::Result;
use uuid::Uuid;

use super::connect::Connected;
use super::finish::{check_folder, default_folder, finish};
use super::run;
use crate::args::SubmitArgs;
use crate::client::{Client, Submission};
use crate::exit::{self, Refused};
use crate::follow::Progress;
use crate::{jobfile, terminal};

/// Submits.
pub(super) async fn submit(args: SubmitArgs) -> Result<u8> {
    let job = jobfile::read(&args.job).map_err(Refused::JobFile)?;
    if args.wait {
        check_folder(&args.job, &job, args.out.as_deref())?;
    }
    let connected = Connected::open(&args.broker, &args.store, args.customer.customer.clone()).await?;
    let code = handed_over(&connected.client, &args, &job).await;
    connected.close().await;
    code
}

async fn handed_over(client: &Client, args: &SubmitArgs, job: &jobfile::JobFile) -> Result<u8> {
    let mut progress = Progress::new(args.json);
    let id = args.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    let submission = Submission::with_id(&job.spec, id)?;
    let uploaded = client.upload(&job.uploads, &mut |upload, bytes| progress.says(&run::uploading(upload, bytes))).await;
    uploaded.map_err(Refused::or_error)?;
    progress.says("waiting for the job to be admitted");
    let mut admitted = client.submit(&submission).await.map_err(Refused::or_error)?;
    if !args.wait {
        progress.finish();
        admitted.mailbox.close().await?;
        let report = client.report(admitted.job).await?;
        if args.json {
            let answer = serde_json::json!({ "job": admitted.job, "submission": submission.id, "items_submitted": report.items.submitted });
            terminal::print_json(&answer)?;
        } else {
            let items = terminal::grouped(&report.items.submitted);
            terminal::note(&format!("the job is admitted with {items} items"));
            // Alone on standard output, so that a shell can keep it.
            terminal::print(&format!("{}\n", admitted.job))?;
        }
        return Ok(exit::SUCCESS);
    }
    let report = client.follow(admitted.job, Some(&mut admitted.mailbox), &mut progress).await;
    admitted.mailbox.close().await?;
    let folder = args.out.clone().unwrap_or_else(|| default_folder(&args.job));
    finish(client.store.as_ref(), &report?, &folder, args.json).await
}
