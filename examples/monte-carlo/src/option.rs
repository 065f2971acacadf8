//! Prices that walk at random, and what options on them pay.

use crate::Source;
use guest::math::{exp, ln, sqrt};
use serde::Deserialize;

/// Finer steps than this are another model.
const MOST_STEPS: u32 = 100_000;

/// A market in the model of Black and Scholes, and the options' terms.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    /// The price now.
    pub spot: f64,
    /// The price at which the options allow to buy.
    pub strike: f64,
    /// The riskless rate of a year, compounded continuously.
    pub rate: f64,
    /// The standard deviation of a year's logarithmic return.
    pub volatility: f64,
    /// When the options end.
    pub maturity_years: f64,
    /// How often the price is looked at until then, for the Asian options.
    pub steps: u32,
}

/// The walk of a price's logarithm.
pub(crate) struct Walk {
    start: f64,
    drift: f64,
    spread: f64,
    steps: u32,
    strike: f64,
    discount: f64,
}

/// What the options pay at the end of one path, in today's money.
pub(crate) struct Payoff {
    pub(crate) european: f64,
    pub(crate) asian: f64,
    pub(crate) geometric_asian: f64,
}

impl Market {
    /// Checks the terms and works out what all paths share.
    pub(crate) fn walk(&self) -> Result<Walk, String> {
        let named = [
            ("spot", self.spot),
            ("strike", self.strike),
            ("volatility", self.volatility),
            ("maturity_years", self.maturity_years),
        ];
        if let Some((name, _)) = named.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(format!("params.market.{name}: give a positive number"));
        }
        if !self.rate.is_finite() {
            return Err("params.market.rate: give a finite number".to_owned());
        }
        if !(1..=MOST_STEPS).contains(&self.steps) {
            return Err(format!("params.market.steps: give a number from 1 to {MOST_STEPS}"));
        }
        let step = self.maturity_years / f64::from(self.steps);
        Ok(Walk {
            start: ln(self.spot),
            drift: (self.rate - 0.5 * self.volatility * self.volatility) * step,
            spread: self.volatility * sqrt(step),
            steps: self.steps,
            strike: self.strike,
            discount: exp(-self.rate * self.maturity_years),
        })
    }
}

impl Walk {
    /// Walks one path.
    pub(crate) fn path(&self, source: Source) -> Payoff {
        let (mut log, mut logs, mut prices, mut price) = (self.start, 0.0, 0.0, 0.0);
        for pair in 0..self.steps.div_ceil(2) {
            let (first, second) = source.normals(pair);
            for normal in [first, second].into_iter().take(if 2 * pair + 1 == self.steps { 1 } else { 2 }) {
                log += self.drift + self.spread * normal;
                price = exp(log);
                logs += log;
                prices += price;
            }
        }
        let steps = f64::from(self.steps);
        let call = |price: f64| self.discount * (price - self.strike).max(0.0);
        Payoff { european: call(price), asian: call(prices / steps), geometric_asian: call(exp(logs / steps)) }
    }
}
