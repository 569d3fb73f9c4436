//! What must be true within each overlay.

use cratehouse_tests::kustomize::{Overlay, list, manifests};
use serde_json::{Value, json};

use super::{built, overlay};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Between the end of the drain and the kill, at least.
const MARGIN_SECONDS: i64 = 10;

/// Where the projected token is, which says to S3 who the pod is.
pub(super) fn projected_token(overlay: &Overlay) -> String {
    let volumes = list(&overlay.pod()["spec"]["volumes"]);
    let token = |volume: &Value| {
        let sources = list(&volume["projected"]["sources"]);
        sources.iter().find_map(|s| s["serviceAccountToken"]["path"].as_str().map(str::to_owned))
    };
    let (name, file) = volumes.iter().find_map(|v| Some((v["name"].clone(), token(v)?))).unwrap();
    let mounts = list(&overlay.container()["volumeMounts"]);
    let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap();
    format!("{}/{file}", mount["mountPath"].as_str().unwrap())
}

#[test]
fn ports_are_those_of_the_configuration() {
    for overlay in built() {
        let config = overlay.config();
        let ports = list(&overlay.container()["ports"]);
        for (name, key) in [("https", "listen"), ("admin", "admin_listen")] {
            let listen = config["server"][key].as_str().unwrap();
            let port: u64 = listen.rsplit_once(':').unwrap().1.parse().unwrap();
            let named = ports.iter().find(|p| p["name"] == name).unwrap();
            assert_eq!(named["containerPort"], port, "{}: {key}", overlay.name);
            assert!(listen.starts_with("0.0.0.0:"), "the kubelet is not on loopback: {listen}");
        }
        let services = overlay.all("Service");
        let port = |name: &str| {
            let service = services.iter().find(|s| s["metadata"]["name"] == name).unwrap();
            let [port] = list(&service["spec"]["ports"]) else { panic!("{name}: one port") };
            json!([port["port"], port["targetPort"]])
        };
        assert_eq!(port("cratehouse"), json!([443, "https"]), "{}", overlay.name);
        assert_eq!(port("cratehouse-admin"), json!([8444, "admin"]), "{}", overlay.name);
    }
}

#[test]
fn the_drain_ends_before_the_pod_is_killed() {
    for overlay in built() {
        let grace = overlay.pod()["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap();
        let drain = overlay.config()["server"]["drain_seconds"].as_integer().unwrap();
        assert!(grace >= drain + MARGIN_SECONDS, "{}: {drain} s, then {grace} s", overlay.name);
        let unready = overlay.config()["server"]["unready_seconds"].as_integer().unwrap();
        // Requests under way keep what they had without it.
        assert!((5..=drain - 25).contains(&unready), "{}: {unready} of {drain} s", overlay.name);
    }
}

#[test]
fn requests_are_no_more_than_limits() {
    for overlay in built() {
        let resources = &overlay.container()["resources"];
        for what in ["cpu", "memory", "ephemeral-storage"] {
            let amount = |kind: &str| thousandths(resources[kind][what].as_str().unwrap());
            assert!(amount("requests") <= amount("limits"), "{}: {what}", overlay.name);
        }
        let emptied = list(&overlay.pod()["spec"]["volumes"]);
        let scratch = emptied.iter().filter_map(|v| v["emptyDir"]["sizeLimit"].as_str());
        let scratch: u64 = scratch.map(thousandths).sum();
        let limit = resources["limits"]["ephemeral-storage"].as_str().unwrap();
        assert!(scratch < thousandths(limit), "{}: logs need room too", overlay.name);
    }
}

/// As the comment beside the limit adds it up.
#[test]
fn the_memory_limit_holds_what_the_configuration_bounds() {
    for overlay in built() {
        let config = overlay.config();
        let number = |section: &str, key: &str| {
            let value = config[section][key].as_integer();
            u64::try_from(value.unwrap_or_else(|| panic!("{section}.{key}"))).unwrap()
        };
        let index = number("cache", "index_mib");
        let evicted = index.max(4 * number("limits", "index_file_mib"));
        let crates = number("cache", "crates_mib") + number("limits", "fill_memory_mib");
        let (publishes, rest) = (256, 32);
        let (responses, names) = (number("limits", "response_memory_mib"), 64);
        let all = number("catalog", "cache_mib") + index + evicted + crates + publishes + rest;
        let all = all + responses + names;
        let requests = number("limits", "requests") * (36 + 4 * 2) * KIB;
        let bound = all * MIB + number("limits", "connections") * 64 * KIB + requests;
        let limit = overlay.container()["resources"]["limits"]["memory"].as_str().unwrap();
        let limit = thousandths(limit) / 1000;
        assert!(bound + bound / 10 <= limit, "{}: {bound} of {limit} bytes", overlay.name);

        let warm = number("catalog", "cache_mib") + index + number("cache", "crates_mib");
        let request = overlay.container()["resources"]["requests"]["memory"].as_str().unwrap();
        assert!(thousandths(request) / 1000 >= warm * MIB, "{}: {request}", overlay.name);
    }
}

#[test]
fn every_container_is_hardened() {
    for overlay in built() {
        let pod = &overlay.pod()["spec"];
        let inside = &pod["securityContext"];
        assert_eq!(inside["runAsNonRoot"], true);
        for id in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert!(inside[id].as_u64().unwrap() >= 10_000, "{}: {id}", overlay.name);
        }
        assert_eq!(inside["seccompProfile"], json!({ "type": "RuntimeDefault" }));
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(overlay.one("ServiceAccount")["automountServiceAccountToken"], false);
        for other in ["initContainers", "hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[other].is_null(), "{}: {other}", overlay.name);
        }
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(overlay.container()["securityContext"], expected, "{}", overlay.name);
        let namespace = &overlay.one("Namespace")["metadata"];
        assert_eq!(namespace["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    }
}

#[test]
fn no_secret_has_a_value() {
    for overlay in built() {
        assert_eq!(overlay.all("Secret"), Vec::<&Value>::new(), "{}", overlay.name);
        for (name, _) in overlay.environment() {
            let secret = ["SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY"].iter();
            let named = secret.into_iter().any(|word| name.contains(word));
            assert!(!named || name.ends_with("_FILE"), "{}: {name}", overlay.name);
        }
        for key in ["token", "secret_access_key", "access_key_id"] {
            let text = overlay.config().to_string();
            assert!(!text.contains(key), "{}: {key}", overlay.name);
        }
    }
}

#[test]
fn one_replica_leaves_its_volume_before_the_next_and_several_are_rolled() {
    let single = overlay("single").one("Deployment");
    assert_eq!(single["spec"]["replicas"], 1);
    assert_eq!(single["spec"]["strategy"], json!({ "type": "Recreate" }));
    let volume = overlay("single").one("PersistentVolumeClaim");
    assert_eq!(volume["spec"]["accessModes"], json!(["ReadWriteOnce"]));
    for name in ["replicated", "autoscaled", "cert-manager"] {
        let overlay = overlay(name);
        let deployment = overlay.one("Deployment");
        let rolled = json!({ "maxUnavailable": 0, "maxSurge": 1 });
        let strategy = &deployment["spec"]["strategy"];
        assert_eq!(strategy["rollingUpdate"], rolled, "{name}: {strategy}");
        assert_eq!(overlay.one("PodDisruptionBudget")["spec"]["maxUnavailable"], 1, "{name}");
        let spread = list(&overlay.pod()["spec"]["topologySpreadConstraints"]);
        assert_eq!(spread.len(), 2, "{name}");
        // A constraint that must hold would leave a rolling update without a place.
        assert!(spread.iter().all(|s| s["whenUnsatisfiable"] == "ScheduleAnyway"), "{name}");
    }
    for name in ["replicated", "cert-manager"] {
        assert_eq!(overlay(name).one("Deployment")["spec"]["replicas"], 3);
    }
}

#[test]
fn the_autoscaler_alone_says_how_many_replicas_there_are() {
    let overlay = overlay("autoscaled");
    let deployment = overlay.one("Deployment");
    assert_eq!(deployment["spec"].get("replicas"), None);
    let scaler = &overlay.one("HorizontalPodAutoscaler")["spec"];
    let target = &scaler["scaleTargetRef"];
    assert_eq!(target["kind"], "Deployment");
    assert_eq!(target["name"], deployment["metadata"]["name"]);
    assert_eq!(scaler["minReplicas"], 3);
    assert!(scaler["maxReplicas"].as_u64() > scaler["minReplicas"].as_u64());
    let [metric] = list(&scaler["metrics"]) else { panic!("one metric") };
    assert_eq!(metric["resource"]["name"], "cpu", "a share of what the container asks for");
}

#[test]
fn what_selects_pods_selects_ours() {
    for overlay in built() {
        let labels = &overlay.pod()["metadata"]["labels"];
        let mut selectors = vec![&overlay.one("Deployment")["spec"]["selector"]["matchLabels"]];
        selectors.extend(overlay.all("Service").iter().map(|s| &s["spec"]["selector"]));
        let policy = overlay.one("NetworkPolicy");
        selectors.push(&policy["spec"]["podSelector"]["matchLabels"]);
        for budget in overlay.all("PodDisruptionBudget") {
            selectors.push(&budget["spec"]["selector"]["matchLabels"]);
        }
        for spread in list(&overlay.pod()["spec"]["topologySpreadConstraints"]) {
            selectors.push(&spread["labelSelector"]["matchLabels"]);
        }
        for selector in selectors {
            assert_eq!(selector, labels, "{}", overlay.name);
        }
    }
}

#[test]
fn what_the_pod_names_is_there() {
    for overlay in built() {
        let pod = &overlay.pod()["spec"];
        let account = &overlay.one("ServiceAccount")["metadata"]["name"];
        assert_eq!(pod["serviceAccountName"], *account, "{}", overlay.name);
        let volumes = list(&pod["volumes"]);
        let mounts = list(&overlay.container()["volumeMounts"]);
        let names = |of: &[Value]| {
            let mut names: Vec<_> = of.iter().map(|v| v["name"].to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names(volumes), names(mounts), "{}", overlay.name);
        for volume in ["config", "policies"] {
            overlay.config_map(volume);
        }
        for volume in volumes {
            if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                let made = &overlay.one("PersistentVolumeClaim")["metadata"]["name"];
                assert_eq!(made, claim, "{}", overlay.name);
            }
        }
        for object in &overlay.objects {
            let namespace = match object["kind"].as_str().unwrap() {
                "Namespace" => &object["metadata"]["name"],
                _ => &object["metadata"]["namespace"],
            };
            assert_eq!(namespace, "cratehouse", "{}: {object}", overlay.name);
        }
    }
}

/// Of what stands in a mounted file, the gateway finds it where the volume is.
#[test]
fn files_are_where_the_configuration_looks_for_them() {
    for overlay in built() {
        let config = overlay.config();
        let mounts = list(&overlay.container()["volumeMounts"]);
        let mounted = |volume: &str| {
            let mount = mounts.iter().find(|mount| mount["name"] == volume).unwrap();
            mount["mountPath"].as_str().unwrap()
        };
        let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
        assert_eq!(text(&config["data"]), mounted("data"), "{}", overlay.name);
        assert_eq!(text(&config["policy"]["dir"]), mounted("policies"), "{}", overlay.name);
        for (key, file) in [("cert", "tls.crt"), ("key", "tls.key")] {
            // The names in a secret of the type kubernetes.io/tls.
            assert_eq!(text(&config["tls"][key]), format!("{}/{file}", mounted("tls")));
        }
        let arguments = &overlay.container()["args"];
        assert_eq!(arguments[1], mounted("config"), "{}", overlay.name);
    }
}

#[test]
fn the_certificate_is_for_the_host_of_the_url_and_in_the_secret_of_the_pod() {
    let overlay = overlay("cert-manager");
    let certificate = &overlay.one("Certificate")["spec"];
    let url = overlay.config()["server"]["url"].as_str().unwrap().to_owned();
    assert_eq!(certificate["dnsNames"], json!([url.strip_prefix("https://").unwrap()]));
    let volumes = list(&overlay.pod()["spec"]["volumes"]);
    let secret = volumes.iter().find_map(|v| v["secret"]["secretName"].as_str()).unwrap();
    assert_eq!(certificate["secretName"], secret);
}

#[test]
fn metrics_are_for_the_monitoring_alone_and_only_names_and_https_go_out() {
    for overlay in built() {
        let policy = &overlay.one("NetworkPolicy")["spec"];
        assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]), "{}", overlay.name);
        let monitoring = json!([{ "namespaceSelector": {
            "matchLabels": { "kubernetes.io/metadata.name": "monitoring" },
        }}]);
        let tcp = |port: u16| json!([{ "protocol": "TCP", "port": port }]);
        let expected = json!([
            { "ports": tcp(8443) },
            { "from": monitoring, "ports": tcp(8444) },
        ]);
        assert_eq!(policy["ingress"], expected, "{}", overlay.name);
        let names = json!([{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }]);
        assert_eq!(policy["egress"], json!([{ "ports": names }, { "ports": tcp(443) }]));
    }
}

#[test]
fn the_image_is_of_this_release() {
    for overlay in built() {
        let image = overlay.container()["image"].as_str().unwrap();
        let tag = concat!(":", env!("CARGO_PKG_VERSION"));
        assert!(image.ends_with(tag), "{}: {image}", overlay.name);
    }
}

/// kustomize reads no file outside its folders, so it is there twice.
#[test]
fn the_policy_is_the_one_to_start_from() {
    let read = |path: &str| std::fs::read_to_string(manifests().join(path)).unwrap();
    assert_eq!(read("policies/policy.toml"), read("../../policies/starter/policy.toml"));
}

/// An amount in the words of Kubernetes, in thousandths: `500m`, `2`, `512Mi`.
fn thousandths(amount: &str) -> u64 {
    let split = amount.find(|c: char| !c.is_ascii_digit()).unwrap_or(amount.len());
    let (number, unit) = amount.split_at(split);
    let number: u64 = number.parse().unwrap();
    match unit {
        "m" => number,
        "" => number * 1000,
        "Mi" => number * MIB * 1000,
        "Gi" => number * 1024 * MIB * 1000,
        other => panic!("{other} of {amount}"),
    }
}
