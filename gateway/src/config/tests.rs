use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::reader::{PREFIX, Sources, variable};
use super::*;

const EXAMPLE: &str = include_str!("../../../deploy/cratehouse.toml");

fn sources(file: &str, environment: &[(&str, &str)]) -> Sources {
    let texts = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Sources {
        flags: BTreeMap::new(),
        environment: texts.collect(),
        file: file.parse().unwrap(),
        read: |_| Ok(" from-a-file\n".to_owned()),
    }
}

fn try_read(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let read = load::read(&sources(file, environment), Some("host"));
    read.map(|(config, _)| config).map_err(|error| error.to_string())
}

fn read(file: &str, environment: &[(&str, &str)]) -> Config {
    try_read(file, environment).unwrap()
}

/// The refusal of a file, which has to name `parts`.
#[track_caller]
fn refused(file: &str, environment: &[(&str, &str)], parts: &[&str]) -> String {
    let error = try_read(file, environment).unwrap_err();
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
    error
}

fn os(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

#[test]
fn without_any_configuration_everything_has_a_default() {
    let config = Config::load(&Flags::default(), []).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8443");
    assert_eq!(config.server.admin_listen.to_string(), "127.0.0.1:8444");
    assert_eq!(config.store.url, StoreUrl::Folder("cratehouse-data/store".into()));
    assert_eq!(config.catalog.path, PathBuf::from("cratehouse-data/catalog.redb"));
    assert_eq!(config.tls, Tls::LocalCa);
    assert!(!config.server.replica.is_empty());
    let [upstream] = config.upstreams.as_slice() else { panic!("{:?}", config.upstreams) };
    assert_eq!((upstream.name.as_str(), &upstream.index), (CRATES_IO, &crates_io_index()));
    assert_eq!(upstream.identity, Identity::CratesIo);
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", Limits::default()));
}

#[test]
fn a_flag_beats_the_environment_and_that_beats_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    std::fs::write(&path, "data = 'f'\n[server]\nlisten = '127.0.0.1:1'\nurl = 'https://f'")
        .unwrap();
    let flags = Flags {
        config: Some(path.clone()),
        listen: Some("127.0.0.1:3".into()),
        ..Flags::default()
    };
    let environment = [("CRATEHOUSE_SERVER__LISTEN", "127.0.0.1:2"), ("CRATEHOUSE_DATA", "e")];
    let config = Config::load(&flags, os(&environment)).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.data, PathBuf::from("e"));
    assert_eq!(config.url_for(config.server.listen), "https://f");

    let by_variable = [("CRATEHOUSE_CONFIG", path.to_str().unwrap())];
    let config = Config::load(&Flags::default(), os(&by_variable)).unwrap();
    assert_eq!(config.server.listen.port(), 1);
}

#[test]
fn unknown_keys_are_refused_with_what_is_allowed() {
    refused(
        "[server]\nlisen = 'x'",
        &[],
        &["unknown key `server.lisen` (did you mean `server.listen`?)", "drain_seconds"],
    );
    refused("[serve]\nlisten = 'x'", &[], &["unknown key `serve` (did you mean `server`?)"]);
    refused("listen = 'x'", &[], &["unknown key `listen` (did you mean `server.listen`?)"]);
    refused("[nothing]", &[], &["unknown key `nothing`", "allowed"]);
    refused("server = 3", &[], &["`server` is a section"]);
    refused("'server.listen' = '127.0.0.1:1'", &[], &["unknown key `\"server.listen\"`"]);
    refused(
        "[[upstream]]\nname = 'crates.io'\nurl = 'x'",
        &[],
        &["`upstream.0.url`", "index", "dl"],
    );
    refused("[[server]]\nlisten = '127.0.0.1:1'", &[], &["`server` is a section"]);
}

#[test]
fn unknown_variables_are_refused_but_not_those_of_kubernetes() {
    refused(
        "",
        &[("CRATEHOUSE_SERVER__LISEN", "x")],
        &["CRATEHOUSE_SERVER__LISEN (did you mean CRATEHOUSE_SERVER__LISTEN?)"],
    );
    refused(
        "",
        &[("CRATEHOUSE_URL", "x")],
        &["unknown variable CRATEHOUSE_URL (did you mean CRATEHOUSE_SERVER__URL or"],
    );
    let injected = [
        ("CRATEHOUSE_SERVICE_HOST", "10.0.0.1"),
        ("CRATEHOUSE_SERVICE_PORT_HTTPS", "443"),
        ("CRATEHOUSE_PORT", "tcp://10.0.0.1:443"),
        ("CRATEHOUSE_PORT_443_TCP_ADDR", "10.0.0.1"),
        ("CRATEHOUSE_ADMIN_PORT_8444_TCP", "tcp://10.0.0.1:8444"),
        ("PATH", "/bin"),
    ];
    Config::load(&Flags::default(), os(&injected)).unwrap();
    assert!(Config::load(&Flags::default(), os(&[("CRATEHOUSE_PORT_X", "1")])).is_err());
}

#[test]
fn bad_values_are_refused_by_their_key_with_what_is_allowed() {
    refused(
        "[server]\nlisten = 'localhost'",
        &[],
        &["`server.listen` cannot be `localhost`", "127.0.0.1:8443"],
    );
    refused("[server]\nlisten = 8443", &[], &["`server.listen` cannot be `8443`", "quotes"]);
    refused("[cache]\nindex_mib = -1", &[], &["`cache.index_mib`", "from 0 to 1048576"]);
    refused(
        "[limits]\nfill_wait_seconds = 30",
        &[],
        &["`limits.fill_wait_seconds`", "from 1 to 29"],
    );
    refused(
        "",
        &[("CRATEHOUSE_AUTH__REQUIRED", "yes")],
        &["`CRATEHOUSE_AUTH__REQUIRED` cannot be `yes`", "true or false"],
    );
    refused("[tls]\nmode = 'on'", &[], &["`tls.mode`", "`local-ca` or `files` or `off`"]);
    refused("[names]\nreserved = ['a*b']", &[], &["`names.reserved`", "prefix"]);
    refused("[log]\nfilter = 'cratehouse=loud'", &[], &["`log.filter`", "debug"]);
    refused("[server]\nurl = ''", &[], &["`server.url` is empty"]);
    refused("[store]\nurl = 'gcs://b'", &[], &["`store.url`", "s3://bucket/prefix"]);
}

#[test]
fn all_problems_are_told_at_once() {
    let error = load::read(&sources("x = 1\n[server]\nlisten = 1\nurl = 'ftp://x'", &[]), None);
    assert_eq!(error.unwrap_err().problems.len(), 3);
}

#[test]
fn texts_of_the_environment_become_what_the_key_wants() {
    let config = read(
        "[names]\nreserved = ['from-file']",
        &[
            ("CRATEHOUSE_AUTH__REQUIRED", "true"),
            ("CRATEHOUSE_CACHE__INDEX_MIB", "7"),
            ("CRATEHOUSE_NAMES__RESERVED", "acme-*, beta"),
            ("CRATEHOUSE_SERVER__ALIASES", ""),
        ],
    );
    assert!(config.auth_required && config.server.aliases.is_empty());
    assert_eq!(config.cache.index_bytes, 7 << 20);
    let reserved: Vec<_> = config.reserved.iter().map(NamePattern::as_str).collect();
    assert_eq!(reserved, ["acme-*", "beta"]);
}

#[test]
fn no_upstreams_can_be_asked_for_in_the_file_and_in_the_environment() {
    assert!(read("upstream = []", &[]).upstreams.is_empty());
    assert!(read("", &[("CRATEHOUSE_UPSTREAM", "")]).upstreams.is_empty());
    let file = "[[upstream]]\nname = 'crates.io'";
    assert!(read(file, &[("CRATEHOUSE_UPSTREAM", "")]).upstreams.is_empty());
    refused("", &[("CRATEHOUSE_UPSTREAM", "x")], &["`CRATEHOUSE_UPSTREAM` can only be empty"]);
    refused("upstream = 'crates.io'", &[], &["`upstream` cannot be", "[[upstream]]"]);
}

#[test]
fn the_preset_keeps_what_other_keys_do_not_override() {
    let config = read("[[upstream]]\nname = 'crates.io'\nfresh_seconds = 5", &[]);
    let [upstream] = config.upstreams.as_slice() else { panic!() };
    assert_eq!((&upstream.index, upstream.fresh.as_secs()), (&crates_io_index(), 5));

    let index = [("CRATEHOUSE_UPSTREAM__0__INDEX", "sparse+http://127.0.0.1:9/index")];
    let config = read("", &index);
    let [upstream] = config.upstreams.as_slice() else { panic!() };
    assert_eq!(upstream.index.as_str(), "http://127.0.0.1:9/index/");
    assert_eq!((upstream.name.as_str(), upstream.identity), (CRATES_IO, Identity::CratesIo));
}

#[test]
fn other_upstreams_must_say_where_they_are_and_whose_their_crates_are() {
    let error = refused("[[upstream]]\nname = 'panamax'", &[], &["`upstream.0.index` is required"]);
    assert!(error.contains("`upstream.0.identity` is required") && error.contains("`ours`"));
    refused("", &[("CRATEHOUSE_UPSTREAM__1__NAME", "b")], &["`upstream.1.index` is required"]);
    refused("[[upstream]]\nname = 'a/b'", &[], &["`upstream.0.name` cannot be `a/b`"]);
    refused("[[upstream]]\nname = '..'", &[], &["`upstream.0.name`"]);
    let two = "[[upstream]]\nname = 'crates.io'\n".repeat(2);
    refused(&two, &[], &["two upstreams are called `crates.io`"]);
}

#[test]
fn secrets_come_from_files_and_variables_and_never_show() {
    let file = "[[upstream]]\nname = 'crates.io'\ntoken_file = 't'";
    let config = read(file, &[]);
    assert_eq!(config.upstreams[0].token.as_ref().unwrap().reveal(), "from-a-file");

    let keys = [
        ("CRATEHOUSE_STORE__ACCESS_KEY_ID", "id"),
        ("CRATEHOUSE_STORE__SECRET_ACCESS_KEY", "hush"),
    ];
    let config = read("", &keys);
    assert_eq!(config.store.secret_access_key.as_ref().unwrap().reveal(), "hush");
    assert!(!format!("{config:?}").contains("hush"));

    let error = refused(
        "[store]\naccess_key_id = 'i'\nsecret_access_key = 'hush'",
        &[],
        &["secret_access_key_file", "CRATEHOUSE_STORE__SECRET_ACCESS_KEY"],
    );
    assert!(!error.contains("hush"), "{error}");
    refused("", &keys[1..], &["belong together"]);
    refused(file, &[("CRATEHOUSE_UPSTREAM__0__TOKEN", "x")], &["not both"]);
}

#[test]
fn a_shared_store_does_not_go_with_a_local_ca() {
    let s3 = "[store]\nurl = 's3://bucket/a/b/'\n[tls]\n";
    refused(s3, &[], &["s3://", "`tls.cert`", "`off`"]);
    let config = read(&format!("{s3}mode = 'off'"), &[]);
    assert_eq!(config.store.url.to_string(), "s3://bucket/a/b");
    refused("[store]\nurl = 'gs://bucket'", &[], &["gs://", "`tls.cert`"]);
    assert!(matches!(read(&format!("{s3}cert = 'c'\nkey = 'k'"), &[]).tls, Tls::Files { .. }));
}

#[test]
fn what_is_set_for_s3_is_not_passed_over_by_another_cloud() {
    let gcs = "[tls]\nmode = 'off'\n[store]\nurl = 'gs://bucket'\n";
    read(gcs, &[]);
    refused(&format!("{gcs}endpoint = 'https://x'"), &[], &["`store.endpoint`", "gs://"]);
    refused(&format!("{gcs}region = 'x'"), &[], &["`store.region`"]);
}

#[test]
fn new_connections_are_served_for_a_part_of_the_stop_at_most() {
    let file = |unready| format!("[server]\ndrain_seconds = 10\nunready_seconds = {unready}");
    assert_eq!(read(&file(9), &[]).server.unready, Duration::from_secs(9));
    refused(&file(10), &[], &["server.unready_seconds", "less than"]);
}

#[test]
fn proxies_are_believed_when_it_is_said_which_and_how() {
    let trusted = "trusted_proxies = ['10.0.0.0/8', 'fd00::1']";
    let proxies = |tls: &str, header: &str| {
        let file = format!("{tls}\n[server]\n{trusted}\nproxy_header = '{header}'");
        try_read(&file, &[]).map(|config| config.server.proxies.unwrap())
    };
    let found = proxies("", "proxy-v2").unwrap();
    assert_eq!(found.header, ProxyHeader::ProxyV2);
    assert!(found.trusted.contains("10.1.2.3".parse().unwrap()));
    assert!(!found.trusted.contains("11.1.2.3".parse().unwrap()));
    for header in ["x-forwarded-for", "forwarded"] {
        proxies("tls.mode = 'off'", header).unwrap();
        let error = proxies("", header).unwrap_err();
        assert!(error.contains("server.proxy_header") && error.contains("tls.mode"), "{error}");
    }
    refused(&format!("[server]\n{trusted}"), &[], &["server.proxy_header", "x-forwarded-for"]);
    refused("[server]\nproxy_header = 'forwarded'", &[], &["needs `server.trusted_proxies`"]);
    let wrong = "[server]\ntrusted_proxies = ['10.0.0.0/8', 'lb.example']\nproxy_header = 'via'";
    let error = refused(wrong, &[], &["lb.example", "server.proxy_header"]);
    assert!(!error.contains("needs"), "{error}");
    let variables = [
        ("CRATEHOUSE_SERVER__TRUSTED_PROXIES", "10.0.0.1, fd00::/8"),
        ("CRATEHOUSE_SERVER__PROXY_HEADER", "proxy-v2"),
    ];
    assert!(read("", &variables).server.proxies.is_some());
    assert!(read("", &[]).server.proxies.is_none());
}

#[test]
fn tls_keys_that_contradict_each_other_are_refused() {
    refused("[tls]\ncert = 'c'", &[], &["belong together"]);
    refused("[tls]\nmode = 'files'", &[], &["belong together"]);
    refused("[tls]\nmode = 'off'\ncert = 'c'\nkey = 'k'", &[], &["`tls.mode` = `off`"]);
    refused("[server]\nurl = 'http://x'", &[], &["https://"]);
    read("[server]\nurl = 'https://x'\n[tls]\nmode = 'off'", &[]);
    read("[server]\nurl = 'http://x'\n[tls]\nmode = 'off'", &[]);
}

#[test]
fn our_url_has_no_path_and_no_credentials() {
    for bad in ["https://x/crates", "https://u:p@x", "https://x/?q", "x", "ftp://x"] {
        let error = refused("", &[("CRATEHOUSE_SERVER__URL", bad)], &["CRATEHOUSE_SERVER__URL"]);
        assert!(!error.contains("u:p"), "{error}");
    }
    let config = read("", &[("CRATEHOUSE_SERVER__URL", "https://Crates.Acme.example:443/")]);
    assert_eq!(config.url_for(config.server.listen), "https://crates.acme.example");
    let own =
        "[server]\nurl = 'https://x'\n[[upstream]]\nname = 'crates.io'\nindex = 'https://x/i'";
    refused(own, &[], &["ask ourselves"]);
}

#[test]
fn a_mirror_whose_bound_is_not_set_is_bounded_by_its_disk() {
    let max = |text: &str| read(text, &[]).mirror.max;
    assert_eq!(max(""), MirrorMax::Disk);
    assert_eq!(max("mirror.max_mib = 0"), MirrorMax::Unbounded);
    assert_eq!(max("mirror.max_mib = 3"), MirrorMax::Bytes(3 << 20));
}

#[test]
fn a_url_is_made_from_the_bound_address_when_none_is_configured() {
    let config = read("", &[]);
    let url = |bound: &str| config.url_for(bound.parse().unwrap());
    assert_eq!(url("127.0.0.1:8443"), "https://127.0.0.1:8443");
    assert_eq!(url("0.0.0.0:443"), "https://127.0.0.1");
    assert_eq!(url("[::]:9"), "https://localhost:9");
    assert_eq!(url("[::1]:9"), "https://[::1]:9");
    let off = read("[tls]\nmode = 'off'", &[]);
    assert_eq!(off.url_for("10.0.0.1:80".parse().unwrap()), "http://10.0.0.1");
}

#[test]
fn fingerprints_tell_what_replicas_should_share() {
    let same = read("", &[]).fingerprint();
    let replica = "data = 'b'\n[server]\nreplica = 'b'\nlisten = '127.0.0.1:9'\n[store]\nurl = 'file://cratehouse-data/store'";
    assert_eq!(read(replica, &[]).fingerprint(), same);
    assert_ne!(read("[auth]\nrequired = true", &[]).fingerprint(), same);
    let secret = |text| read("", &[("CRATEHOUSE_UPSTREAM__0__TOKEN", text)]).fingerprint();
    assert_eq!(secret("a"), secret("b"));
}

/// Uncomments the keys of the example: lines that begin with `#` and no space.
fn uncommented() -> String {
    let line = |line: &'static str| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => key,
        _ => line,
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_as_it_stands_is_the_default() {
    assert_eq!(format!("{:?}", read(EXAMPLE, &[])), format!("{:?}", read("", &[])));
}

#[test]
fn the_example_names_every_key_and_its_variable() {
    let text = uncommented();
    let table: toml::Table = text.parse().unwrap();
    let (_, asked) = load::read(&sources(&text, &[]), None).unwrap();
    let by_environment_alone = ["store.secret_access_key", "upstream.0.token"];
    for path in &asked {
        assert!(EXAMPLE.contains(&format!("{}]", variable(path))) || path == "upstream", "{path}");
        let mut parts = path.split('.').filter(|part| *part != "0");
        let section = table.get(parts.next().unwrap()).unwrap();
        let section = section.get(0).unwrap_or(section);
        let found = parts.next().is_none_or(|key| section.get(key).is_some());
        assert!(found || by_environment_alone.contains(&path.as_str()), "{path}");
    }
    let variables: BTreeSet<_> = asked.iter().map(|path| variable(path)).collect();
    for named in EXAMPLE.split('[').filter(|part| part.starts_with(PREFIX)) {
        let (named, _) = named.split_once(']').unwrap();
        assert!(variables.contains(named), "{named}");
    }
}

#[test]
fn a_share_is_a_number_from_0_to_1() {
    let ratio =
        |text: &str| read(&format!("tracing.sample_ratio = {text}"), &[]).tracing.sample_ratio;
    assert_eq!([ratio("1"), ratio("0.25"), ratio("0")], [1.0, 0.25, 0.0]);
    let by_environment = read("", &[("CRATEHOUSE_TRACING__SAMPLE_RATIO", "0.5")]);
    assert_eq!(by_environment.tracing.sample_ratio, 0.5);
    for wrong in ["1.1", "-0.1", "nan", "'0.5'"] {
        refused(&format!("tracing.sample_ratio = {wrong}"), &[], &["from 0 to 1"]);
    }
}

#[test]
fn one_address_may_take_a_quarter_unless_it_is_said_otherwise() {
    assert_eq!(read("", &[]).limits.per_address.share_of(100), Some(25));
    let office = "198.51.100.7".parse().unwrap();
    let file = "[limits]\nper_address_percent = 100\nexempt_networks = ['198.51.100.0/24']";
    let per_address = read(file, &[]).limits.per_address;
    assert_eq!(per_address.share_of(100), None);
    assert!(per_address.exempt.contains(office));
    for wrong in ["0", "101"] {
        let file = format!("limits.per_address_percent = {wrong}");
        refused(&file, &[], &["`limits.per_address_percent`", "from 1 to 100"]);
    }
    refused("limits.exempt_networks = ['office']", &[], &["`limits.exempt_networks`", "office"]);
}

#[test]
fn the_example_tells_the_true_defaults() {
    let default = read("", &[]);
    let mut example = read(&uncommented(), &[]);
    assert_eq!(example.upstreams[0].fresh, default.upstreams[0].fresh);
    assert_eq!(example.upstreams[0].negative, default.upstreams[0].negative);
    assert_eq!(example.upstreams[0].timeout, default.upstreams[0].timeout);
    // What has no default, or one that depends on other keys.
    let Server { drain, unready, .. } = example.server;
    example.server = Server { drain, unready, ..default.server.clone() };
    example.tls = default.tls.clone();
    example.store = Store {
        url: example.store.url,
        allow_http: example.store.allow_http,
        ..default.store.clone()
    };
    (example.policy.dir, example.policy.advisories) = (None, None);
    example.upstreams = default.upstreams.clone();
    example.reserved = default.reserved.clone();
    example.allowed_registries = default.allowed_registries.clone();
    example.outgoing_ca = default.outgoing_ca.clone();
    example.tracing.otlp = None;
    assert_eq!(example.mirror.max, MirrorMax::Unbounded, "0, as it stands there");
    example.mirror.max = MirrorMax::Disk;
    assert_eq!(example.unified_index, Some(false), "as in a new registry");
    example.unified_index = None;
    example.limits.per_address.exempt = default.limits.per_address.exempt.clone();
    assert_eq!(format!("{example:?}"), format!("{default:?}"));
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error(
        text in "(\\[{0,2}(server|tls|upstream|x)\\]{0,2}|(listen|url|name|mode|a\\.b) = (1|''|'x'|\\[\\]|\\{\\}|'\u{e9}')|\n){0,12}",
        name in "(SERVER|UPSTREAM|LIMITS|\u{e9})(__[0-9]{1,6})?(__[A-Z]{0,4})?",
        value in ".{0,20}",
    ) {
        if let Ok(file) = text.parse() {
            let environment = [(format!("{PREFIX}{name}"), value)].into();
            let sources = Sources { file, environment, ..sources("", &[]) };
            let _ = load::read(&sources, None);
        }
    }
}
