//! Receives webhooks and trusts only what verifies. `WEBHOOK_SECRET` is the `whsec_…` of the integration; `PORT` is yours.
#![allow(clippy::disallowed_methods, reason = "an example that stands alone reads the environment as any program does")]
use axum::extract::{DefaultBodyLimit, State};
use axum::{Router, body::Bytes, http::HeaderMap, http::StatusCode, routing::post};
use std::{collections::HashSet, env, error::Error, sync::Arc, sync::Mutex};
// In earnest the set is a unique column of your database, written together with what the event changes.
type Receiver = Arc<(standardwebhooks::Webhook, Mutex<HashSet<String>>)>;
// `Bytes` is the body as it came: JSON that was parsed and written again may differ.
async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(()) = receiver.0.verify(&body, &headers) else { return StatusCode::UNAUTHORIZED };
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = headers["webhook-id"].to_str().unwrap_or_default();
    if receiver.1.lock().expect("no handler panics").insert(id.to_owned()) {
        println!("handled {id} {}", event["name"].as_str().unwrap_or_default());
    } // Else it came before: a repeat is fine and changes nothing.
    StatusCode::NO_CONTENT
}
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let secret = env::var("WEBHOOK_SECRET")?;
    assert!(secret.len() > "whsec_".len(), "WEBHOOK_SECRET is empty");
    let receiver = Arc::new((standardwebhooks::Webhook::new(&secret)?, Mutex::default()));
    let app = Router::new().fallback(post(receive)).layer(DefaultBodyLimit::max(65_536)).with_state(receiver);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", env::var("PORT")?.parse()?)).await?;
    println!("listening on port {}", listener.local_addr()?.port());
    Ok(axum::serve(listener, app).await?)
}
