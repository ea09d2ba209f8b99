//! What tests share: a running house, a visitor, customers' servers, the Lambda Runtime API.

pub mod foreign;
pub mod forger;
pub mod hostile;
pub mod house;
pub mod process;
pub mod receiver;
pub mod runtime_api;
pub mod uses;
pub mod visitor;
