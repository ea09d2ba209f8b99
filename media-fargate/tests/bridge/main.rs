//! Whole calls: a browser on one side, a telephone on the other, and the running server between them.

mod breaks;
mod chromium;
mod clients;
mod ground;
mod offers;
mod phone;
mod server;
mod sound;
mod talk;
mod visitor;

#[path = "../support/baresip.rs"]
mod baresip;
#[path = "../support/browser.rs"]
#[expect(dead_code, reason = "shared")]
mod browser;
