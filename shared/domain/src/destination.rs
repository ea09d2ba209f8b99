//! A customer's address that events are sent to: parsed once, with `url`; only what that parse gave is ever dialled
//! (security.md). Checks here are comfort for whoever types it; [`reach`](crate::reach) is applied again at each attempt.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::{Host, Url};

use crate::{
    field::FieldError,
    reach::{Reach, is_allowed_port},
    secret::SecretName,
    template::{Template, Unfilled, Values, Writing},
};

const MAX_LENGTH: usize = 2_048;
const PRIVATE_SUFFIXES: [&str; 8] =
    ["localhost", "local", "internal", "home.arpa", "onion", "invalid", "test", "localdomain"];

/// An address that passed [`Destination::parse`], as typed: `{secret.name}` may stand in its path and query. Its `Debug`
/// shows the host alone: paths and queries carry secrets.
#[derive(Clone)]
pub struct Destination {
    text: String,
    template: Template,
    /// The address with a word in the place of every secret: what checks and logs look at.
    shape: Url,
}

/// What stands in [`Destination::shape`] for a secret.
const WORD: &str = "x";
/// Another one: the parts that must not hold a secret are the same with either.
const OTHER_WORD: &str = "yy.y";

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({})", self.host())
    }
}

impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Destination {}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Destination {
    /// Reads what was checked when it was stored.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let template = Template::parse(&text).map_err(de::Error::custom)?;
        let shape = Url::parse(&template.with_word(WORD)).map_err(de::Error::custom)?;
        Ok(Self { text, template, shape })
    }
}

impl Destination {
    /// Parses what a customer typed. `own_hosts` are the deployment's own names, which no delivery may go to.
    ///
    /// # Errors
    /// What is wrong with it, in words for who typed it.
    pub fn parse(text: &str, reach: &Reach, own_hosts: &[String]) -> Result<Self, FieldError> {
        let wrong = |message: &str| FieldError::invalid("url", message);
        if text.len() > MAX_LENGTH {
            return Err(wrong("must be at most 2,048 bytes"));
        }
        let template = Template::parse(text).map_err(|error| wrong(&error.to_string()))?;
        let shape = Self::check(&template.with_word(WORD), reach, own_hosts).map_err(wrong)?;
        let before_path = |url: &Url| url[..url::Position::BeforePath].to_owned();
        let other = Url::parse(&template.with_word(OTHER_WORD)).ok();
        if other.is_none_or(|other| before_path(&other) != before_path(&shape)) {
            return Err(wrong("must hold secrets in its path and query only"));
        }
        Ok(Self { text: text.to_owned(), template, shape })
    }

    /// The address with its secrets, ready to be dialled. Never log it.
    ///
    /// # Errors
    /// When a secret is missing, or would change more than its own place.
    pub fn fill(&self, values: &Values) -> Result<Url, Unfilled> {
        let filled = self.template.fill(Writing::Percent, values)?;
        let url = Url::parse(&filled).map_err(|_| Unfilled)?;
        let segments = |url: &Url| url.path_segments().map(Iterator::count);
        let same = url[..url::Position::BeforePath] == self.shape[..url::Position::BeforePath]
            && segments(&url) == segments(&self.shape)
            && url.query().is_some() == self.shape.query().is_some()
            && url.fragment().is_none();
        if same { Ok(url) } else { Err(Unfilled) }
    }

    /// The secrets that its path and query name.
    pub fn secrets(&self) -> BTreeSet<&SecretName> {
        self.template.names()
    }

    /// The address as it was typed: with `{secret.name}`, never with a value.
    pub fn as_typed(&self) -> &str {
        &self.text
    }

    fn check(text: &str, reach: &Reach, own_hosts: &[String]) -> Result<Url, &'static str> {
        if text.chars().any(|character| character.is_control() || character.is_whitespace() || character == '\\') {
            return Err("must not contain blanks, control characters or backslashes");
        }
        let begins = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if !begins("https://") && !begins("http://") {
            return Err("must begin with https://");
        }
        let url = Url::parse(text).map_err(|_| "must be a full address such as https://example.com/events")?;
        if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
            return Err("must not contain a user name or password; put credentials into a header");
        }
        if url.fragment().is_some() {
            return Err("must not contain a fragment (#)");
        }
        let host = url.host().ok_or("must name a host")?;
        let port = url.port_or_known_default().unwrap_or(0);
        let literal = match &host {
            Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(*ip)),
            Host::Domain(_) => None,
        };
        let allowed = literal.is_some_and(|ip| reach.allows(ip, port));
        if url.scheme() != "https" && !(url.scheme() == "http" && allowed) {
            return Err("must begin with https://");
        }
        match (host, literal) {
            (_, Some(ip)) if !allowed && !reach.admits(ip, port) => {
                return Err("must not be a private, local or reserved address, nor a port of another service");
            }
            // `url` reads 0x7f.1 and 2130706433 as IPv4; what was typed must be what is dialled.
            (Host::Ipv4(ip), _) if !authority_host(text).eq_ignore_ascii_case(&ip.to_string()) => {
                return Err("must write an IPv4 address as four decimal numbers");
            }
            (Host::Domain(name), _) => check_name(name, own_hosts)?,
            _ => {}
        }
        if !allowed && !is_allowed_port(port) {
            return Err("must use port 443, 8443 or one above 1023 that no other well-known service uses");
        }
        Ok(url)
    }

    /// The host and its port: who hears what is sent there.
    pub fn place(&self) -> String {
        format!("{}:{}", self.host(), self.shape.port_or_known_default().unwrap_or_default())
    }

    /// The host without port: what a log may show.
    pub fn host(&self) -> &str {
        self.shape.host_str().unwrap_or_default()
    }
}

fn check_name(name: &str, own_hosts: &[String]) -> Result<(), &'static str> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let below = |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    if PRIVATE_SUFFIXES.iter().any(|suffix| below(suffix)) {
        return Err("must not be a local or reserved name");
    }
    if !name.contains('.') {
        return Err("must be a full domain name");
    }
    if own_hosts.iter().any(|own| below(&own.to_ascii_lowercase())) {
        return Err("must not be one of this service's own hosts");
    }
    let labels = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    });
    if labels && name.len() <= 253 { Ok(()) } else { Err("must be a valid domain name") }
}

/// What stands between `//` and the path, as typed.
fn authority(text: &str) -> &str {
    let rest = text.split_once("//").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

fn authority_host(text: &str) -> &str {
    let authority = authority(text);
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Destination, FieldError> {
        Destination::parse(text, &Reach::default(), &["calls.example.net".to_owned()])
    }

    #[test]
    fn benign_addresses() {
        for text in [
            "https://example.com",
            "https://example.com/events?source=c2c",
            "https://example.com:8443/",
            "https://example.com:1024/",
            "https://api.eu-1.example.co.uk/v1/in.php;x=1?a=b&c=%2F",
            "https://93.184.216.34/in",
            "https://[2606:4700::1111]/in",
            "https://bücher.example/in",
            "https://xn--bcher-kva.example/in",
            "HTTPS://EXAMPLE.COM/In",
        ] {
            assert!(parse(text).is_ok(), "{text}: {:?}", parse(text));
        }
    }

    #[test]
    fn hostile_addresses() {
        for text in [
            "",
            "example.com",
            "//example.com",
            "http://example.com",
            "ftp://example.com",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/plain,x",
            "https://",
            "https:///x",
            "https://user@example.com",
            "https:@example.com",
            "https:/@example.com",
            "https:example.com",
            "https://user:pass@example.com",
            "https://@example.com",
            "https://:@example.com",
            "https://example.com#x",
            "https://exa mple.com",
            "https://example.com/\r\nHost: x",
            "https://example.com\\@127.0.0.1",
            "https://\texample.com",
            "https://localhost",
            "https://LOCALHOST.",
            "https://a.localhost",
            "https://a.local",
            "https://metadata.google.internal",
            "https://a.home.arpa",
            "https://a.onion",
            "https://a.test",
            "https://a.invalid",
            "https://intranet",
            "https://127.0.0.1",
            "https://127.1",
            "https://2130706433",
            "https://0x7f000001",
            "https://0177.0.0.1",
            "https://0x7f.1",
            "https://127.0.0.1.",
            "https://0.0.0.0",
            "https://[::1]",
            "https://[::]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:7f00:1]",
            "https://[fe80::1]",
            "https://[fd00:ec2::254]",
            "https://[64:ff9b::7f00:1]",
            "https://169.254.169.254/latest/meta-data",
            "https://100.100.100.200",
            "https://10.0.0.1",
            "https://172.16.0.1",
            "https://192.168.0.1",
            "https://0xa9fea9fe",
            "https://１２７.0.0.1",
            "https://①②⑦.⓪.⓪.①",
            "https://127。0。0。1",
            "https://8.8.2056",
            "https://134744072",
            "https://010.8.8.8",
            "https://example.com:22",
            "https://example.com:25",
            "https://example.com:80",
            "https://example.com:0",
            "https://example.com:3306",
            "https://example.com:6379",
            "https://example.com:99999",
            "https://calls.example.net",
            "https://console.calls.example.net/api",
            "https://CALLS.EXAMPLE.NET.",
            "https://exam%00ple.com",
            "https://a..b",
            "https://255.255.255.255",
            "https://224.0.0.1",
            "https://example.com /x",
            "https://exam\u{ad}ple.com\u{0}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("https://example.com/{}", "x".repeat(2_048))).is_err());
    }

    #[test]
    fn plain_http_and_loopback_only_where_allowed() {
        let reach = Reach::with(vec!["127.0.0.1/32:9000".parse().expect("a network")]);
        let parse = |text| Destination::parse(text, &reach, &[]).is_ok();
        assert!(parse("http://127.0.0.1:9000/in"));
        assert!(parse("https://127.0.0.1:9000/in"));
        assert!(!parse("http://127.0.0.1:9001/in"));
        assert!(!parse("http://localhost:9000/in"));
        assert!(!parse("http://2130706433:9000/in"));
        assert!(!parse("http://example.com/in"));
    }

    #[test]
    fn debug_shows_no_path() {
        let shown = format!("{:?}", parse("https://example.com/key/s3cret?t=s3cret").expect("benign"));
        assert_eq!(shown, "Destination(example.com)");
    }

    #[test]
    fn secrets_stand_in_path_and_query_only() {
        for text in [
            "https://example.com/{secret.a}",
            "https://example.com/in/{secret.a}/x?key={secret.b}&{secret.a}={secret.a}",
            "https://example.com?{secret.a}",
            "https://example.com/a{secret.a}b.{secret.b}",
        ] {
            let parsed = parse(text).expect(text);
            assert_eq!(parsed.as_typed(), text);
            let written = serde_json::to_string(&parsed).expect("written");
            assert_eq!(written, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Destination>(&written).expect("read"), parsed);
        }
        for text in [
            "{secret.a}",
            "https://{secret.a}",
            "https://{secret.a}/",
            "https://{secret.a}.example.com/",
            "https://example.{secret.a}/",
            "https://example.com:{secret.a}/",
            "https://example.com{secret.a}/",
            "https://{secret.a}@example.com/",
            "http{secret.a}://example.com/",
            "{secret.a}://example.com/",
            "https:/{secret.a}/example.com",
            "https:{secret.a}/example.com",
            "https:///{secret.a}/x",
            "https://example.com/#{secret.a}",
            "https://example.com/{secret.}",
            "https://example.com/{secret.a",
            "https://example.com/{secret.a b}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_stays_at_its_place() {
        let all: String = (b' '..=b'~').map(char::from).collect();
        let values = crate::template::values(&[
            ("a", "../../admin?x=1#f&y=%2e%2f\\"),
            ("all", &all),
            ("dot", "."),
            ("dots", ".."),
            ("at", "@evil.example:99"),
        ]);
        let fill = |text: &str| parse(text).expect(text).fill(&values).map(|url| url.to_string());
        for (text, expected) in [
            (
                "https://example.com/in/{secret.a}/out",
                "https://example.com/in/%2E%2E%2F%2E%2E%2Fadmin%3Fx%3D1%23f%26y%3D%252e%252f%5C/out",
            ),
            ("https://example.com/{secret.at}", "https://example.com/%40evil%2Eexample%3A99"),
            ("https://example.com/x?k={secret.dots}", "https://example.com/x?k=%2E%2E"),
            ("https://example.com", "https://example.com/"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(expected));
        }
        // `url` reads these as "here" and "one up" in every encoding: they are not sent at all.
        for text in [
            "https://example.com/in/{secret.dot}/x",
            "https://example.com/in/{secret.dots}/x",
            "https://example.com/in/{secret.dots}",
            "https://example.com/in/.{secret.dot}/x",
            "https://example.com/in/{secret.dot}%2e/x",
            "https://example.com/{secret.gone}",
        ] {
            assert_eq!(fill(text), Err(Unfilled), "{text}");
        }
        assert!(fill("https://example.com/{secret.all}?{secret.all}").is_ok());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in r"(https?://)?(\{secret\.[a-z]\}|.){0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_value_moves_a_delivery(value in "[ -~]{1,60}", text in r"https://example\.com(/[a-z.{}%]{0,6}(\{secret\.a\})?){0,3}(\?k=\{secret\.a\})?") {
            let values = crate::template::values(&[("a", &value)]);
            if let Ok(parsed) = parse(&text)
                && let Ok(url) = parsed.fill(&values)
            {
                prop_assert_eq!(url.host_str(), Some("example.com"));
                prop_assert_eq!(url.path().matches('/').count(), parsed.shape.path().matches('/').count());
                prop_assert_eq!(url.fragment(), None);
            }
        }
    }
}
