//! `deploy/k8s/`: what the overlays build to, held against Kubernetes' own schemas, the gateway,
//! and what must be true of them together.

mod rules;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::{Gateway, binary};
use cratehouse_tests::kustomize::{NEW_KUBECTL, OLD_KUBECTL, Overlay, list, manifests, overlays};
use cratehouse_tests::memory_s3::MemoryS3;
use cratehouse_tests::s3::S3;
use cratehouse_tests::sts::Sts;
use cratehouse_tests::tools::{run, tool};

/// The oldest that `deploy/k8s/README.md` names, one between, and the newest whose schemas are there.
const KUBERNETES: [&str; 3] = ["1.28", "1.33", "1.37"];

/// Kinds that are not Kubernetes' own, so that it has no schemas for them.
const WITHOUT_SCHEMA: [&str; 1] = ["kind Certificate with api version cert-manager.io/v1"];

/// Every overlay, as Debian's kubectl builds it; by name.
fn built() -> &'static [Overlay] {
    static BUILT: OnceLock<Vec<Overlay>> = OnceLock::new();
    BUILT.get_or_init(|| overlays(OLD_KUBECTL))
}

fn overlay(name: &str) -> &'static Overlay {
    built().iter().find(|overlay| overlay.name == name).unwrap()
}

#[test]
fn every_overlay_is_built_alike_by_an_old_and_by_a_new_kubectl() {
    let names: Vec<_> = built().iter().map(|overlay| overlay.name.as_str()).collect();
    assert_eq!(names, ["autoscaled", "cert-manager", "replicated", "single"]);
    for (old, new) in built().iter().zip(overlays(NEW_KUBECTL)) {
        assert_eq!(sorted(old), sorted(&new), "{}", old.name);
    }
}

/// The order of the objects is kustomize's business, and so is the hash at the end of a name.
fn sorted(overlay: &Overlay) -> Vec<String> {
    let name = overlay.config_map("config")["metadata"]["name"].as_str().unwrap();
    let (plain, hash) = name.rsplit_once('-').unwrap();
    assert_eq!((plain, hash.len()), ("cratehouse-config", 10));
    let mut texts: Vec<_> =
        overlay.objects.iter().map(|object| object.to_string().replace(name, plain)).collect();
    texts.sort();
    texts
}

#[test]
fn every_object_fits_the_schemas_of_three_kubernetes_releases() {
    let folder = tempfile::tempdir().unwrap();
    for overlay in built() {
        fs::write(folder.path().join(&overlay.name), &overlay.yaml).unwrap();
    }
    let objects: usize = built().iter().map(|overlay| overlay.objects.len()).sum();
    for release in KUBERNETES {
        let mut validator = tool("python/bin/kubernetes-validate");
        validator.args(["--strict", "-k", release]).current_dir(folder.path());
        let output = run(validator.args(built().iter().map(|overlay| &overlay.name)));
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{release}: {told}");
        let (passed, others): (Vec<_>, Vec<_>) =
            told.lines().partition(|line| line.contains(" passed for resource "));
        for other in &others {
            let known = WITHOUT_SCHEMA.iter().any(|kind| {
                other.contains(&format!("Couldn't find schema for {kind} for kubernetes version"))
            });
            assert!(known, "{release}: {other}");
        }
        assert_eq!(passed.len() + others.len(), objects, "{release}: {told}");
    }
}

/// What stands in the README about an overlay of one's own.
#[test]
fn the_overlay_in_the_readme_is_built_and_differs_as_it_says() {
    let readme = fs::read_to_string(manifests().join("README.md")).unwrap();
    let (_, after) = readme.split_once("```yaml\n# kustomization.yaml\n").unwrap();
    let (kustomization, _) = after.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(manifests()).arg(folder.path()).status();
    assert!(copied.unwrap().success());
    let own = folder.path().join("k8s/own");
    fs::create_dir(&own).unwrap();
    fs::write(own.join("kustomization.yaml"), kustomization).unwrap();
    let config = fs::read_to_string(manifests().join("base/cratehouse.toml")).unwrap();
    fs::write(own.join("cratehouse.toml"), config.replace("acme", "yours")).unwrap();
    fs::write(own.join("store.yaml"), STORE).unwrap();
    let newer = kustomization.replace("bases: #", "resources: #");
    for (kubectl, text) in
        [(OLD_KUBECTL, kustomization), (NEW_KUBECTL, kustomization), (NEW_KUBECTL, &newer)]
    {
        fs::write(own.join("kustomization.yaml"), text).unwrap();
        let built = Overlay::build(kubectl, &own);
        assert_eq!(built.container()["image"], "images.yours.example/cratehouse:0.1.0");
        assert_eq!(built.config()["server"]["url"].as_str(), Some("https://crates.yours.example"));
        let bucket = ("CRATEHOUSE_STORE__URL".to_owned(), "s3://yours/crates".to_owned());
        assert!(built.environment().contains(&bucket), "{:?}", built.environment());
        assert_eq!(built.environment().len(), overlay("replicated").environment().len());
    }
}

const STORE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cratehouse
spec:
  template:
    spec:
      containers:
        - name: cratehouse
          env:
            - name: CRATEHOUSE_STORE__URL
              value: s3://yours/crates
";

/// The container's own arguments and variables, with its files in another place.
#[test]
fn every_configuration_is_one_that_the_gateway_takes() {
    for overlay in built() {
        let root = tempfile::tempdir().unwrap();
        let here = |path: &str| path.replace("/etc/cratehouse", root.path().to_str().unwrap());
        let authority = Authority::new();
        for (folder, name, text) in [
            ("tls", "tls.crt", authority.cert.as_str()),
            ("tls", "tls.key", &authority.key),
            ("policies", "policy.toml", data(overlay, "policies", "policy.toml")),
            ("", "cratehouse.toml", &here(data(overlay, "config", "cratehouse.toml"))),
        ] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join(name), text).unwrap();
        }
        let arguments = list(&overlay.container()["args"]).iter().map(|a| a.as_str().unwrap());
        let mut arguments: Vec<_> = arguments.map(here).collect();
        assert_eq!(arguments.pop().as_deref(), Some("serve"), "{}", overlay.name);
        let mut check = Command::new(binary());
        check.args(arguments).args(["config", "check"]).env_clear().envs(overlay.environment());
        let output = run(check.current_dir(root.path()));
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{}: {told}", overlay.name);
        assert!(told.starts_with("the configuration is good"), "{}: {told}", overlay.name);
    }
}

fn data(overlay: &'static Overlay, volume: &str, file: &str) -> &'static str {
    overlay.config_map(volume)["data"][file].as_str().unwrap()
}

#[test]
fn the_probes_ask_what_the_gateway_answers() {
    let gateway = Gateway::start();
    for overlay in built() {
        let container = overlay.container();
        let mut asked = Vec::new();
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let get = &container[probe]["httpGet"];
            assert_eq!(get["port"], "admin", "{}: {probe}", overlay.name);
            asked.push(get["path"].as_str().unwrap());
        }
        assert_eq!(asked, ["/livez", "/readyz", "/readyz"], "{}", overlay.name);
        for path in asked {
            gateway.admin().get(path).assert_status(200);
        }
    }
}

/// With the variables of the manifest, by their names there, and no key.
#[test]
fn a_replica_shows_s3_the_token_of_its_service_account() {
    let replicated = overlay("replicated");
    let variables = replicated.environment();
    let value = |name: &str| {
        let found = variables.iter().find(|(n, _)| n == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.clone()
    };
    let token_file = value("AWS_WEB_IDENTITY_TOKEN_FILE");
    assert_eq!(token_file, rules::projected_token(replicated));

    let (s3, authority, folder) =
        (MemoryS3::start(), Authority::new(), tempfile::tempdir().unwrap());
    let sts = Sts::start(&authority);
    let own_token = folder.path().join("token");
    fs::write(&own_token, "of-the-service-account").unwrap();
    let own_ca = folder.path().join("ca.pem");
    fs::write(&own_ca, &authority.ca).unwrap();
    let S3 { endpoint, .. } = s3.bucket();
    let mut builder = Gateway::builder().certificate(&authority).set("store", "allow_http = true");
    for (name, value) in &variables {
        let value = match name.as_str() {
            "AWS_WEB_IDENTITY_TOKEN_FILE" => own_token.to_str().unwrap(),
            "CRATEHOUSE_STORE__URL" => &s3.bucket().url(),
            _ => value,
        };
        builder = builder.env(name, value);
    }
    let gateway = builder
        .env("CRATEHOUSE_STORE__ENDPOINT", &endpoint)
        .env("AWS_ENDPOINT_URL_STS", &sts.url())
        .env("CRATEHOUSE_OUTGOING__CA_FILE", path(&own_ca))
        .start();
    gateway.client().get("/index/config.json").assert_status(200);

    let asked = sts.requests();
    assert!(!asked.is_empty());
    for request in &asked {
        let role = value("AWS_ROLE_ARN").replace(':', "%3A").replace('/', "%2F");
        for part in [
            "Action=AssumeRoleWithWebIdentity",
            &format!("RoleArn={role}"),
            "WebIdentityToken=of-the-service-account",
        ] {
            assert!(request.path.contains(part), "{part}: {}", request.path);
        }
    }
    assert_eq!(s3.signers(), [("short-lived".to_owned(), Some("session".to_owned()))]);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
