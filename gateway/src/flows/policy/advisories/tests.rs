//! A server gives archives, good ones and others; replicas take up what the store keeps.

use flate2::Compression;
use flate2::write::GzEncoder;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;

use super::*;

const AT: u64 = 1_790_000_000;

/// An archive of so many advisories, all about `foo`, modified at this time.
fn archive(count: usize, at: u64) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for n in 1..=count {
        let text = format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2026-{n:04}\"\npackage = \"foo\"\n\
             date = \"2026-01-02\"\n\n[versions]\npatched = [\">= 1.2.0\"]\n```\n\n# A title\n\nWords.\n"
        );
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(at);
        header.set_cksum();
        let path = format!("advisory-db-main/crates/foo/RUSTSEC-2026-{n:04}.md");
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn fetcher(least: usize) -> Fetcher {
    let store = AdvisoryStore::new(Arc::new(InMemory::new()));
    let url = "https://advisories.example/db.tar.gz".parse().unwrap();
    Fetcher { store, url, least, extra_ca: None }
}

async fn take(fetcher: &Fetcher, bytes: &[u8], force: bool) -> Result<Fetched> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    fetcher.take(file.path(), force).await
}

async fn refused(fetcher: &Fetcher, bytes: &[u8]) -> String {
    let before = fetcher.store.current().await.unwrap();
    let error = take(fetcher, bytes, false).await.unwrap_err();
    assert_eq!(fetcher.store.current().await.unwrap(), before, "what was kept counts");
    error.message
}

#[tokio::test]
async fn a_good_archive_is_kept_and_the_same_one_is_only_noted() {
    let fetcher = fetcher(2);
    let Fetched::New { current, damaged } = take(&fetcher, &archive(3, AT), false).await.unwrap()
    else {
        panic!("it is new")
    };
    assert_eq!((current.advisories, damaged.count), (3, 0));
    assert_eq!(current.newest.unwrap().as_second(), AT as i64);
    assert_eq!(current.checked.as_second(), AT as i64, "a file is no newer than what is in it");
    let kept = kept(&fetcher.store).await.unwrap().unwrap();
    assert_eq!((kept.archive, kept.advisories.len()), (current.archive, 3));
    let again = take(&fetcher, &archive(3, AT), false).await.unwrap();
    assert!(matches!(again, Fetched::Same(same) if same.fetched == current.fetched));
}

#[tokio::test]
async fn what_is_not_whole_or_suspicious_is_not_kept() {
    let fetcher = fetcher(10);
    let few = refused(&fetcher, &archive(9, AT)).await;
    assert!(few.contains("it has 9 advisories, and `policy.advisories_least` is 10"), "{few}");
    take(&fetcher, &archive(20, AT), false).await.unwrap();
    let shrunk = refused(&fetcher, &archive(17, AT + 1)).await;
    assert!(shrunk.contains("it has 17 advisories, and the one that is kept 20"), "{shrunk}");
    assert!(shrunk.contains("`cratehouse advisories fetch --force`"), "{shrunk}");
    let old = refused(&fetcher, &archive(21, AT - 1)).await;
    assert!(old.contains("older than the one that is kept"), "{old}");
    let whole = archive(20, AT + 1);
    assert!(!refused(&fetcher, &whole[..whole.len() - 5]).await.is_empty());
    assert!(!refused(&fetcher, b"<html>").await.is_empty());
    take(&fetcher, &archive(18, AT), false).await.unwrap();
    take(&fetcher, &archive(3, AT - 9), true).await.unwrap();
    assert_eq!(kept(&fetcher.store).await.unwrap().unwrap().advisories.len(), 3, "by force");
}

#[tokio::test]
async fn an_archive_that_is_lost_is_put_again_by_whoever_has_the_same() {
    let objects = Arc::new(InMemory::new());
    let fetcher = Fetcher { store: AdvisoryStore::new(Arc::clone(&objects) as _), ..fetcher(2) };
    let bytes = archive(3, AT);
    take(&fetcher, &bytes, false).await.unwrap();
    let path = format!("advisories/{}.tar.gz", Checksum::of(&bytes));
    for spoilt in [None, Some("cut")] {
        match spoilt {
            None => objects.delete(&path.as_str().into()).await.unwrap(),
            Some(text) => _ = objects.put(&path.as_str().into(), text.into()).await.unwrap(),
        }
        let lost = kept(&fetcher.store).await.unwrap_err();
        assert!(lost.message.contains("run `cratehouse advisories fetch`"), "{lost}");
        take(&fetcher, &bytes, false).await.unwrap();
        assert_eq!(kept(&fetcher.store).await.unwrap().unwrap().advisories.len(), 3);
    }
}

#[tokio::test]
async fn what_another_kept_meanwhile_is_not_replaced() {
    let fetcher = fetcher(2);
    take(&fetcher, &archive(3, AT), false).await.unwrap();
    let former = fetcher.store.current().await.unwrap();
    take(&fetcher, &archive(4, AT + 1), false).await.unwrap();
    let late = fetcher.keep(former, archive(5, AT).into(), (String::new(), None), None, true).await;
    assert!(late.unwrap_err().message.contains("kept meanwhile, and counts now"));
    assert_eq!(kept(&fetcher.store).await.unwrap().unwrap().advisories.len(), 4);
}

#[test]
fn the_schedule_goes_by_what_any_replica_has_asked() {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let checked = |text: &str| Current {
        archive: Checksum::of(b""),
        bytes: 0,
        advisories: 1,
        newest: None,
        from: String::new(),
        etag: None,
        fetched: now,
        checked: text.parse().unwrap(),
    };
    let due = |text: &str| is_due(Some(&checked(text)), Duration::from_secs(6 * 3600), now);
    assert!(is_due(None, Duration::from_secs(3600), now));
    assert!(!due("2026-11-22T06:00:01Z") && due("2026-11-22T06:00:00Z"));
    assert!(!due("2026-11-22T12:05:00Z"), "clocks differ a little");
    assert!(due("2026-11-22T13:00:00Z"), "a clock was wrong");
}
