//! Who fails too often waits, and nobody else does.

use cratehouse_tests::gateway::Gateway;
use cratehouse_tests::krate::Krate;

#[test]
fn who_guesses_tokens_waits_longer_and_longer_and_tokens_that_count_do_not() {
    let gateway = Gateway::builder().auth_required().start();
    let (client, token) = (gateway.client(), gateway.token("alice"));
    let show = |token: &str| client.get_as("/index/config.json", token);
    let guess = |n: u32| show(&format!("crh_jWguwoYyRxDMudr65rcnaEGH5TcOU{n:03}"));
    let statuses: Vec<_> = (0..30).map(|n| guess(n).status).collect();
    assert_eq!(statuses[..20], [401; 20]);
    assert!(statuses[20..].contains(&429), "{statuses:?}");
    let refused = guess(99);
    assert_eq!(refused.status, 429, "{refused}");
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{refused}");
    show(&token).assert_status(200);
    // The first question of every cargo shows no token, and is no guess.
    for _ in 0..50 {
        client.get("/index/config.json").assert_status(401);
    }
    let newcomer = gateway.token("bob");
    cratehouse_tests::patience::until("a new token counts too", || show(&newcomer).status == 200);
    assert!(gateway.metric("cratehouse_throttled_total", &[("what", "credential")]) >= 1.0);
    assert!(gateway.metric("cratehouse_credentials_refused_total", &[]) >= 20.0);
}

#[test]
fn publishes_of_one_user_are_limited_where_that_is_configured() {
    let gateway = Gateway::builder()
        .set("limits", "publishes_per_hour = 1")
        .set("limits", "publish_burst = 3")
        .start();
    let (client, alice, bob) = (gateway.client(), gateway.token("alice"), gateway.token("bob"));
    let publish = |name: &str, token: &str| client.publish(&Krate::new(name, "1.0.0"), token);
    for name in ["a1", "a2", "a3"] {
        publish(name, &alice).assert_status(200);
    }
    let refused = publish("a4", &alice).assert_status(429);
    assert!(refused.details().contains("limits.publishes_per_hour"), "{refused}");
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(wait > 3000, "{refused}");
    client.index("a4").assert_status(404);
    publish("b1", &bob).assert_status(200);
    assert_eq!(gateway.metric("cratehouse_throttled_total", &[("what", "publish")]), 1.0);
}
