//! The terms of a grid: its prices, from a rate card, and for how long results are kept; the same in every producer and aggregator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::money::{Amount, Currency};
use protocol::{Digest, PoolName};
use rules::pricing::{RateCard, Rates};
use service::settings::{Mistake, Origin, SettingsError};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::settings::Settings;

/// The largest rate card that is read; real ones have some lines for each pool.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// It stands in reports and on bills.
const MAX_ID_CHARS: usize = 64;
/// The prices of a pool.
const PRICES: [&str; 2] = ["per_tera_instructions", "per_gib"];

/// What customers are promised.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// The prices; `None` if the grid has none.
    pub(crate) rates: Option<Arc<RateCard>>,
    /// Days from a job's end until its results are dropped; 0 keeps them.
    pub(crate) results_days: u32,
}

impl Terms {
    /// The settings' terms; every mistake in the rate card is told at once.
    pub(crate) fn load(settings: &Settings) -> Result<Self, SettingsError> {
        let (path, results_days) = (settings.grid.rate_card.as_str(), settings.grid.results_days);
        if path.is_empty() {
            return Ok(Self { rates: None, results_days });
        }
        // A grid whose pools are not understood is refused before.
        let pools: Vec<PoolName> = settings.pools().unwrap_or_default().into_keys().collect();
        let card = read(Path::new(path)).and_then(|text| parse(Path::new(path), &text, &pools))?;
        Ok(Self { rates: Some(Arc::new(card)), results_days })
    }

    /// What must be the same in every service that knows the terms.
    pub(crate) fn shared(&self) -> BTreeMap<&'static str, String> {
        let card = self.rates.as_ref().map_or_else(|| "none".to_owned(), |card| format!("{} {}", card.id, card.digest));
        BTreeMap::from([("grid.rate_card", card), ("grid.results_days", self.results_days.to_string())])
    }
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let bounded = || {
        let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
        if size > MAX_FILE_BYTES {
            return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
        }
        std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
    };
    bounded().map_err(|problem| {
        let mistake = Mistake::new("", problem).way_out("grid.rate_card names a file of prices; empty is a grid without");
        SettingsError::new(vec![mistake.from_origin(Origin::File { path: path.to_owned(), line: None })])
    })
}

/// Reads a rate card that must have prices for those pools.
fn parse(path: &Path, text: &str, pools: &[PoolName]) -> Result<RateCard, SettingsError> {
    let mut reader = Reader { path: path.to_owned(), text, mistakes: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.wrong(Some(at), "", format!("is not TOML: {}", error.message()), "");
    }
    let card = if errors.is_empty() { reader.card(table.get_ref(), pools) } else { None };
    card.filter(|_| reader.mistakes.is_empty()).ok_or_else(|| SettingsError::new(reader.mistakes))
}

/// Collects mistakes while a card is read.
struct Reader<'t> {
    path: PathBuf,
    text: &'t str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn wrong(&mut self, at: Option<usize>, key: &str, problem: String, way_out: &str) {
        let line = at.map(|at| 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count());
        let mistake = Mistake::new(key, problem).from_origin(Origin::File { path: self.path.clone(), line });
        self.mistakes.push(if way_out.is_empty() { mistake } else { mistake.way_out(way_out) });
    }

    fn card(&mut self, table: &DeTable<'_>, grid: &[PoolName]) -> Option<RateCard> {
        let (mut id, mut currency, mut pools) = (None, None, BTreeMap::new());
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "id" => id = self.id(value),
                "currency" => currency = self.text(value, "currency").and_then(|text| self.currency(value, text)),
                "pools" => pools = self.pools(value),
                other => {
                    self.wrong(Some(key.span().start), other, "is not a known key".to_owned(), "known are id, currency, pools");
                }
            }
        }
        for key in ["id", "currency", "pools"].into_iter().filter(|key| !table.contains_key(*key)) {
            self.wrong(None, key, "is missing".to_owned(), "a rate card has id, currency, and [pools.NAME] for each pool");
        }
        for pool in grid.iter().filter(|pool| !pools.contains_key(*pool)) {
            self.wrong(
                None,
                &format!("pools.{pool}"),
                "is missing or wrong, and the grid has that pool".to_owned(),
                "give its prices",
            );
        }
        let pools = pools.into_iter().filter_map(|(pool, rates)| Some((pool, rates?))).collect();
        Some(RateCard { id: id?, digest: Digest::of(self.text.as_bytes()), currency: currency?, pools })
    }

    fn id(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let id = self.text(value, "id")?.to_owned();
        let plain = id.chars().all(|char| char.is_ascii_alphanumeric() || "-._".contains(char));
        if !id.is_empty() && id.len() <= MAX_ID_CHARS && plain {
            return Some(id);
        }
        self.wrong(Some(value.span().start), "id", format!("is {id:?}"), "give 1 to 64 letters, digits, '-', '.' and '_'");
        None
    }

    fn currency(&mut self, value: &Spanned<DeValue<'_>>, text: &str) -> Option<Currency> {
        let currency = text.parse().ok();
        if currency.is_none() {
            let way_out = "give three capital letters (ISO 4217), such as EUR";
            self.wrong(Some(value.span().start), "currency", format!("is {text:?}"), way_out);
        }
        currency
    }

    /// Pools with their prices, `None` for those with mistakes.
    fn pools(&mut self, value: &Spanned<DeValue<'_>>) -> BTreeMap<PoolName, Option<Rates>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(
                Some(value.span().start),
                "pools",
                "must be a table".to_owned(),
                "write [pools.open] and its prices below",
            );
            return BTreeMap::new();
        };
        let mut pools = BTreeMap::new();
        for (key, value) in table {
            match PoolName::new(key.get_ref().as_ref()) {
                Ok(pool) => {
                    let rates = self.rates(&pool, value);
                    pools.insert(pool, rates);
                }
                Err(error) => self.wrong(Some(key.span().start), "pools", error.to_string(), "name a pool of grid.pools"),
            }
        }
        pools
    }

    fn rates(&mut self, pool: &PoolName, value: &Spanned<DeValue<'_>>) -> Option<Rates> {
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong(Some(value.span().start), &format!("pools.{pool}"), "must be a table".to_owned(), "give its prices below");
            return None;
        };
        for key in table.keys().filter(|key| !PRICES.contains(&key.get_ref().as_ref())) {
            let name = format!("pools.{pool}.{}", key.get_ref());
            self.wrong(
                Some(key.span().start),
                &name,
                "is not a known key".to_owned(),
                "known are per_tera_instructions, per_gib",
            );
        }
        let [fuel, bytes] =
            PRICES.map(|price| self.price(&format!("pools.{pool}.{price}"), table.get(price), value.span().start));
        Rates::new(fuel?, bytes?).ok()
    }

    fn price(&mut self, key: &str, value: Option<&Spanned<DeValue<'_>>>, table_at: usize) -> Option<Amount> {
        let Some(value) = value else {
            self.wrong(Some(table_at), key, "is missing".to_owned(), "give \"0\" if it is free");
            return None;
        };
        let text = self.text(value, key)?;
        let amount: Result<Amount, _> = text.parse().map_err(|error: protocol::ids::IdError| error.to_string());
        let priced = amount.and_then(|amount| Rates::new(amount, amount).map(|_| amount).map_err(|error| error.to_string()));
        match priced {
            Ok(amount) => Some(amount),
            Err(error) => {
                self.wrong(Some(value.span().start), key, format!("is wrong: {error}"), "give a price such as \"0.025\"");
                None
            }
        }
    }

    fn text<'v>(&mut self, value: &'v Spanned<DeValue<'_>>, key: &str) -> Option<&'v str> {
        if let DeValue::String(text) = value.get_ref() {
            return Some(text);
        }
        let way_out = "write it in quotes: a number of TOML is not exact";
        self.wrong(Some(value.span().start), key, "must be a text".to_owned(), way_out);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = include_str!("../../../../deploy/rates/example.toml");

    fn parsed(text: &str) -> Result<RateCard, String> {
        let pools = ["open", "trusted"].map(|name| PoolName::new(name).unwrap());
        parse(Path::new("rates.toml"), text, &pools).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_is_a_valid_card() {
        let card = parsed(CARD).unwrap();
        assert_eq!((card.currency.to_string().as_str(), card.pools.len()), ("EUR", 2));
        let money = card.cost(&PoolName::new("open").unwrap(), 2_000_000_000_000, 0).unwrap();
        assert_eq!(money.amount.to_string(), "0.05");
        assert_ne!(card.digest, parsed(&CARD.replace("0.025", "0.026")).unwrap().digest);
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_line() {
        let error = parsed(
            "id = \"\"\ncurrency = \"euro\"\nvalid_until = 3\n[pools.open]\nper_tera_instructions = 0.025\nper_gb = \"1\"\n\
             [pools.Big]\n[pools.third]\nper_tera_instructions = \"-1\"\nper_gib = \"0.0000000000001\"\n",
        );
        let error = error.unwrap_err();
        let parts = [
            "line 1: id is \"\"",
            "line 2: currency is \"euro\"",
            "line 3: valid_until is not a known key",
            "line 5: pools.open.per_tera_instructions must be a text",
            "line 6: pools.open.per_gb is not a known key",
            "line 4: pools.open.per_gib is missing",
            "line 7: pools pool name \"Big\"",
            "line 9: pools.third.per_tera_instructions is wrong: price -1",
            "line 10: pools.third.per_gib is wrong",
            "pools.trusted is missing",
        ];
        for part in parts {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        assert!(parsed("id = ").unwrap_err().contains("line 1: is not TOML"));
        assert!(parsed("").unwrap_err().contains("3 mistakes") || parsed("").unwrap_err().contains("currency is missing"));
    }
}
