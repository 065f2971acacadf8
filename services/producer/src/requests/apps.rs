//! Apps: registered before the first job, so that what is wrong with a module is told early.

use ports::store::AppVerdict;
use protocol::Digest;
use protocol::app::{AppRegistered, RegisterApp};
use protocol::problem::Code;

use super::uploads;
use crate::asked::{Answer, Asked, Refusal};
use crate::{Producer, apps};

/// Compiles an app, unless that was done before.
pub(super) async fn register(producer: &Producer, asked: &Asked, request: &RegisterApp) -> Result<Answer, Refusal> {
    let app = match (&request.module, request.app) {
        (Some(module), named) => {
            let app = Digest::of(module);
            if let Some(named) = named.filter(|named| *named != app) {
                return Err(Refusal::invalid("/app", format!("module has the digest {app}, not {named}")));
            }
            uploads::keep(producer, asked, app, module).await?;
            app
        }
        (None, Some(app)) => {
            if producer.store.own_blob_size(&asked.customer, app).await?.is_none() {
                let detail = format!("blob {app} is not here: upload it first, or send its bytes as module");
                return Err(Refusal::of(Code::NoSuchBlob, detail));
            }
            app
        }
        (None, None) => return Err(Refusal::invalid("/app", "name an uploaded module, or send its bytes as module")),
    };
    match apps::verdict(producer, app).await? {
        AppVerdict::Accepted { entry, meter, reduces, manifest, .. } => {
            Ok(vec![asked.answer(&AppRegistered { app, entry, meter, reduces, manifest })?])
        }
        AppVerdict::Rejected { reasons } => Err(apps::rejection(&reasons)),
    }
}
