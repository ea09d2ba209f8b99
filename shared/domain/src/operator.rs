//! Who may use the management API, and what (contract section 6, "Roles").

use serde::{Deserialize, Serialize};

use crate::strict;

/// What an operator may do; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Writes.
    Editor,
    /// Also reveals secrets, manages tokens, erases data.
    Admin,
}

strict::words!(Role);
