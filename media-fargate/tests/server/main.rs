//! The compiled media server as a process: what it says, how it stops, what it leaves behind, and how several share one
//! table.

mod address;
mod fleet;
mod forward;
mod ground;
mod process;
mod soak;
mod telephone;

/// The visitor of the black-box tests; these need less of it.
#[path = "../../../tests/it/support/visitor.rs"]
#[expect(dead_code, reason = "shared")]
mod visitor;
