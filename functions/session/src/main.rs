//! The session function on Lambda.

use edge::env::Env;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), edge::lambda::Error> {
    edge::lambda::run("session", async {
        let state = session::State::open(&Env::process(), &store::Aws::from_function()).await?;
        Ok(session::router(state))
    })
    .await
}
