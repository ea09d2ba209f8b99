//! Rate limits: per address and per app, on widget load, session and events (contract section 3, "Limits").

use reqwest::Method;
use serde_json::json;

use crate::support::house::{Running, client, loaded, options};

#[tokio::test]
async fn over_the_limit_of_an_address_nothing_goes_until_the_window_ends() {
    let limits = [("C2C_LIMIT_SESSION_IP", "3"), ("C2C_LIMIT_EVENTS_IP", "4"), ("C2C_LIMIT_WIDGET_IP", "5")];
    let house = Running::with(options(&limits)).await;
    let app = house.app().await;
    let token = house.token(&app, json!({})).await;
    for _ in 0..2 {
        house.session(&app, json!({})).await.expect(201);
    }
    let refused = house.session(&app, json!({})).await.expect(429);
    assert_eq!(refused.kind(), "rate_limit_exceeded");
    let header = |name: &str| refused.headers[name].to_str().expect("text").parse::<i64>().expect("a number");
    assert_eq!(
        (header("x-ratelimit-limit"), header("x-ratelimit-remaining"), header("x-ratelimit-window")),
        (3, 0, 60)
    );
    assert!((1..=60).contains(&header("retry-after")) && header("x-ratelimit-reset") > 1_700_000_000);
    // A bad request counts as well; a forwarded header does not make another address.
    let forwarded = [("content-type", "application/json"), ("x-forwarded-for", "198.51.100.1")];
    house.send("localhost", Method::POST, "/v1/sessions", &forwarded, Some(b"{".to_vec())).await.expect(429);

    for _ in 0..4 {
        house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    }
    house.public("/v1/events", Some(&token), &loaded()).await.expect(429);

    let document = format!("/widget/{}?key={}", app.id, app.key);
    for _ in 0..5 {
        house.send("localhost", Method::GET, &document, &[], None).await.expect(200);
    }
    house.send("localhost", Method::GET, &document, &[], None).await.expect(429);

    // Another address has a window of its own.
    let elsewhere = client(Some("127.0.0.2".parse().expect("an address")));
    house.public_from(&elsewhere, "/v1/events", Some(&token), &loaded()).await.expect(202);
}

#[tokio::test]
async fn an_app_has_a_limit_over_all_addresses() {
    let house = Running::with(options(&[("C2C_LIMIT_SESSION_APP", "4")])).await;
    let (app, other) = (house.app().await, house.app().await);
    let body = json!({"appId": app.id, "widgetKey": app.key});
    let mut statuses = Vec::new();
    for last in 2..8 {
        let from = client(Some(format!("127.0.0.{last}").parse().expect("an address")));
        statuses.push(house.public_from(&from, "/v1/sessions", None, &body).await.status);
    }
    assert_eq!(statuses, [201, 201, 201, 201, 429, 429]);
    house.session(&other, json!({})).await.expect(201);
}

#[tokio::test]
async fn many_at_once_are_admitted_exactly_up_to_the_limit() {
    let house = Running::with(options(&[("C2C_LIMIT_SESSION_IP", "10")])).await;
    let app = house.app().await;
    let many = futures_util::future::join_all((0..40).map(|_| house.session(&app, json!({})))).await;
    assert_eq!(many.iter().filter(|answer| answer.status == 201).count(), 10);
    assert_eq!(many.iter().filter(|answer| answer.status == 429).count(), 30);
}
