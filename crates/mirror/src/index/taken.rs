//! Whether any upstream has a crate of a name, in any spelling: asked before a name is first published.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use crate::upstream::{Answer, Turn, Upstream, UpstreamError, UpstreamErrorKind};
use cratehouse_core::error::{Error, Result};
use cratehouse_core::render_pool::RenderPool;
use cratehouse_package::mirrored::{self, OwnRegistries};
use cratehouse_package::name::CrateName;

/// The most `-` and `_` in a name whose every spelling is asked of the upstreams (256 spellings).
const MAX_SEPARATORS: u32 = 8;
/// Spellings that are asked for at one time.
const SPELLINGS: usize = 16;

/// Which upstream has a crate of any spelling of this name: `Some((upstream, spelling))`, `None`
/// when every upstream definitely answered not-found for every spelling. Always asks.
///
/// # Errors
/// Unavailable when one did not answer and none has it; invalid when there are too many
/// spellings to ask for.
pub(crate) async fn taken(
    renderers: &RenderPool,
    upstreams: &[Arc<Upstream>],
    name: &CrateName,
) -> Result<Option<(String, CrateName)>> {
    if upstreams.is_empty() {
        return Ok(None);
    }
    let spellings = name.spellings(MAX_SEPARATORS).ok_or_else(|| {
        Error::invalid(format_args!(
            "`{name}` has more than {MAX_SEPARATORS} `-` and `_`, too many for every spelling to \
             be asked of the upstreams: reserve the name in the configuration (`[names] reserved`)"
        ))
    })?;
    let questions: Vec<_> = upstreams
        .iter()
        .flat_map(|upstream| {
            spellings.iter().map(move |spelling| has(renderers, upstream, spelling))
        })
        .collect();
    let mut answers = stream::iter(questions).buffer_unordered(SPELLINGS);
    let mut failure = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(Some(taken)) => return Ok(Some(taken)),
            Ok(None) => {}
            Err(unknown) => failure = Some(unknown),
        }
    }
    match failure {
        None => Ok(None),
        Some(failure) => Err(Error::unavailable(format_args!(
            "the upstream registry `{}` did not say whether it has a crate `{name}`, so its first \
             publish must wait: try again shortly, or reserve the name in the configuration",
            failure.upstream
        ))
        .because(failure)),
    }
}

/// Whether an upstream has a crate of exactly this spelling, with its own spelling of it.
async fn has(
    renderers: &RenderPool,
    upstream: &Arc<Upstream>,
    name: &CrateName,
) -> Result<Option<(String, CrateName)>, UpstreamError> {
    let Answer::Found { body, .. } =
        upstream.index_file(Turn::OWN, name, None, &mut |_| true).await?
    else {
        return Ok(None);
    };
    let (asked, wanted) = (Arc::clone(upstream), name.clone());
    let read = move || {
        let nonsense = |why| UpstreamError::new(asked.name(), UpstreamErrorKind::Nonsense, why);
        let bytes = body.unpack().map_err(|e| asked.misfit(&e))?;
        let read = mirrored::read(&bytes, &wanted, &OwnRegistries::default());
        let first = read.map_err(|e| nonsense(e.to_string()))?.versions.into_iter().next();
        let spelled = first.map_or(wanted, |version| version.name);
        Ok(Some((asked.name().to_owned(), spelled)))
    };
    let crashed = |e: Error| {
        Err(UpstreamError::new(
            upstream.name(),
            UpstreamErrorKind::Nonsense,
            format!("its answer: {}", e.chain()),
        ))
    };
    renderers.make(read).await.unwrap_or_else(crashed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::test_util::{Server, config, reply, upstream};
    use cratehouse_core::checksum::Checksum;
    use cratehouse_core::error::Kind;

    async fn server(status: u16, has: &'static str) -> (Server, Arc<Upstream>) {
        let line = format!(
            "{{\"name\":\"{}\",\"vers\":\"1.0.0\",\"cksum\":\"{}\"}}\n",
            has.to_uppercase(),
            Checksum::of(b"a")
        );
        let server = Server::start(move |path, _| match path.ends_with(has) {
            true => reply(200, &[], line.clone()),
            false => reply(status, &[], ""),
        })
        .await;
        let upstream = Arc::new(upstream(&config(&server.url)));
        (server, upstream)
    }

    #[tokio::test]
    async fn every_spelling_is_asked_of_every_upstream() {
        let (one, first) = server(404, "/none").await;
        let (_two, second) = server(404, "foo_bar-x").await;
        let name = "Foo-bar_x".parse().unwrap();
        assert_eq!(
            taken(&RenderPool::default(), std::slice::from_ref(&first), &name).await.unwrap(),
            None
        );
        let mut paths = one.paths();
        paths.sort();
        assert_eq!(
            paths,
            ["foo-bar-x", "foo-bar_x", "foo_bar-x", "foo_bar_x"]
                .map(|spelling| format!("/index/fo/{}/{spelling}", &spelling[2..4]))
        );
        let found = taken(&RenderPool::default(), &[first, second], &name).await.unwrap();
        assert_eq!(found, Some(("up".to_owned(), "FOO_BAR-X".parse().unwrap())));
    }

    #[tokio::test]
    async fn a_name_is_not_free_before_every_upstream_has_said_so() {
        let (_one, first) = server(404, "/none").await;
        let (_two, second) = server(500, "/none").await;
        let unknown = taken(&RenderPool::default(), &[first, second], &"foo".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(unknown.kind, Kind::Unavailable);
        assert_eq!(
            taken(&RenderPool::default(), &[], &"foo".parse().unwrap()).await.unwrap(),
            None
        );
    }

    #[tokio::test]
    async fn a_name_with_too_many_spellings_must_be_reserved() {
        let (one, first) = server(404, "/none").await;
        let refused =
            taken(&RenderPool::default(), &[first], &"a-b-c-d-e-f-g-h-i-j".parse().unwrap())
                .await
                .unwrap_err();
        assert_eq!(refused.kind, Kind::Invalid);
        assert!(refused.message.contains("reserve"));
        assert!(one.paths().is_empty());
    }
}
