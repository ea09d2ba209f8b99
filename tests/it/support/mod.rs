//! What tests share: a running house, a visitor, a customer's server, the Lambda Runtime API.

pub mod house;
pub mod receiver;
pub mod runtime_api;
