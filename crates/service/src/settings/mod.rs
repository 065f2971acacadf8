//! One typed settings value from embedded defaults, a file and the environment; every mistake is reported at once.
//!
//! The embedded default document is the manual: a key that it holds is known, the type that it shows is the key's
//! type, and its comments explain it. An optional key stands there as `""` (read it with [`optional`]); an empty
//! table stands for one whose keys the operator chooses. Over it come the file, then variables such as
//! `OFFPEAK__WORKER__SLOTS` for `worker.slots`. A text key may instead name a file that holds its value
//! (`url_file`, `OFFPEAK__BROKER__URL_FILE`), which is how secrets are mounted.

mod mistake;
mod schema;
mod sources;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use config::{Config, ConfigError, File, FileFormat};
use serde::de::DeserializeOwned;

pub use mistake::{Mistake, Origin, SettingsError};
pub use values::{Secret, optional};

use schema::{KeyPath, Schema};

/// What every variable that carries a setting begins with.
pub const ENV_PREFIX: &str = "OFFPEAK__";

/// A settings type that can check itself beyond types: ranges, exclusive keys, keys that need each other.
pub trait Validate {
    /// Returns every mistake found; the loader adds where each value came from.
    fn validate(&self) -> Vec<Mistake> {
        Vec::new()
    }
}

/// Loads settings from the embedded `defaults`, then `file`, then `env`, the later over the earlier.
///
/// Unknown keys, wrong types, unreadable files and failed validation are all collected before it refuses, so that
/// an operator repairs a file in one round. Variables that do not begin with [`ENV_PREFIX`] are ignored.
pub fn load<T>(defaults: &str, file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<T, SettingsError>
where
    T: DeserializeOwned + Validate,
{
    load_for(defaults, file, env, |_| Vec::new())
}

/// [`load`] with what one program asks of the settings beyond [`Validate`], told with all other mistakes.
pub fn load_for<T>(
    defaults: &str,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    asks: impl FnOnce(&T) -> Vec<Mistake>,
) -> Result<T, SettingsError>
where
    T: DeserializeOwned + Validate,
{
    let schema = Schema::parse(defaults).map_err(|mistake| SettingsError::new(vec![mistake]))?;
    let mut mistakes = Vec::new();
    let mut layers = Vec::new();
    if let Some(path) = file {
        layers.push(sources::from_file(path, &schema, &mut mistakes));
    }
    layers.push(sources::from_env(env, &schema, &mut mistakes));

    let typed = deserialize::<T>(defaults, &mut layers, &mut mistakes);
    if let Some(settings) = &typed {
        mistakes.extend(settings.validate().into_iter().chain(asks(settings)).map(|mistake| match mistake.origin {
            Origin::Default => {
                let origin = origin_of(&layers, &mistake.key);
                mistake.from_origin(origin)
            }
            Origin::File { .. } | Origin::Variable(_) => mistake,
        }));
    }
    match typed {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        Some(_) | None => Err(SettingsError::new(mistakes)),
    }
}

/// The environment of this process as [`load`] takes it; names and values that are not UTF-8 are left out.
pub fn process_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The accepted values of one source.
#[derive(Debug, Default)]
struct Layer {
    values: BTreeMap<KeyPath, (toml::Value, Origin)>,
}

impl Layer {
    fn to_table(&self) -> toml::Table {
        let mut table = toml::Table::new();
        for (path, (value, _)) in &self.values {
            path.insert_into(&mut table, value.clone());
        }
        table
    }
}

/// Types the merged layers; a value that serde refuses is reported, taken out, and the rest tried again.
fn deserialize<T: DeserializeOwned>(defaults: &str, layers: &mut [Layer], mistakes: &mut Vec<Mistake>) -> Option<T> {
    // Each round takes out at least one value, so this many rounds are always enough.
    let rounds = 1 + layers.iter().map(|layer| layer.values.len()).sum::<usize>();
    for _ in 0..rounds {
        let error = match merged(defaults, layers).and_then(Config::try_deserialize::<T>) {
            Ok(settings) => return Some(settings),
            Err(error) => error,
        };
        let key = key_of(&error).unwrap_or_default();
        let origin = origin_of(layers, &key);
        let from_operator = !matches!(origin, Origin::Default);
        mistakes.push(Mistake::new(&key, problem_of(&error)).from_origin(origin));
        if !(from_operator && take_out(layers, &key)) {
            return None;
        }
    }
    None
}

fn merged(defaults: &str, layers: &[Layer]) -> Result<Config, ConfigError> {
    let mut builder = Config::builder().add_source(File::from_str(defaults, FileFormat::Toml));
    for layer in layers {
        builder = builder.add_source(Config::try_from(&layer.to_table())?);
    }
    builder.build()
}

/// The dotted key that an error of crate config is about, without list positions.
fn key_of(error: &ConfigError) -> Option<String> {
    let key = if let ConfigError::At { error, key, .. } = error {
        key_of(error).or_else(|| key.clone())
    } else if let ConfigError::Type { key, .. } = error {
        key.clone()
    } else if let ConfigError::NotFound(key) = error {
        Some(key.clone())
    } else {
        None
    }?;
    Some(key.split('[').next().unwrap_or_default().to_owned())
}

fn problem_of(error: &ConfigError) -> String {
    if let ConfigError::At { error, .. } = error {
        problem_of(error)
    } else if let ConfigError::Type { unexpected, expected, .. } = error {
        format!("must be {expected}, but is {unexpected}")
    } else if let ConfigError::NotFound(_) = error {
        "is missing".to_owned()
    } else {
        error.to_string()
    }
}

fn origin_of(layers: &[Layer], key: &str) -> Origin {
    layers
        .iter()
        .rev()
        .find_map(|layer| {
            let mut found = layer.values.iter().filter(|(path, _)| path.is_or_holds(key));
            found.next().map(|(_, (_, origin))| origin.clone())
        })
        .unwrap_or(Origin::Default)
}

fn take_out(layers: &mut [Layer], key: &str) -> bool {
    let before: usize = layers.iter().map(|layer| layer.values.len()).sum();
    for layer in layers.iter_mut() {
        layer.values.retain(|path, _| !path.is_or_holds(key));
    }
    before > layers.iter().map(|layer| layer.values.len()).sum()
}

#[cfg(test)]
mod tests;
