//! The widget's host as a Lambda function.

use edge::env::Env;
use store::Aws;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), impl std::error::Error> {
    edge::lambda::run("widget", async {
        let state = widget::State::open(&Env::process(), &Aws::from_function()).await?;
        Ok(widget::router(state))
    })
    .await
    .map_err(std::io::Error::other)
}
