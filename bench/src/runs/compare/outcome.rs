//! What came of a case with a server: medians over the rounds, and ratios to the server that it
//! is compared with, in the same round.

use serde::Serialize;

use super::cases::Sample;
use super::gateways::Kind;
use crate::stats::median;

/// A row of the table.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) case: &'static str,
    pub(super) server: Kind,
    /// One a round.
    pub(super) rounds: Vec<Sample>,
    /// To the server that this one is compared with; `None` for nginx.
    pub(super) ratios: Option<Ratios>,
}

/// Each by round. Less is better, but of the rate.
#[derive(Debug, Serialize)]
pub(super) struct Ratios {
    pub(super) to: Kind,
    pub(super) cpu: Spread,
    pub(super) rate: Spread,
    pub(super) p99: Spread,
}

/// The median of some numbers, the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Outcome {
    /// Without a ratio yet.
    pub(super) fn new(case: &'static str, server: Kind) -> Self {
        Self { case, server, rounds: Vec::new(), ratios: None }
    }

    /// The middle of what the rounds showed.
    pub(super) fn middle(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    /// Divides by another's numbers, a round by the same round.
    pub(super) fn ratios_to(&self, other: &Self) -> Ratios {
        let spread = |of: fn(&Sample) -> f64| {
            Spread::of(self.rounds.iter().zip(&other.rounds).map(|(own, its)| of(own) / of(its)))
        };
        Ratios {
            to: other.server,
            cpu: spread(|sample| sample.cpu_us),
            rate: spread(|sample| sample.requests_per_second),
            p99: spread(|sample| sample.p99_ms),
        }
    }

    /// The cells of its row: see [`super::COLUMNS`].
    pub(super) fn cells(&self) -> Vec<String> {
        let (bytes, cpu) = (self.middle(|s| s.bytes), self.middle(|s| s.cpu_us));
        let mut cells = vec![
            self.case.to_owned(),
            self.server.label().to_owned(),
            format!("{:.0}", self.middle(|sample| sample.requests_per_second)),
            format!("{:.1}", self.middle(|sample| sample.p50_ms)),
            format!("{:.1}", self.middle(|sample| sample.p99_ms)),
            format!("{cpu:.1}"),
            format!("{:.1}", bytes / 1e3),
            format!("{:.0}", self.middle(|sample| sample.resident as f64) / 1e6),
        ];
        cells.extend(match &self.ratios {
            None => [(); 3].map(|()| "-".to_owned()),
            Some(Ratios { cpu, rate, p99, .. }) => [cpu.with_ends(), rate.middle(), p99.middle()],
        });
        cells
    }
}

impl Spread {
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let all: Vec<f64> = numbers.collect();
        let end = |better: fn(f64, f64) -> f64| all.iter().copied().fold(f64::NAN, better);
        Self { least: end(f64::min), most: end(f64::max), median: median(all) }
    }

    fn middle(self) -> String {
        format!("{:.2}", self.median)
    }

    fn with_ends(self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median, self.least, self.most)
    }
}

/// Each with the one it is compared with.
pub(super) fn compare(outcomes: &mut [Outcome]) {
    let ratios: Vec<_> = outcomes
        .iter()
        .map(|own| {
            let wanted = own.server.compared_with()?;
            let other = outcomes.iter().find(|one| (one.case, one.server) == (own.case, wanted));
            Some(own.ratios_to(other?))
        })
        .collect();
    outcomes.iter_mut().zip(ratios).for_each(|(outcome, ratios)| outcome.ratios = ratios);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(server: Kind, cpu: &[f64]) -> Outcome {
        let rounds = cpu.iter().map(|cpu| Sample {
            cpu_us: *cpu,
            requests_per_second: 1e6 / cpu,
            p99_ms: 1.0,
            ..Sample::default()
        });
        Outcome { rounds: rounds.collect(), ..Outcome::new("mix", server) }
    }

    #[test]
    fn a_ratio_is_the_median_of_those_within_a_round() {
        let mut all = vec![
            outcome(Kind::Nginx, &[10.0, 20.0, 40.0]),
            outcome(Kind::Gateway, &[5.0, 18.0, 50.0]),
            outcome(Kind::Token, &[5.5, 18.0, 50.0]),
        ];
        compare(&mut all);
        assert!(all[0].ratios.is_none());
        let ratios = all[1].ratios.as_ref().unwrap();
        assert_eq!(
            (ratios.to, ratios.cpu),
            (Kind::Nginx, Spread { median: 0.9, least: 0.5, most: 1.25 })
        );
        assert_eq!(all[2].ratios.as_ref().unwrap().to, Kind::Gateway);
        assert_eq!(all[2].ratios.as_ref().unwrap().cpu.median, 1.0);
    }

    #[test]
    fn a_row_has_a_cell_for_every_column() {
        let mut all = vec![outcome(Kind::Nginx, &[10.0]), outcome(Kind::Gateway, &[8.0])];
        compare(&mut all);
        assert!(all.iter().all(|one| one.cells().len() == super::super::COLUMNS.len()));
        assert_eq!(all[1].cells().get(8).unwrap(), "0.80 (0.80-0.80)");
        assert_eq!(all[0].cells().last().unwrap(), "-");
    }
}
