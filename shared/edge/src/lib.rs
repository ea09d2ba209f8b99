//! The border: HTTP in, HTTP out. Decides what a request must look like before a function sees it, and what a caller is
//! told when something is wrong. The only crate that names `lambda_http`.

pub mod chance;
pub mod client;
pub mod clock;
pub mod env;
pub mod extract;
pub mod lambda;
mod line;
pub mod log;
pub mod metric;
pub mod problem;
pub mod reply;
pub mod trace;
