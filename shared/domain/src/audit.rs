//! The audit log: who tried what, when, from which address, and whether it was granted (contract sections 5 and 6).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    id::{AuditId, Entropy},
    time::Timestamp,
};

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Granted,
    /// It was not; why stands beside it.
    Refused,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its id.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub operator: String,
    /// What, such as `secret.reveal`.
    pub action: String,
    /// On what, such as `int_…/secrets/token`.
    pub target: String,
    /// From which address.
    pub ip: IpAddr,
    /// What became of it.
    pub outcome: Outcome,
    /// The operator's own reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it was refused: a word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What else is to be known of it, such as the host that something leads to now. Never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Who tries what: all of an entry that is known before its end.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields of Entry")]
pub struct Try {
    pub operator: String,
    pub action: &'static str,
    pub target: String,
    pub ip: IpAddr,
    pub reason: Option<String>,
    pub detail: Option<String>,
}

impl Try {
    /// The row of a try that was granted.
    pub fn granted(&self, now: Timestamp, entropy: &Entropy) -> Entry {
        Entry {
            id: AuditId::mint(now, entropy),
            at: now,
            operator: self.operator.clone(),
            action: self.action.to_owned(),
            target: self.target.clone(),
            ip: self.ip,
            outcome: Outcome::Granted,
            reason: self.reason.clone(),
            refusal: None,
            detail: self.detail.clone(),
        }
    }

    /// The row of a try that was refused, and the word for why.
    pub fn refused(&self, why: &str, now: Timestamp, entropy: &Entropy) -> Entry {
        Entry { outcome: Outcome::Refused, refusal: Some(why.to_owned()), ..self.granted(now, entropy) }
    }
}
