//! How calls end: in which words (contract section 3, "Events" and "Error codes"), and which word a SIP status becomes.

use serde::Serialize;

/// Why a call ended as calls do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The visitor hung up, or left.
    UserHangup,
    /// The contact centre hung up.
    RemoteHangup,
}

impl Reason {
    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::UserHangup, Self::RemoteHangup].into_iter().find(|reason| reason.as_str() == name)
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserHangup => "user_hangup",
            Self::RemoteHangup => "remote_hangup",
        }
    }
}

/// Why a call did not come about, or broke off: those codes of the contract that a media server can find, or hear of from
/// the widget while a call runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The browser's media never came through: something between it and us is in the way.
    NetworkUnreachable,
    /// Media came through once and then no more.
    MediaFailed,
    /// The contact centre answered and sends nothing.
    NoAudio,
    /// The contact centre is busy.
    Busy,
    /// The contact centre does not want the call.
    Rejected,
    /// Nobody took the call in time.
    NoAnswer,
    /// The destination, or the way to it, does not work.
    DestinationUnavailable,
    /// The call was as long as a call may be.
    CallLimit,
    /// The app was deleted while it ran.
    ProviderInactive,
    /// A fault of ours.
    Internal,
    /// The page took the microphone away.
    MicPolicy,
    /// The visitor took the microphone away.
    MicDenied,
    /// The microphone was unplugged, and there is no other.
    MicMissing,
    /// Something else took the microphone.
    MicBusy,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::NetworkUnreachable,
        Self::MediaFailed,
        Self::NoAudio,
        Self::Busy,
        Self::Rejected,
        Self::NoAnswer,
        Self::DestinationUnavailable,
        Self::CallLimit,
        Self::ProviderInactive,
        Self::Internal,
        Self::MicPolicy,
        Self::MicDenied,
        Self::MicMissing,
        Self::MicBusy,
    ];
    /// What a widget may say that ended a call: what happens to sound, connection and microphone at the visitor's, and in
    /// itself, it may well notice first. What the trunk says, and what we decide, it only ever hears from us.
    pub const NOTICED: [Self; 9] = [
        Self::NetworkUnreachable,
        Self::MediaFailed,
        Self::NoAudio,
        Self::NoAnswer,
        Self::Internal,
        Self::MicPolicy,
        Self::MicDenied,
        Self::MicMissing,
        Self::MicBusy,
    ];

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// The one of this name that a widget may say.
    pub fn noticed(name: &str) -> Option<Self> {
        Self::NOTICED.into_iter().find(|code| code.as_str() == name)
    }

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkUnreachable => "network_unreachable",
            Self::MediaFailed => "media_failed",
            Self::NoAudio => "no_audio",
            Self::Busy => "busy",
            Self::Rejected => "rejected",
            Self::NoAnswer => "no_answer",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::CallLimit => "call_limit",
            Self::ProviderInactive => "provider_inactive",
            Self::Internal => "internal",
            Self::MicPolicy => "mic_policy",
            Self::MicDenied => "mic_denied",
            Self::MicMissing => "mic_missing",
            Self::MicBusy => "mic_busy",
        }
    }

    /// In words, for whoever receives the event; never a detail of the visitor's or the provider's network.
    pub fn message(self) -> &'static str {
        match self {
            Self::NetworkUnreachable => "The browser's media did not reach the media server.",
            Self::MediaFailed => "The connection to the browser was lost.",
            Self::NoAudio => "The contact centre sent no audio.",
            Self::Busy => "The contact centre is busy.",
            Self::Rejected => "The contact centre rejected the call.",
            Self::NoAnswer => "Nobody answered.",
            Self::DestinationUnavailable => "The destination could not be reached.",
            Self::CallLimit => "The call reached the longest time a call may take.",
            Self::ProviderInactive => "The app that was called is no longer there.",
            Self::Internal => "The call broke by a fault of ours, or its media server was stopped.",
            Self::MicPolicy => "The page took the microphone away.",
            Self::MicDenied => "The visitor took the microphone away.",
            Self::MicMissing => "The microphone was unplugged.",
            Self::MicBusy => "Something else took the microphone.",
        }
    }

    /// What a final answer other than success to an INVITE means (RFC 3261, section 21). A redirection is a failure: its
    /// target comes from outside and is never followed (security.md, "Media"). A 401 or 407 stands here only after the
    /// provider refused our credentials.
    pub fn of_status(status: u16) -> Self {
        match status {
            // Busy Here, Busy Everywhere.
            486 | 600 => Self::Busy,
            // Forbidden, Decline, Unwanted (RFC 8197), Rejected (RFC 8688).
            403 | 603 | 607 | 608 => Self::Rejected,
            // Request Timeout, Temporarily Unavailable, Request Terminated.
            408 | 480 | 487 => Self::NoAnswer,
            _ => Self::DestinationUnavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::event::ERROR_CODES;

    use super::*;

    #[test]
    fn every_code_is_of_the_contract() {
        for code in ErrorCode::ALL {
            assert!(ERROR_CODES.contains(&code.as_str()), "{code:?}");
            assert_eq!(serde_json::to_value(code).expect("a string"), code.as_str());
            assert!(code.message().ends_with('.'), "{code:?}");
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
        }
    }

    #[test]
    fn a_widget_says_what_it_can_notice_and_nothing_else() {
        let mut noticed: Vec<_> = ERROR_CODES.into_iter().filter(|name| ErrorCode::noticed(name).is_some()).collect();
        noticed.sort_unstable();
        let of_the_widget = [
            "internal",
            "media_failed",
            "mic_busy",
            "mic_denied",
            "mic_missing",
            "mic_policy",
            "network_unreachable",
            "no_answer",
            "no_audio",
        ];
        assert_eq!(noticed, of_the_widget);
        for name in ["user_hangup", "No_Audio", "no_audio ", ""] {
            assert_eq!(ErrorCode::noticed(name), None, "{name}");
        }
    }

    #[test]
    fn reasons_have_one_name() {
        for reason in [Reason::UserHangup, Reason::RemoteHangup] {
            assert_eq!(serde_json::to_value(reason).expect("a string"), reason.as_str());
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
    }

    #[test]
    fn every_status_has_its_code() {
        use ErrorCode::*;
        let named = [
            (486, Busy),
            (600, Busy),
            (403, Rejected),
            (603, Rejected),
            (607, Rejected),
            (608, Rejected),
            (408, NoAnswer),
            (480, NoAnswer),
            (487, NoAnswer),
        ];
        for status in 300..=699 {
            let expected = named.iter().find(|(named, _)| *named == status).map(|(_, code)| *code);
            assert_eq!(ErrorCode::of_status(status), expected.unwrap_or(DestinationUnavailable), "{status}");
        }
    }
}
