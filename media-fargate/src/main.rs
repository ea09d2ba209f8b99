//! The media server as a container.

use std::net::Ipv4Addr;

use edge::env::Env;

const PORT: u16 = 8080;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    edge::log::init();
    let state = media::State::open(&Env::process(), &store::Aws::from_process().await).await?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    tracing::info!(port = PORT, "media.ready");
    axum::serve(listener, media::router(state)).await?;
    Ok(())
}
