//! Registering an app before the first job: what is wrong with a module is told early, and the first job need not wait.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::EntryKind;
use crate::{Digest, MeterId};

/// A customer registers an app (`offpeak.app.register.v1`): by the module's bytes, or by the digest of an uploaded blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegisterApp {
    /// The module's digest: it must have been uploaded, unless `module` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Digest>,
    /// The module's bytes, if they fit a message.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::optional_base64_bytes")]
    #[schemars(with = "Option<crate::schema::Bytes>")]
    pub module: Option<Vec<u8>>,
}

/// The answer (`offpeak.app.registered.v1`): jobs may use the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppRegistered {
    /// The module's digest, by which jobs name it.
    pub app: Digest,
    /// How it is entered.
    pub entry: EntryKind,
    /// How its fuel is counted.
    pub meter: MeterId,
    /// Whether it can reduce.
    pub reduces: bool,
    /// Its manifest, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}
