//! Receives webhooks and trusts only what verifies. `WEBHOOK_SECRET` is the `whsec_…` of the integration; `PORT` is yours.
#![allow(clippy::disallowed_methods, reason = "an example that stands alone reads the environment as any program does")]

use std::{collections::HashSet, env, error::Error, sync::Arc, sync::Mutex};

use axum::http::{HeaderMap, StatusCode};
use axum::{Router, body::Bytes, extract::DefaultBodyLimit, extract::State, routing::post};
use standardwebhooks::Webhook;

struct Receiver {
    webhook: Webhook,
    /// In earnest a unique column of your database, written together with what the event changes.
    handled: Mutex<HashSet<String>>,
}

// `Bytes` is the body as it came: JSON that was parsed and written again may differ.
async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if receiver.webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let id = headers["webhook-id"].to_str().unwrap_or_default();
    // Else it came before: a repeat is fine and changes nothing.
    if receiver.handled.lock().expect("no handler panics").insert(id.to_owned()) {
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        println!("handled {id} {}", event["name"].as_str().unwrap_or_default());
    }
    StatusCode::NO_CONTENT
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = env::var("WEBHOOK_SECRET")?;
    assert!(secret.len() > "whsec_".len(), "WEBHOOK_SECRET is empty");
    let receiver = Receiver { webhook: Webhook::new(&secret)?, handled: Mutex::default() };
    let app = Router::new().fallback(post(receive)).layer(DefaultBodyLimit::max(65_536)).with_state(Arc::new(receiver));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", env::var("PORT")?.parse()?)).await?;
    println!("listening on port {}", listener.local_addr()?.port());
    Ok(axum::serve(listener, app).await?)
}
