//! The ingest function on Lambda.

use edge::env::Env;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), edge::lambda::Error> {
    edge::lambda::run("ingest", async {
        let state = ingest::State::open(&Env::process(), &store::Aws::from_function()).await?;
        Ok(ingest::router(state))
    })
    .await
}
