//! An app and its SIP provider: what they hold and which values are accepted.
//!
//! A provider's password is no part of it: it is stored sealed, and only who places calls opens it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    context::{MAX_KEYS, is_key},
    design::Lang,
    field::{self, FieldError},
    id::{AppId, Entropy},
    retention::Retention,
    secret::{Given, SecretValue},
    strict,
    time::Timestamp,
};

/// The public key an embed carries: it says which app is meant, and can be rotated. No secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WidgetKey(String);

impl WidgetKey {
    /// A new one out of 20 random bytes.
    pub fn mint(entropy: &[u8; 20]) -> Self {
        Self(format!("wk_{}", entropy.map(|byte| format!("{byte:02x}")).concat()))
    }

    /// Whether `given` is this key.
    pub fn admits(&self, given: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), given.as_bytes()).is_ok()
    }
}

impl fmt::Display for WidgetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One customer's app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Its id.
    #[serde(rename = "appId")]
    pub id: AppId,
    /// Its name, for operators.
    pub name: String,
    /// The key its embeds carry.
    pub widget_key: WidgetKey,
    /// Pages that may frame the widget, as CSP sources; empty: the deployment's default.
    #[serde(default)]
    pub frame_ancestors: Vec<String>,
    /// Pages that are told of events, each an exact origin; none unless they stand here.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// Whether it has code of its own, which a widget loads beside itself.
    #[serde(default)]
    pub custom_code: bool,
    /// The language of its published design: widgets are told before they have a session.
    #[serde(default)]
    pub lang: Lang,
    /// How long what is about its visitors is kept.
    #[serde(default)]
    pub retention: Retention,
    /// When it was made.
    pub created_at: Timestamp,
}

impl App {
    /// Characters of a name.
    pub const MAX_NAME: usize = 100;

    /// A new app called `name`.
    ///
    /// # Errors
    /// When the name is not fit for people.
    pub fn create(name: &str, now: Timestamp, entropy: &Entropy, key: &[u8; 20]) -> Result<Self, FieldError> {
        Ok(Self {
            id: AppId::mint(now, entropy),
            name: field::label("name", name, Self::MAX_NAME)?,
            widget_key: WidgetKey::mint(key),
            frame_ancestors: Vec::new(),
            allowed_origins: Vec::new(),
            custom_code: false,
            lang: Lang::default(),
            retention: Retention::default(),
            created_at: now,
        })
    }
}

/// How SIP travels to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// A codec a provider accepts, by its RTP name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
#[expect(missing_docs, reason = "the names are the RTP registry's own")]
pub enum Codec {
    #[serde(rename = "PCMU")]
    Pcmu,
    #[serde(rename = "PCMA")]
    Pcma,
    #[serde(rename = "opus")]
    Opus,
}

/// The kind of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum ProviderKind {
    /// A SIP trunk.
    Sip,
}

strict::words!(Transport, Codec, ProviderKind);

/// An app's SIP trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Its kind.
    pub kind: ProviderKind,
    /// Where it is: `sip:host[:port]`.
    pub uri: String,
    /// How SIP travels to it.
    pub transport: Transport,
    /// Who we are to it, where it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The number or name calls come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<String>,
    /// Codecs in order of preference.
    #[serde(default = "default_codecs")]
    pub codecs: Vec<Codec>,
    /// Whether audio is protected on the way there: SRTP with keys in the description (RFC 4568), which only TLS hides.
    #[serde(default)]
    pub srtp: bool,
    /// Keys of a visitor's context that calls tell the contact centre, as headers `X-C2C-Context-…`.
    #[serde(default)]
    pub context_headers: Vec<String>,
    /// Whether calls may be placed; without an active provider no session is given.
    pub active: bool,
}

impl Provider {
    /// The host and, where one is named, its port: who hears what is sent there.
    pub fn place(&self) -> String {
        let (_, rest) = self.uri.split_once(':').unwrap_or_default();
        rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_ascii_lowercase()
    }
}

/// Why a provider counts as not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderFault {
    /// Its address cannot be read.
    AddressUnreadable,
    /// Its name has no address.
    NameNotFound,
    /// The resolver did not answer.
    ResolverSilent,
    /// One of its addresses is none to send to.
    AddressBlocked,
    /// Nothing answers there.
    NoAnswer,
    /// It says itself that it cannot serve (5xx).
    ServerError,
}

impl ProviderFault {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddressUnreadable => "address_unreadable",
            Self::NameNotFound => "name_not_found",
            Self::ResolverSilent => "resolver_silent",
            Self::AddressBlocked => "address_blocked",
            Self::NoAnswer => "no_answer",
            Self::ServerError => "server_error",
        }
    }
}

/// What came of asking a provider whether it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderHealth {
    /// Whether it answered. One that refuses the question is there to refuse it.
    pub reachable: bool,
    /// When it was asked.
    pub checked_at: Timestamp,
    /// The SIP status it answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_status: Option<u16>,
    /// Milliseconds until it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u32>,
    /// Why it counts as not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ProviderFault>,
}

impl ProviderHealth {
    /// Whether it says something else than `other`, apart from when and how fast.
    pub fn differs(&self, other: &Self) -> bool {
        (self.reachable, self.sip_status, self.reason) != (other.reachable, other.sip_status, other.reason)
    }
}

fn default_codecs() -> Vec<Codec> {
    vec![Codec::Pcmu, Codec::Pcma]
}

/// What an operator sets: the whole provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of Provider")]
pub struct ProviderDraft {
    pub kind: ProviderKind,
    pub uri: String,
    pub transport: Transport,
    pub username: Option<String>,
    /// The password of that user name. Not given: what is stored stays, as long as the user name is the same. `null`: none.
    #[serde(default, deserialize_with = "given")]
    pub password: Option<Option<Given>>,
    pub caller_id: Option<String>,
    #[serde(default = "default_codecs")]
    pub codecs: Vec<Codec>,
    #[serde(default)]
    pub srtp: bool,
    #[serde(default)]
    pub context_headers: Vec<String>,
    pub active: bool,
}

/// A field that is given, be it as `null`.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What becomes of a provider's password.
#[derive(Clone, Debug)]
pub enum Password {
    /// It stays, if the user name does.
    Stays,
    /// There is none from now on.
    Ends,
    /// It is this one from now on.
    Becomes(SecretValue),
}

impl ProviderDraft {
    /// Checks what serde cannot: the address, the user name and password, the caller's id, the list of codecs.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(self) -> Result<(Provider, Password), Vec<FieldError>> {
        let mut errors = Vec::new();
        if !is_sip_uri(&self.uri) {
            errors.push(FieldError::invalid("uri", "must be a SIP address such as sip:trunk.example.com:5060"));
        }
        if self.username.as_ref().is_some_and(|name| !is_username(name)) {
            let message = "must be 1 to 128 letters, digits and characters of -_.!~*'()&=+$,@";
            errors.push(FieldError::invalid("username", message));
        }
        let password = match self.password {
            None => Password::Stays,
            Some(None) => Password::Ends,
            Some(Some(given)) => match given.check() {
                Ok(_) if self.username.is_none() => {
                    errors.push(FieldError {
                        message: "is needed with a password".into(),
                        ..FieldError::required("username")
                    });
                    Password::Ends
                }
                Ok(password) => Password::Becomes(password),
                Err(error) => {
                    errors.push(FieldError { field: "password".into(), ..error });
                    Password::Ends
                }
            },
        };
        if let Some(caller) = &self.caller_id {
            let fits = (1..=64).contains(&caller.len())
                && caller.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_.-@".contains(&byte));
            if !fits {
                errors.push(FieldError::invalid("callerId", "must be a number or name of at most 64 characters"));
            }
        }
        if self.codecs.is_empty() || self.codecs.len() > 8 {
            errors.push(FieldError::invalid("codecs", "must name at least one codec"));
        }
        if self.srtp && self.transport != Transport::Tls && !self.uri.starts_with("sips:") {
            // The keys travel in the description: without TLS anybody on the way could read them.
            errors.push(FieldError::invalid("srtp", "needs the transport tls"));
        }
        if self.context_headers.len() > MAX_KEYS || !self.context_headers.iter().all(|key| is_key(key)) {
            let message = format!("must be at most {MAX_KEYS} keys that a context can have");
            errors.push(FieldError::invalid("contextHeaders", message));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let Self { kind, uri, transport, username, caller_id, codecs, srtp, context_headers, active, .. } = self;
        let provider = Provider { kind, uri, transport, username, caller_id, codecs, srtp, context_headers, active };
        Ok((provider, password))
    }
}

/// What may stand in a quoted text of a SIP header as it is: no quotes, no backslash, no blanks, no control characters.
fn is_username(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,@".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(fits)
}

/// `sip:` or `sips:`, an optional user, a host, an optional port; no parameters or headers, which could redirect a call.
pub(crate) fn is_sip_uri(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("sips:").or_else(|| text.strip_prefix("sip:")) else { return false };
    if rest.len() > 255 {
        return false;
    }
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let user_fits = user.is_none_or(|user| {
        !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_.!~*'()&=$,".contains(&byte))
    });
    // The same parser that judges every other address; the scheme only gives it a default port. It overlooks line breaks
    // and tabs and rewrites foreign letters: what stands in a SIP request is what was typed.
    let host = host.bytes().all(|byte| byte.is_ascii_graphic())
        && !host.ends_with(':')
        && url::Url::parse(&format!("http://{host}/"))
            .is_ok_and(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.has_host())
        && !host.contains(['/', '?', '#', ';', '\\', '%']);
    user_fits && host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip_addresses() {
        for (uri, fits) in [
            ("sip:trunk.example.com", true),
            ("sips:trunk.example.com:5061", true),
            ("sip:user@192.0.2.1:5060", true),
            ("sip:[2001:db8::1]:5060", true),
            ("trunk.example.com", false),
            ("https://trunk.example.com", false),
            ("sip:", false),
            ("sip:host;maddr=10.0.0.1", false),
            ("sip:host?Replaces=x", false),
            ("sip:a b@host", false),
            ("sip:host:99999", false),
            ("sip:host\r\nVia: x", false),
            ("sip:ho\nst", false),
            ("sip:host\t", false),
            ("sip:h%6fst", false),
            ("sip:host:", false),
            ("sip:bücher.example", false),
            ("sip:xn--bcher-kva.example", true),
        ] {
            assert_eq!(is_sip_uri(uri), fits, "{uri}");
        }
    }

    #[test]
    fn a_providers_password_is_kept_apart() {
        let draft = |more: serde_json::Value| -> Result<(Provider, Password), Vec<String>> {
            let mut draft =
                serde_json::json!({"kind": "sip", "uri": "sip:trunk.example.com", "transport": "tls", "active": true});
            draft.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let draft: ProviderDraft = serde_json::from_value(draft).map_err(|error| vec![error.to_string()])?;
            assert!(!format!("{draft:?}").contains("s3cret"));
            draft.check().map_err(|errors| errors.into_iter().map(|error| error.field).collect())
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect(text);
        let (provider, password) = draft(json(r#"{"username": "me@home", "password": "s3cret word"}"#)).expect("good");
        assert!(!format!("{provider:?} {password:?}").contains("s3cret"));
        assert!(matches!(password, Password::Becomes(value) if value.expose() == "s3cret word"));
        assert!(matches!(draft(json(r#"{"username": "me"}"#)), Ok((_, Password::Stays))));
        assert!(matches!(draft(json(r#"{"username": "me", "password": null}"#)), Ok((_, Password::Ends))));
        assert!(matches!(draft(json("{}")), Ok((Provider { username: None, .. }, Password::Stays))));
        for (more, field) in [
            (r#"{"password": "s3cret"}"#, "username"),
            (r#"{"username": "me", "password": ""}"#, "password"),
            (r#"{"username": "me", "password": "a\nb"}"#, "password"),
            (r#"{"username": ""}"#, "username"),
            (r#"{"username": "a\"b"}"#, "username"),
            (r#"{"username": "a b"}"#, "username"),
            (r#"{"username": "a", "codecs": []}"#, "codecs"),
        ] {
            assert_eq!(draft(json(more)).expect_err(more), [field], "{more}");
        }
        assert!(draft(json(r#"{"hasPassword": true}"#)).is_err());
    }

    #[test]
    fn keys_need_tls_and_headers_a_key() {
        let check = |transport: &str, more: serde_json::Value| {
            let mut draft = serde_json::json!({"kind": "sip", "uri": "sip:trunk.example.com", "active": true});
            draft["transport"] = transport.into();
            draft.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let draft: ProviderDraft = serde_json::from_value(draft).expect("a draft");
            draft.check().map(|_| ()).map_err(|errors| errors[0].field.clone())
        };
        let srtp = serde_json::json!({"srtp": true});
        assert_eq!(check("tls", srtp.clone()), Ok(()));
        assert_eq!(check("udp", srtp), Err("srtp".to_owned()));
        let headers = |keys: &[&str]| check("udp", serde_json::json!({"contextHeaders": keys}));
        assert_eq!(headers(&["orderId", "plan"]), Ok(()));
        for wrong in [&["a b"][..], &["__proto__"], &["a"; MAX_KEYS + 1]] {
            assert_eq!(headers(wrong), Err("contextHeaders".to_owned()));
        }
    }

    #[test]
    fn faults_have_one_name() {
        use ProviderFault::*;
        for fault in [AddressUnreadable, NameNotFound, ResolverSilent, AddressBlocked, NoAnswer, ServerError] {
            assert_eq!(serde_json::to_value(fault).expect("a string"), fault.as_str());
        }
    }

    #[test]
    fn widget_keys_compare_whole() {
        let key = WidgetKey::mint(&[7; 20]);
        assert!(key.admits(&key.to_string()));
        assert!(!key.admits("") && !key.admits(&key.to_string()[..42]));
    }
}
