//! What tests share: a running house, a visitor, customers' servers, the Lambda Runtime API.

pub mod foreign;
pub mod house;
pub mod receiver;
pub mod runtime_api;
