//! Several gateways over one bucket, behind one address: what an organisation runs.

use std::collections::BTreeMap;

use crate::authority::Authority;
use crate::balancer::Balancer;
use crate::client::Client;
use crate::gateway::{Builder, Gateway};
use crate::krate::index_path;
use crate::patience::until;
use crate::s3::S3;

/// Replicas behind a balancer. They know themselves by its URL.
#[derive(Debug)]
pub struct Replicas {
    /// Each by itself.
    pub all: Vec<Gateway>,
    /// Where the store is seen from here, past any proxy.
    pub bucket: S3,
    url: String,
    authority: Authority,
    _balancer: Balancer,
}

/// What the API of one replica shows: every answer's body, and an index file's ETag.
pub type Shown = BTreeMap<String, (Option<String>, String)>;

impl Replicas {
    /// That many over a bucket, which they reach by `way`; `more`
    /// configures each of them.
    pub fn start(count: usize, bucket: S3, way: &str, more: impl Fn(Builder) -> Builder) -> Self {
        let authority = Authority::new();
        let balancer = Balancer::start();
        let url = format!("https://{}", balancer.addr());
        let replica = |nth: usize| {
            let builder = Gateway::builder()
                .newest_build()
                .certificate(&authority)
                .s3(&bucket.through(way))
                .public_url(&url)
                .set("server", &format!("replica = \"replica-{nth}\""));
            let gateway = more(builder).start();
            balancer.add(gateway.addr());
            gateway
        };
        let all = (0..count).map(replica).collect();
        Self { all, bucket, url, authority, _balancer: balancer }
    }

    /// A client of whichever replica has its turn: each request goes by a connection of its own.
    pub fn client(&self) -> Client {
        let ca = self.authority.ca.as_bytes();
        Client::build(&self.url, Some(ca), |http| http.http1_only().pool_max_idle_per_host(0))
    }

    /// The base URL of the index that clients know, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until every replica stands at the journal's end.
    pub fn settle(&self) {
        let replicas = &self.all;
        until("every replica stands at the journal's end", || {
            let entries = self.bucket.list("journal").len() as f64;
            replicas.iter().all(|one| one.metric("cratehouse_journal_head", &[]) == entries)
        });
    }

    /// What each replica shows of these crates, and of users and tokens to an administrator.
    pub fn shown<'a>(
        &self,
        crates: impl IntoIterator<Item = &'a String> + Clone,
        admin: &str,
    ) -> Vec<Shown> {
        let look = |replica: &Gateway| shown(replica, crates.clone(), admin);
        self.all.iter().map(look).collect()
    }
}

fn shown<'a>(
    replica: &Gateway,
    crates: impl IntoIterator<Item = &'a String>,
    admin: &str,
) -> Shown {
    let client = replica.client();
    let mut shown = Shown::new();
    let mut look = |client: &Client, path: &str| {
        let reply = client.get_as(path, admin).assert_status(200);
        let tag = reply.header("etag").map(str::to_owned);
        shown.insert(path.to_owned(), (tag, reply.text()));
    };
    for name in crates {
        look(&client, &format!("/index/{}", index_path(name)));
        look(&client, &format!("/api/v1/crates/{name}/owners"));
    }
    look(&client, "/api/v1/admin/users");
    look(&client, "/api/v1/admin/tokens");
    look(&client, "/api/v1/crates?q=race&per_page=100");
    let summary = replica.admin().get("/").assert_status(200).text();
    let head = summary.lines().find(|line| line.starts_with("journal head")).unwrap();
    shown.insert("journal head".to_owned(), (None, head.to_owned()));
    shown
}
