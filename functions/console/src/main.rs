//! The console function on Lambda.

use edge::env::Env;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), edge::lambda::Error> {
    edge::lambda::run("console", async {
        let state = console::State::open(&Env::process(), &store::Aws::from_function()).await?;
        Ok(console::router(state))
    })
    .await
}
