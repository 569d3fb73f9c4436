//! The upstreams: whether they answer.

use std::time::{Duration, Instant};

use super::finding::Finding;
use crate::config::Config;
use cratehouse_core::error::{Error, Result};
use cratehouse_core::metrics::Metrics;
use cratehouse_mirror::upstream::Upstream;

/// What is slow for one small file.
const SLOW: Duration = Duration::from_secs(3);

/// Asks each for one file.
///
/// # Errors
/// When there are no metrics to count it in.
pub async fn look(config: &Config) -> Result<Vec<Finding>> {
    let metrics = Metrics::new().map_err(Error::internal)?;
    let mut findings = Vec::new();
    for one in &config.upstreams {
        let begun = Instant::now();
        let opened = Upstream::new(
            one,
            &config.limits.of_upstream(),
            config.outgoing_ca.as_deref(),
            metrics.clone(),
        );
        let answer = match opened {
            Ok(upstream) => {
                let asked = upstream.try_out().await;
                asked.map_err(|failure| failure.to_string())
            }
            Err(e) => Err(e.chain()),
        };
        findings.push(judge(&one.name, answer, begun.elapsed()));
    }
    if findings.is_empty() {
        findings.push(Finding::fine("upstreams", "none is configured: nothing is mirrored"));
    }
    Ok(findings)
}

/// Judges an answer, and the time it took.
pub fn judge(upstream: &str, answer: Result<(), String>, took: Duration) -> Finding {
    let ms = took.as_millis();
    match answer {
        Err(why) => Finding::wrong(
            "upstreams",
            format!("`{upstream}` does not answer as it should: {why}"),
            "look at its `index` and `token_file`, at the network and an outgoing proxy (HTTPS_PROXY), and at the CA that it uses (`ca_file`); what is in the mirror is served meanwhile",
        ),
        Ok(()) if took > SLOW => Finding::mind(
            "upstreams",
            format!("`{upstream}` answers, and took {ms} ms for one file"),
            "look at the network between: what is not in the mirror waits for it",
        ),
        Ok(()) => Finding::fine("upstreams", format!("`{upstream}` answers within {ms} ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;

    #[test]
    fn an_upstream_answers_or_the_reason_is_told() {
        let judged = |answer, seconds| judge("main", answer, Duration::from_secs(seconds)).gravity;
        assert_eq!(judged(Ok(()), 0), Gravity::Fine);
        assert_eq!(judged(Ok(()), 4), Gravity::Mind);
        assert_eq!(judged(Err("no route".to_owned()), 0), Gravity::Wrong);
    }
}
