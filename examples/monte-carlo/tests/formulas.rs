//! The estimates against closed formulas, and their bits against any slicing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use guest::{App, Item, Reduce, Shared};
use monte_carlo::{Beam, Estimate, Estimates, Market, MonteCarlo, Params};
use serde::Deserialize;

#[derive(Deserialize)]
struct Job {
    input: Input,
    params: Params,
}

#[derive(Deserialize)]
struct Input {
    range: [u64; 2],
}

fn job() -> Job {
    toml::from_str(include_str!("../job.toml")).unwrap()
}

/// The grid's tree: groups of 64 in the order of items.
fn run(params: Params, range: [u64; 2], order: impl Fn(&mut Vec<u64>)) -> Vec<u8> {
    let app = MonteCarlo::init(params, &Shared::default()).unwrap();
    let mut indices: Vec<u64> = (range[0]..range[1]).collect();
    order(&mut indices);
    let mut parts: Vec<(u64, Vec<u8>)> = indices
        .into_iter()
        .map(|index| (index, app.map(&Item::new(&guest::encode(&index).unwrap()), &Shared::default()).unwrap()))
        .collect();
    parts.sort();
    let mut parts: Vec<Vec<u8>> = parts.into_iter().map(|(_, part)| part).collect();
    loop {
        let level = parts.chunks(64).map(|group| app.reduce(&group.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap());
        parts = level.collect();
        if let [last] = parts.as_slice() {
            return app.finish(last).unwrap();
        }
    }
}

/// The normal distribution function, by its series around zero: exact enough for |x| < 6.
fn normal(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= x * x / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// The price of a call on a log-normal quantity with the given mean and deviation of its logarithm.
fn call(market: &Market, middle: f64, spread: f64) -> f64 {
    let d = (middle - market.strike.ln()) / spread;
    let forward = (middle + 0.5 * spread * spread).exp();
    (-market.rate * market.maturity_years).exp() * (forward * normal(d + spread) - market.strike * normal(d))
}

fn black_scholes(m: &Market) -> f64 {
    call(m, m.spot.ln() + (m.rate - 0.5 * m.volatility.powi(2)) * m.maturity_years, m.volatility * m.maturity_years.sqrt())
}

/// Kemna and Vorst 1990, for prices looked at n times.
fn geometric_asian(m: &Market) -> f64 {
    let n = f64::from(m.steps);
    let middle = m.spot.ln() + (m.rate - 0.5 * m.volatility.powi(2)) * m.maturity_years * (n + 1.0) / (2.0 * n);
    let variance = m.volatility.powi(2) * m.maturity_years * (n + 1.0) * (2.0 * n + 1.0) / (6.0 * n * n);
    call(m, middle, variance.sqrt())
}

/// Levy 1992: a log-normal quantity with the first two moments of the arithmetic mean; good to a few thousandths.
fn asian_about(m: &Market) -> f64 {
    let step = m.maturity_years / f64::from(m.steps);
    let (mut first, mut second) = (0.0, 0.0);
    for i in 1..=m.steps {
        first += (m.rate * f64::from(i) * step).exp();
        for j in 1..=m.steps {
            let (low, high) = (f64::from(i.min(j)) * step, f64::from(i.max(j)) * step);
            second += (m.rate * (low + high) + m.volatility.powi(2) * low).exp();
        }
    }
    let n = f64::from(m.steps);
    let (first, second) = (m.spot * first / n, (m.spot / n).powi(2) * second);
    let variance = (second / (first * first)).ln();
    call(m, first.ln() - 0.5 * variance, variance.sqrt())
}

/// The difference of two log-normal logarithms is normal.
fn beam_failure(b: &Beam) -> f64 {
    let parameters = |mean: f64, variation: f64| {
        let variance = (1.0 + variation * variation).ln();
        (mean.ln() - 0.5 * variance, variance)
    };
    let (stress, a) = parameters(b.load_mean_n * b.span_m / 4.0 / b.section_modulus_m3, b.load_variation);
    let (strength, c) = parameters(b.strength_mean_pa, b.strength_variation);
    normal(-(strength - stress) / (a + c).sqrt())
}

fn within_four_errors(name: &str, estimate: &Estimate, exact: f64) {
    let off = (estimate.estimate - exact) / estimate.standard_error;
    println!("{name}: {} against {exact}, {off:.2} standard errors of {}", estimate.estimate, estimate.standard_error);
    assert!(off.abs() < 4.0, "{name}: {estimate:?} against {exact}");
}

#[test]
fn the_default_job_agrees_with_the_formulas() {
    let Job { input, params } = job();
    assert!((black_scholes(&params.market) - 10.450_583_572_185_565).abs() < 1e-12);
    let found: Estimates = guest::decode(&run(params.clone(), input.range, |_| ())).unwrap();
    assert_eq!(found.european_call.samples, 256 * 4096);
    within_four_errors("european call", &found.european_call, black_scholes(&params.market));
    within_four_errors("geometric asian call", &found.geometric_asian_call, geometric_asian(&params.market));
    within_four_errors("beam failure", &found.beam_failure, beam_failure(&params.beam));
    let about = asian_about(&params.market);
    assert!((found.asian_call.estimate / about - 1.0).abs() < 5e-3, "{found:?} against about {about}");
    assert!(found.asian_call.estimate > found.geometric_asian_call.estimate);
}

#[test]
fn the_bits_do_not_depend_on_who_computes_what_when() {
    let params = Params { paths_per_item: 100, ..job().params };
    let plain = run(params.clone(), [0, 200], |_| ());
    assert_eq!(run(params.clone(), [0, 200], |indices| indices.reverse()), plain);
    assert_eq!(run(params.clone(), [0, 200], |indices| indices.sort_by_key(|n| n * 7919 % 200)), plain);
    assert_ne!(run(Params { seed: 1, ..params }, [0, 200], |_| ()), plain);
}

#[test]
fn an_odd_number_of_steps_is_walked_to_its_end() {
    let mut params = job().params;
    params.market.steps = 1;
    let found: Estimates = guest::decode(&run(params.clone(), [0, 8], |_| ())).unwrap();
    within_four_errors("european call", &found.european_call, black_scholes(&params.market));
    // Looked at once only, an Asian option is a European one.
    assert_eq!(found.asian_call, found.european_call);
}

#[test]
fn wrong_parameters_are_refused_with_their_name() {
    let refused = |change: &dyn Fn(&mut Params)| {
        let mut params = job().params;
        change(&mut params);
        MonteCarlo::init(params, &Shared::default()).err().unwrap()
    };
    assert!(refused(&|p| p.market.volatility = 0.0).contains("market.volatility"));
    assert!(refused(&|p| p.market.rate = f64::NAN).contains("market.rate"));
    assert!(refused(&|p| p.market.steps = 0).contains("market.steps"));
    assert!(refused(&|p| p.beam.span_m = -1.0).contains("beam.span_m"));
    assert!(refused(&|p| p.paths_per_item = 0).contains("paths_per_item"));
    let app = MonteCarlo::init(job().params, &Shared::default()).unwrap();
    assert!(app.map(&Item::new(&guest::encode(&u64::MAX).unwrap()), &Shared::default()).is_err());
}
