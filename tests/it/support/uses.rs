//! What functions asked of the stand-ins, kept for `tests/template.py`, which compares it with their roles: one line each,
//! of all tests of a run, in the file that `C2C_USES` names.

use std::{fs::OpenOptions, io::Write as _};

use embedded::Embedded;

/// Adds what was asked so far.
pub fn keep(stand_ins: &Embedded) {
    #[expect(clippy::disallowed_methods, reason = "a switch of the suite")]
    let Some(path) = std::env::var_os("C2C_USES") else { return };
    let lines: String =
        stand_ins.uses().keys().map(|one| format!("{}\t{}\t{}\n", one.by, one.action, one.on)).collect();
    // Tests run at once, each in a process of its own: what is appended in one write stays together.
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file of uses");
    file.write_all(lines.as_bytes()).expect("written");
}
