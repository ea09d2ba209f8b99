//! Configuration: every variable's name, once, with what it means. A function fails at its start, naming the variable.

use std::{collections::HashMap, fmt::Display, ops::RangeInclusive, str::FromStr};

use domain::{
    limit::{Limits, Scope},
    reach::Reach,
    turn::Relays,
};

/// One variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var(pub &'static str);

macro_rules! vars {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Var = Var($text);)*
        /// Every variable there is.
        pub const ALL: &[Var] = &[$($name),*];
    };
}

vars! {
    /// Name of the table.
    TABLE = "C2C_TABLE";
    /// Address of the queue of due deliveries.
    DELIVERY_QUEUE_URL = "C2C_DELIVERY_QUEUE_URL";
    /// The deployment's name, which metrics and traces carry. Default: none, and log lines are no metrics.
    DEPLOYMENT = "C2C_DEPLOYMENT";
    /// Where traces go over HTTP, such as `https://collector.example.com:4318`. Default: nowhere, and none are made.
    OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";
    /// Headers for the collector, such as `authorization=Bearer%20…`, with commas between them.
    OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS";
    /// Which sessions are traced: `always_on` (the default), `always_off` or `traceidratio`, also after `parentbased_`.
    TRACES_SAMPLER = "OTEL_TRACES_SAMPLER";
    /// With `traceidratio`, the share of sessions, from 0 to 1.
    TRACES_SAMPLER_ARG = "OTEL_TRACES_SAMPLER_ARG";
    /// Id or ARN of the key that wraps secrets.
    KMS_KEY_ID = "C2C_KMS_KEY_ID";
    /// Origin of the widget host, such as `https://calls.example.com`.
    WIDGET_ORIGIN = "C2C_WIDGET_ORIGIN";
    /// Origin of the host of customers' custom code.
    CODE_ORIGIN = "C2C_CODE_ORIGIN";
    /// Origin of the console.
    CONSOLE_ORIGIN = "C2C_CONSOLE_ORIGIN";
    /// Address of the media server that browsers speak to.
    MEDIA_URL = "C2C_MEDIA_URL";
    /// Who may frame widgets of apps that do not say: CSP sources. Default `https:`.
    DEFAULT_FRAME_ANCESTORS = "C2C_DEFAULT_FRAME_ANCESTORS";
    /// SHA-256 (hex) of what the CDN sends in `x-c2c-cdn-proof`; a request with it may name its viewer's address.
    CDN_PROOF_SHA256 = "C2C_CDN_PROOF_SHA256";
    /// Widget loads per minute from one address.
    LIMIT_WIDGET_IP = "C2C_LIMIT_WIDGET_IP";
    /// Widget loads per minute of one app.
    LIMIT_WIDGET_APP = "C2C_LIMIT_WIDGET_APP";
    /// Sessions per minute from one address.
    LIMIT_SESSION_IP = "C2C_LIMIT_SESSION_IP";
    /// Sessions per minute of one app.
    LIMIT_SESSION_APP = "C2C_LIMIT_SESSION_APP";
    /// Events per minute from one address.
    LIMIT_EVENTS_IP = "C2C_LIMIT_EVENTS_IP";
    /// Events per minute of one app.
    LIMIT_EVENTS_APP = "C2C_LIMIT_EVENTS_APP";
    /// Calls per minute from one address.
    LIMIT_CALLS_IP = "C2C_LIMIT_CALLS_IP";
    /// Calls per minute of one app.
    LIMIT_CALLS_APP = "C2C_LIMIT_CALLS_APP";
    /// Calls of one app at the same time.
    LIMIT_CALLS_AT_ONCE = "C2C_LIMIT_CALLS_AT_ONCE";
    /// Tries to sign in to the console per minute from one address.
    LIMIT_SIGN_IN_IP = "C2C_LIMIT_SIGN_IN_IP";
    /// The OpenID Connect provider that operators may sign in with, by its issuer, such as `https://login.example.com`.
    /// Default: none.
    OIDC_ISSUER = "C2C_OIDC_ISSUER";
    /// What that provider calls the console: the id of a public client, which proves itself by PKCE and has no secret.
    OIDC_CLIENT_ID = "C2C_OIDC_CLIENT_ID";
    /// The scopes that are asked for, with blanks between them. Default `openid email`.
    OIDC_SCOPE = "C2C_OIDC_SCOPE";
    /// The claim that lists an operator's groups. Default `cognito:groups`.
    OIDC_GROUPS_CLAIM = "C2C_OIDC_GROUPS_CLAIM";
    /// What stands before `viewer`, `editor` or `admin` in the names of the groups that are roles here. Default: nothing.
    OIDC_GROUP_PREFIX = "C2C_OIDC_GROUP_PREFIX";
    /// Calls that one media server can carry; it refuses new ones from four fifths of it.
    MEDIA_CAPACITY = "C2C_MEDIA_CAPACITY";
    /// Addresses where browsers' media is received, comma-separated. Default `0.0.0.0`: all but loopback.
    MEDIA_ADDRESSES = "C2C_MEDIA_ADDRESSES";
    /// What browsers and trunks are told instead, behind a one-to-one NAT, comma-separated.
    MEDIA_PUBLIC_ADDRESSES = "C2C_MEDIA_PUBLIC_ADDRESSES";
    /// Ports for browsers' media, UDP and TCP, such as `20000-24999`; none: as the operating system picks.
    MEDIA_PORTS = "C2C_MEDIA_PORTS";
    /// Where browsers' requests to the media server come in. Default `0.0.0.0:8080`.
    MEDIA_LISTEN = "C2C_MEDIA_LISTEN";
    /// Where other media servers' requests, and those for metrics, come in; only from private addresses. Default
    /// `0.0.0.0:9090`.
    MEDIA_PRIVATE_LISTEN = "C2C_MEDIA_PRIVATE_LISTEN";
    /// Where other media servers find this one on the private network, such as `http://10.0.1.5:9090`. Default: the task's
    /// address, as ECS knows it.
    MEDIA_PRIVATE_URL = "C2C_MEDIA_PRIVATE_URL";
    /// STUN servers (`host:port`, comma-separated) that say the public address when `C2C_MEDIA_PUBLIC_ADDRESSES` does not.
    MEDIA_STUN_SERVERS = "C2C_MEDIA_STUN_SERVERS";
    /// How long calls may go on when the media server is told to stop. Default 90; ECS ends a task after 120 at most.
    MEDIA_DRAIN_SECONDS = "C2C_MEDIA_DRAIN_SECONDS";
    /// Where a task on ECS learns about itself; set by ECS alone.
    ECS_METADATA = "ECS_CONTAINER_METADATA_URI_V4";
    /// Where a task on ECS asks not to be stopped; set by ECS alone.
    ECS_AGENT = "ECS_AGENT_URI";
    /// Set to `true` behind a load balancer: the last address of `X-Forwarded-For`, which it writes, is the client's.
    MEDIA_BALANCED = "C2C_MEDIA_BALANCED";
    /// Where SIP over UDP is received; media of trunks is received on the same address. Default `0.0.0.0:5060`.
    SIP_LISTEN = "C2C_SIP_LISTEN";
    /// Ports for media of trunks, such as `30000-39999`.
    RTP_PORTS = "C2C_RTP_PORTS";
    /// Relays that visitors' browsers may use, comma-separated, such as `turn:turn.example.com:3478`. Default: none.
    TURN_URLS = "C2C_TURN_URLS";
    /// What those relays share with us (coturn: `static-auth-secret`); credentials for them are made with it.
    TURN_SECRET = "C2C_TURN_SECRET";
    /// How much is logged: a level, or levels by module, such as `info,store=debug`. Default `info`.
    RUST_LOG = "RUST_LOG";
    /// Networks beside the public internet that deliveries, or calls, may reach, comma-separated `CIDR[:PORT]`. For one
    /// machine only: the template never sets it.
    ALLOW_DESTINATIONS = "C2C_ALLOW_DESTINATIONS";
}

/// Why a function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable is not set.
    #[error("{} must be set", .0.0)]
    Missing(Var),
    /// A variable's value cannot be used.
    #[error("{}: {why}", .var.0)]
    Invalid {
        /// Which.
        var: Var,
        /// Why.
        why: String,
    },
    /// Something needed from the start could not be had.
    #[error("{0}")]
    Unavailable(String),
}

/// Variables and their values: the process's own, or a map that the local house made from the template.
#[derive(Clone, Debug)]
pub struct Env(Source);

#[derive(Clone, Debug)]
enum Source {
    Process,
    Pairs(HashMap<String, String>),
}

impl Env {
    /// The process's own variables.
    pub fn process() -> Self {
        Self(Source::Process)
    }

    /// These and no others.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Source::Pairs(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }

    /// A variable's text; `None` when it is not set or empty.
    #[expect(clippy::disallowed_methods, reason = "this is the one door")]
    pub fn text(&self, var: Var) -> Option<String> {
        let text = match &self.0 {
            Source::Process => std::env::var(var.0).ok(),
            Source::Pairs(pairs) => pairs.get(var.0).cloned(),
        };
        text.filter(|text| !text.is_empty())
    }

    /// A variable that must be set.
    ///
    /// # Errors
    /// When it is not, or its text does not parse.
    pub fn required<T: FromStr<Err: Display>>(&self, var: Var) -> Result<T, StartError> {
        self.optional(var)?.ok_or(StartError::Missing(var))
    }

    /// A variable that may be left out.
    ///
    /// # Errors
    /// When its text does not parse.
    pub fn optional<T: FromStr<Err: Display>>(&self, var: Var) -> Result<Option<T>, StartError> {
        let parse =
            |text: String| text.parse().map_err(|why: T::Err| StartError::Invalid { var, why: why.to_string() });
        self.text(var).map(parse).transpose()
    }

    /// An origin (`https://host[:port]`, nothing behind it) that must be set.
    ///
    /// # Errors
    /// When it is not, or is no origin.
    pub fn origin(&self, var: Var) -> Result<String, StartError> {
        let text: String = self.required(var)?;
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        if host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', ' ', ';', ','])) {
            Ok(text)
        } else {
            Err(StartError::Invalid { var, why: "must be an origin such as https://calls.example.com".to_owned() })
        }
    }

    /// Values with commas between them; none, when it is not set.
    ///
    /// # Errors
    /// When one does not parse.
    pub fn list<T: FromStr<Err: Display>>(&self, var: Var) -> Result<Vec<T>, StartError> {
        let text = self.text(var).unwrap_or_default();
        let values = text.split(',').map(str::trim).filter(|value| !value.is_empty()).map(str::parse);
        values.collect::<Result<_, _>>().map_err(|why: T::Err| StartError::Invalid { var, why: why.to_string() })
    }

    /// Ports from a first to a last one, such as `20000-24999`, if it is set.
    ///
    /// # Errors
    /// When it is not of this form.
    pub fn ports(&self, var: Var) -> Result<Option<RangeInclusive<u16>>, StartError> {
        let Some(text) = self.text(var) else { return Ok(None) };
        let parse = |(first, last): (&str, &str)| Some(first.trim().parse().ok()?..=last.trim().parse().ok()?);
        let ports = text.split_once('-').and_then(parse).filter(|ports| !ports.is_empty() && *ports.start() > 0);
        ports.map(Some).ok_or_else(|| StartError::Invalid { var, why: "must be ports such as 20000-24999".to_owned() })
    }

    /// What deliveries may reach: the public internet, and beside it only what [`ALLOW_DESTINATIONS`] names.
    ///
    /// # Errors
    /// When the variable cannot be read.
    pub fn reach(&self) -> Result<Reach, StartError> {
        self.list(ALLOW_DESTINATIONS).map(Reach::with)
    }

    /// The relays that visitors may use, if there are any.
    ///
    /// # Errors
    /// When an address or the secret cannot be used, or one is there without the other.
    pub fn relays(&self) -> Result<Option<Relays>, StartError> {
        match (self.list(TURN_URLS)?, self.optional(TURN_SECRET)?) {
            (urls, None) if urls.is_empty() => Ok(None),
            (urls, Some(_)) if urls.is_empty() => Err(StartError::Missing(TURN_URLS)),
            (_, None) => Err(StartError::Missing(TURN_SECRET)),
            (urls, Some(secret)) => Ok(Some(Relays::new(urls, secret))),
        }
    }

    /// The limits of a scope: configured, or the contract's.
    ///
    /// # Errors
    /// When a configured one is no number above zero.
    pub fn limits(&self, scope: Scope) -> Result<Limits, StartError> {
        let (ip, app) = match scope {
            Scope::Widget => (LIMIT_WIDGET_IP, Some(LIMIT_WIDGET_APP)),
            Scope::Session => (LIMIT_SESSION_IP, Some(LIMIT_SESSION_APP)),
            Scope::Events => (LIMIT_EVENTS_IP, Some(LIMIT_EVENTS_APP)),
            Scope::Calls => (LIMIT_CALLS_IP, Some(LIMIT_CALLS_APP)),
            Scope::SignIn => (LIMIT_SIGN_IN_IP, None),
        };
        let read = |var, default| match self.optional(var)? {
            Some(0) => Err(StartError::Invalid { var, why: "must be above zero".to_owned() }),
            given => Ok(given.unwrap_or(default)),
        };
        let defaults = scope.defaults();
        let app = app.map_or(Ok(defaults.app), |app| read(app, defaults.app))?;
        Ok(Limits { ip: read(ip, defaults.ip)?, app })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_variable() {
        let env = Env::from_pairs([("C2C_LIMIT_SESSION_IP", "many"), ("C2C_WIDGET_ORIGIN", "calls.example.com")]);
        assert_eq!(env.required::<String>(TABLE).expect_err("not set").to_string(), "C2C_TABLE must be set");
        assert!(env.limits(Scope::Session).expect_err("no number").to_string().starts_with("C2C_LIMIT_SESSION_IP: "));
        assert!(env.origin(WIDGET_ORIGIN).expect_err("no origin").to_string().starts_with("C2C_WIDGET_ORIGIN: "));
    }

    #[test]
    fn lists_and_ports() {
        let env = Env::from_pairs([("C2C_MEDIA_ADDRESSES", "192.0.2.1, ::1,"), ("C2C_RTP_PORTS", "10-12")]);
        assert_eq!(env.list::<std::net::IpAddr>(MEDIA_ADDRESSES).expect("addresses").len(), 2);
        assert!(env.list::<u8>(MEDIA_ADDRESSES).is_err());
        assert_eq!(env.ports(RTP_PORTS).expect("ports"), Some(10..=12));
        assert_eq!(env.ports(MEDIA_PORTS).expect("not set"), None);
        for wrong in ["10", "12-10", "0-5", "1-65536", "a-b"] {
            assert!(Env::from_pairs([("C2C_RTP_PORTS", wrong)]).ports(RTP_PORTS).is_err(), "{wrong}");
        }
    }

    #[test]
    fn relays_have_addresses_and_a_secret() {
        let relays = |urls, secret| Env::from_pairs([("C2C_TURN_URLS", urls), ("C2C_TURN_SECRET", secret)]).relays();
        let good = ("turn:turn.example.com, turns:turn.example.com:443?transport=tcp", "0123456789abcdef");
        assert!(relays("", "").expect("none").is_none());
        assert!(relays(good.0, good.1).expect("relays").is_some());
        for (urls, secret, var) in [
            (good.0, "", "C2C_TURN_SECRET"),
            ("", good.1, "C2C_TURN_URLS"),
            (good.0, "s3cret", "C2C_TURN_SECRET"),
            ("https://turn.example.com", good.1, "C2C_TURN_URLS"),
        ] {
            let error = relays(urls, secret).expect_err(var).to_string();
            assert!(error.starts_with(var) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn limits_fall_back_to_the_contract() {
        let env = Env::from_pairs([("C2C_LIMIT_SESSION_IP", "7"), ("C2C_LIMIT_SESSION_APP", "")]);
        assert_eq!(env.limits(Scope::Session).expect("numbers"), Limits { ip: 7, app: 3_000 });
    }
}
