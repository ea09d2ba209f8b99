//! What one attempt sends: the address and headers with their secrets, the signature; and what of an answer may be kept:
//! nothing that holds one of those secrets, in clear or in a usual encoding (contract section 4).

use std::{sync::Arc, time::Duration};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use domain::{
    delivery::MAX_EXCERPT,
    id::{AppId, IntegrationId},
    integration::Integration,
    signature::{self, SigningSecret},
    template::{Template, Unfilled, Values, Writing},
    time::Timestamp,
};
use store::{
    Error, Store, Vault,
    fresh::Fresh,
    integrations::Stored,
    secrets::{Owner, Sealed},
    signing_keys::SigningKeys,
};
use url::Url;
use zeroize::Zeroizing;

/// Keeps what integrations send with, sealed; opens it for one attempt.
#[derive(Clone)]
pub(crate) struct Keeper {
    store: Store,
    vault: Vault,
    held: Fresh<Wanted, Arc<Held>>,
}

/// Of which integration, at which revision, and what of it: its secrets, its signing keys. Storing one of them makes another
/// revision.
type Wanted = (AppId, IntegrationId, u64, bool, bool);

struct Held {
    secrets: Vec<Sealed>,
    keys: SigningKeys,
}

impl Keeper {
    pub(crate) fn open(store: Store, vault: Vault, fresh_for: Duration) -> Self {
        Self { store, vault: vault.remembering(), held: Fresh::new(fresh_for).never_stale() }
    }

    /// The request that an integration asks for at this moment.
    ///
    /// # Errors
    /// Outside: the table or the key service is away, which is our fault. Inside: a secret is missing.
    pub(crate) async fn render(
        &self,
        app: AppId,
        stored: &Stored,
        now: Timestamp,
    ) -> Result<Result<Ready, Unfilled>, Error> {
        let integration = &stored.integration;
        let owner = Owner { app, integration: integration.id };
        let named = integration.secrets();
        let wanted = (app, integration.id, stored.revision, !named.is_empty(), integration.signing);
        let mut rendered = Err(Unfilled);
        for _ in 0..2 {
            let held = self.held.get(wanted, now, self.read(owner, wanted)).await?;
            let values = self.vault.open_secrets(owner, &held.secrets, &named, now).await?;
            let keys = self.vault.open_signing_keys(owner, &held.keys, now).await?;
            rendered = Ready::render(integration, &values, keys);
            if rendered.is_ok() {
                break;
            }
            // That something is missing is final: it is decided by what holds at this moment.
            self.held.forget(&wanted);
        }
        Ok(rendered)
    }

    async fn read(&self, owner: Owner, (_, _, _, secrets, signing): Wanted) -> Result<Arc<Held>, Error> {
        let secrets = if secrets { self.store.secrets(owner).await? } else { Vec::new() };
        let keys = if signing { self.store.signing_keys(owner).await? } else { SigningKeys::default() };
        Ok(Arc::new(Held { secrets, keys }))
    }
}

/// A request with its secrets. It has no `Debug`: nothing of it belongs in a log.
pub(crate) struct Ready {
    /// Where it goes.
    pub(crate) url: Url,
    /// The integration's own headers.
    pub(crate) headers: Vec<(String, Zeroizing<String>)>,
    /// How long the whole exchange may take.
    pub(crate) timeout: Duration,
    keys: Vec<SigningSecret>,
    redactor: Redactor,
}

impl Ready {
    /// Fills an integration's templates. `keys`: what it signs with, none when signing is off.
    ///
    /// # Errors
    /// When a secret is missing, or cannot stand where a template puts it.
    pub(crate) fn render(
        integration: &Integration,
        values: &Values,
        keys: Vec<SigningSecret>,
    ) -> Result<Self, Unfilled> {
        if integration.signing && keys.is_empty() {
            return Err(Unfilled);
        }
        let headers = integration.fill_headers(values)?.into_iter();
        Ok(Self {
            url: integration.url.fill(values)?,
            headers: headers.map(|(name, value)| (name.to_owned(), value)).collect(),
            timeout: integration.timeout(),
            redactor: Redactor::new(values, &keys),
            keys,
        })
    }

    /// The value of `webhook-signature`, when deliveries are signed.
    pub(crate) fn signature(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        (!self.keys.is_empty()).then(|| signature::sign(&self.keys, id, timestamp, body))
    }

    /// What is kept of an answer's body: its beginning, without secrets; `None` when it is empty.
    pub(crate) fn excerpt(&self, body: &[u8]) -> Option<String> {
        let mut kept = self.redactor.redact(body);
        kept.truncate(MAX_EXCERPT);
        (!kept.is_empty()).then(|| String::from_utf8_lossy(&kept).into_owned())
    }
}

const MASK: &[u8] = b"[redacted]";
/// A body may break off within a secret: this many of its first bytes are recognised.
const SHORTEST_BEGINNING: usize = 4;
/// Bytes of one escaped byte at most.
const LONGEST_ESCAPE: usize = 8;
/// Letters and digits in a row that are a secret's own. No escape changes them, however often it is applied.
const RUN: usize = 12;

/// Finds secrets in what a receiver sent back.
struct Redactor {
    needles: Vec<Zeroizing<Vec<u8>>>,
}

/// Reads one byte that is written in several: the byte, and how many it took.
type Reading = fn(&[u8]) -> Option<(u8, usize)>;

/// How servers write back what they were sent.
const READINGS: [Reading; 5] = [|_| None, percent, form, json, html];

impl Redactor {
    fn new(values: &Values, keys: &[SigningSecret]) -> Self {
        let mut needles = Vec::new();
        for (name, value) in values {
            let bytes = value.expose().as_bytes();
            let runs = bytes.split(|byte| !byte.is_ascii_alphanumeric()).filter(|run| run.len() >= RUN);
            needles.extend(runs.map(|run| Zeroizing::new(run.to_vec())));
            encodings(bytes, &mut needles);
            // A whole address is encoded with what stands in it.
            let in_address = Template::parse(&format!("{{secret.{name}}}"));
            let in_address = in_address.ok().and_then(|place| place.fill(Writing::Percent, values).ok());
            if let Some(written) = in_address.filter(|written| written.as_bytes() != bytes) {
                encodings(written.as_bytes(), &mut needles);
            }
        }
        needles.extend(keys.iter().map(|key| Zeroizing::new(key.expose().as_bytes().to_vec())));
        Self { needles }
    }

    fn redact(&self, body: &[u8]) -> Vec<u8> {
        let mut hidden = vec![false; body.len()];
        // Servers like to answer with JSON whose texts are JSON again.
        let (once, at) = read_by(json, body);
        let (nested, within) = read_by(json, &once);
        let nested = (nested, within.into_iter().map(|place| at[place]).collect());
        for (read, places) in READINGS.map(|reading| read_by(reading, body)).into_iter().chain([nested]) {
            for needle in &self.needles {
                mark(needle, &read, &places, &mut hidden);
            }
        }
        let mut shown = Vec::with_capacity(body.len());
        for (at, byte) in body.iter().enumerate() {
            match hidden[at] {
                false => shown.push(*byte),
                true if at == 0 || !hidden[at - 1] => shown.extend_from_slice(MASK),
                true => {}
            }
        }
        shown
    }
}

/// A value, and what it is encoded to.
fn encodings(bytes: &[u8], needles: &mut Vec<Zeroizing<Vec<u8>>>) {
    needles.push(Zeroizing::new(bytes.to_vec()));
    needles.push(Zeroizing::new(STANDARD.encode(bytes).into_bytes()));
    needles.push(Zeroizing::new(hex(bytes, b"0123456789abcdef")));
    needles.push(Zeroizing::new(hex(bytes, b"0123456789ABCDEF")));
    // Within a longer text the encoding depends on where the value begins; its middle is the same for each.
    for before in 0..3 {
        let mut shifted = Zeroizing::new(vec![0; before]);
        shifted.extend_from_slice(bytes);
        let (first, end) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
        for encoded in [STANDARD_NO_PAD.encode(&*shifted), URL_SAFE_NO_PAD.encode(&*shifted)] {
            let encoded = Zeroizing::new(encoded.into_bytes());
            if end >= first + SHORTEST_BEGINNING {
                needles.push(Zeroizing::new(encoded[first..end].to_vec()));
            }
        }
    }
}

/// Marks where `needle` stands in what was read, and where its beginning stands at the very end.
fn mark(needle: &[u8], read: &[u8], places: &[usize], hidden: &mut [bool]) {
    let Some(first) = needle.first() else { return };
    let mut at = 0;
    while let Some(next) = read[at..].iter().position(|byte| byte == first) {
        at += next;
        let left = &read[at..];
        if left.starts_with(needle) {
            hidden[places[at]..places[at + needle.len()]].fill(true);
        } else if breaks_off(needle, left) {
            hidden[places[at]..].fill(true);
        }
        at += 1;
    }
}

/// Whether a body's last bytes are the beginning of `needle`, perhaps with half an escape after it.
fn breaks_off(needle: &[u8], left: &[u8]) -> bool {
    let begins = |left: &[u8]| left.len() >= SHORTEST_BEGINNING && needle.starts_with(left);
    let escape = left.iter().rposition(|byte| matches!(byte, b'%' | b'\\' | b'&'));
    begins(left) || escape.is_some_and(|at| left.len() - at <= LONGEST_ESCAPE && begins(&left[..at]))
}

/// A body's bytes as one reading has them, and the place in the body at which each begins; one more for its end.
fn read_by(reading: Reading, body: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut read, mut places) = (Vec::with_capacity(body.len()), Vec::with_capacity(body.len() + 1));
    let mut at = 0;
    while at < body.len() {
        let (byte, length) = reading(&body[at..]).unwrap_or((body[at], 1));
        read.push(byte);
        places.push(at);
        at += length;
    }
    places.push(body.len());
    (read, places)
}

fn percent(text: &[u8]) -> Option<(u8, usize)> {
    let digits = text.strip_prefix(b"%")?.get(..2)?;
    Some((number(digits, 16)?, 3))
}

fn form(text: &[u8]) -> Option<(u8, usize)> {
    if text.first() == Some(&b'+') { Some((b' ', 1)) } else { percent(text) }
}

fn json(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'\\', b'u', digits @ ..] => Some((number(digits.get(..4)?, 16)?, 6)),
        [b'\\', byte @ (b'"' | b'\\' | b'/' | b'\''), ..] => Some((*byte, 2)),
        _ => None,
    }
}

fn html(text: &[u8]) -> Option<(u8, usize)> {
    let rest = text.strip_prefix(b"&")?;
    let end = rest.iter().take(8).position(|byte| *byte == b';')?;
    let byte = match &rest[..end] {
        b"amp" => b'&',
        b"lt" => b'<',
        b"gt" => b'>',
        b"quot" => b'"',
        b"apos" => b'\'',
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16)?,
        [b'#', digits @ ..] => number(digits, 10)?,
        _ => return None,
    };
    Some((byte, end + 2))
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    u8::try_from(u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()?).ok()
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

#[cfg(test)]
mod tests {
    use domain::secret::SecretValue;

    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let value = |text: &str| SecretValue::stored(Zeroizing::new(text.to_owned()));
        let values = secrets.iter().enumerate();
        let values = values.map(|(at, text)| (format!("s{at}").parse().expect("a name"), value(text)));
        Redactor::new(&values.collect(), &[])
    }

    fn redact(secrets: &[&str], body: &[u8]) -> String {
        String::from_utf8(redactor(secrets).redact(body)).expect("text")
    }

    #[test]
    fn every_usual_writing_is_found() {
        let secret = r#"p@ss w/rd+"<&>'\%=x"#;
        for written in [
            secret,
            "p%40ss%20w%2Frd%2B%22%3C%26%3E%27%5C%25%3Dx",
            "p%40ss%20w%2frd%2b%22%3c%26%3e%27%5c%25%3dx",
            "p%40ss+w%2Frd%2B%22%3C%26%3E%27%5C%25%3Dx",
            "p@ss%20w/rd+%22%3C&%3E'%5C%25=x",
            r#"p@ss w\/rd+\"<&>'\\%=x"#,
            r#"\u0070@ss w/rd+\u0022\u003c\u0026\u003E'\\%=x"#,
            r#"p@ss w/rd+\\\"<&>'\\\\%=x"#,
            r#"p@ss w\\\/rd+\\\u0022<&>'\\\\%=x"#,
            "p@ss w/rd+&quot;&lt;&amp;&gt;&#39;\\%=x",
            "p@ss w/rd+&#34;&lt;&amp;&gt;&#x27;\\%=x",
        ] {
            let body = format!("you sent {written}, ha {written}{written}");
            assert_eq!(redact(&[secret], body.as_bytes()), "you sent [redacted], ha [redacted]", "{written}");
        }
        for before in ["", "a", "ab", "abc", "user:"] {
            for engine in [STANDARD, base64::engine::general_purpose::URL_SAFE] {
                let encoded = engine.encode(format!("{before}{secret} and more"));
                let shown = redact(&[secret], encoded.as_bytes());
                assert!(shown.contains("[redacted]") && shown.len() < encoded.len(), "{before}: {shown}");
                let core = &STANDARD.encode(secret)[4..20];
                assert!(!shown.contains(core), "{shown}");
            }
        }
        // The secret as it stands in an address, within a request that is encoded as a whole.
        let address = STANDARD.encode("POST /p%40ss%20w%2Frd%2B%22%3C%26%3E%27%5C%25%3Dx HTTP/1.1");
        let shown = redact(&[secret], address.as_bytes());
        assert!(shown.contains("[redacted]") && shown.len() < 50, "{shown}");
        for written in [hex(secret.as_bytes(), b"0123456789abcdef"), hex(secret.as_bytes(), b"0123456789ABCDEF")] {
            assert_eq!(redact(&[secret], &written), "[redacted]");
        }
    }

    #[test]
    fn what_is_long_enough_to_be_known_is_found_in_any_escape() {
        let secret = "0123456789ab\"&cdefghijklmn";
        for written in ["0123456789ab%2522%2526cdefghijklmn", r#"0123456789ab\\\"&amp;amp;cdefghijklmn"#] {
            let shown = redact(&[secret], written.as_bytes());
            assert!(shown.starts_with("[redacted]") && shown.ends_with("[redacted]") && shown.len() < 40, "{shown}");
        }
    }

    #[test]
    fn the_rest_stays() {
        assert_eq!(redact(&[], b"all of it \xc3\xa9"), "all of it é");
        assert_eq!(redact(&["s3cret"], b"s3cre t s3 &amp; %41 \\u0041 s3c"), "s3cre t s3 &amp; %41 \\u0041 s3c");
        assert_eq!(redact(&["aa"], b"aaa b aa"), "[redacted] b [redacted]");
        assert_eq!(redact(&["one1", "one1two2"], b"<one1two2>"), "<[redacted]>");
        assert_eq!(redactor(&["s3cret"]).redact(b"\xff s3cret \xff%"), b"\xff [redacted] \xff%");
    }

    #[test]
    fn a_body_that_breaks_off_within_a_secret_shows_no_beginning_of_it() {
        assert_eq!(redact(&["s3cret-value"], b"you sent s3cret-val"), "you sent [redacted]");
        assert_eq!(redact(&["a/b/c/d/e"], b"you sent a%2Fb%2Fc"), "you sent [redacted]");
        for rest in ["", "%", "%2", "\\", "\\u00", "&", "&#4"] {
            assert_eq!(
                redact(&["a/b/c/d/e"], format!("you sent a/b/c{rest}").as_bytes()),
                "you sent [redacted]",
                "{rest}"
            );
        }
    }
}
