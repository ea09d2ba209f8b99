//! Whether an ID token may be believed (OpenID Connect Core 1.0, section 3.1.3.7): its signature, who made it for whom,
//! when, and in answer to which request.

use aws_lc_rs::{
    constant_time,
    signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::time::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// What clocks may differ by, in seconds.
const LEEWAY: f64 = 60.0;
/// A token is made in answer to our request: an old one is another's.
const MAX_AGE: f64 = 600.0;
/// OpenID Connect Core 1.0, section 2: a subject is at most 255 ASCII characters.
const MAX_SUBJECT: usize = 255;

/// Why a token is not believed: a word for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(pub(crate) &'static str);

/// What an ID token must say.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: &'a str,
}

/// The claims of a token that was believed.
#[derive(Debug)]
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    /// Claims that a test makes up.
    #[cfg(test)]
    pub(crate) fn of(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Whom the token is about: never given to somebody else at this issuer.
    pub(crate) fn subject(&self) -> &str {
        self.text("sub").unwrap_or_default()
    }

    /// Their mail address, when the provider says that it is known to be theirs.
    pub(crate) fn email(&self) -> Option<&str> {
        let verified = self.0.get("email_verified").is_some_and(|it| *it == Value::Bool(true) || it == "true");
        self.text("email").filter(|_| verified)
    }

    /// The texts of a claim that is a list, or one text.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one],
            _ => Vec::new(),
        }
    }
}

/// A provider's keys. Those of kinds unknown here are passed over.
#[derive(Deserialize)]
pub(crate) struct Keys {
    keys: Vec<Value>,
}

/// One of them (RFC 7517, 7518).
#[derive(Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<Value>,
}

/// The claims of this token, if it may be believed.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn verify(token: &str, keys: &Keys, expected: &Expected<'_>, now: Timestamp) -> Result<Claims, Fault> {
    let not_a_token = Fault("not_a_token");
    let (message, signature) = token.rsplit_once('.').ok_or(not_a_token)?;
    let (header, payload) = message.split_once('.').ok_or(not_a_token)?;
    let header: Header = read(header).ok_or(not_a_token)?;
    if header.crit.is_some() {
        return Err(Fault("unknown_extension"));
    }
    // What a token says of its algorithm chooses among keys that are for it; it never makes one of another kind do.
    if !["RS256", "ES256"].contains(&header.alg.as_str()) {
        return Err(Fault("algorithm"));
    }
    let signature = decode(signature).ok_or(not_a_token)?;
    let keys = keys.keys.iter().filter_map(|key| Key::deserialize(key).ok());
    let mut keys = keys.filter(|key| key.fits(&header)).peekable();
    keys.peek().ok_or(Fault("unknown_key"))?;
    if !keys.any(|key| key.verifies(&header.alg, message.as_bytes(), &signature)) {
        return Err(Fault("signature"));
    }
    let claims = Claims(read(payload).ok_or(not_a_token)?);
    check(&claims, expected, now).map(|()| claims)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

fn read<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&decode(part)?).ok()
}

impl Key {
    fn fits(&self, header: &Header) -> bool {
        (header.kid.is_none() || header.kid == self.kid)
            && self.alg.as_ref().is_none_or(|alg| *alg == header.alg)
            && self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
    }

    fn verifies(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        let number = |text: &Option<String>| text.as_deref().and_then(decode);
        match (alg, self.kty.as_str(), self.crv.as_deref()) {
            ("RS256", "RSA", _) => {
                let (Some(n), Some(e)) = (number(&self.n), number(&self.e)) else { return false };
                let key = RsaPublicKeyComponents { n: without_zeros(&n), e: without_zeros(&e) };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            ("ES256", "EC", Some("P-256")) => {
                let (Some(x), Some(y)) = (number(&self.x), number(&self.y)) else { return false };
                // A point that is not compressed; of another length it is refused.
                let point = [&[4][..], &x, &y].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// Some providers write them, against the standard.
fn without_zeros(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

fn check(claims: &Claims, expected: &Expected<'_>, now: Timestamp) -> Result<(), Fault> {
    let ensure = |holds: bool, word| if holds { Ok(()) } else { Err(Fault(word)) };
    ensure(claims.text("iss") == Some(expected.issuer), "issuer")?;
    let audience = claims.list("aud");
    ensure(audience.contains(&expected.client_id), "audience")?;
    let party = claims.0.get("azp");
    // Where there are several, it must say who of them asked.
    ensure(party.is_some() || audience.len() == 1, "authorized_party")?;
    ensure(party.is_none_or(|party| party == expected.client_id), "authorized_party")?;
    let time = |name| claims.0.get(name).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds are far below where it matters")]
    let now = now.as_seconds() as f64;
    ensure(time("exp").is_some_and(|expiry| now < expiry + LEEWAY), "expired")?;
    ensure(time("iat").is_some_and(|made| now - MAX_AGE <= made && made <= now + LEEWAY), "time")?;
    ensure(time("nbf").is_none_or(|begins| begins <= now + LEEWAY), "time")?;
    let nonce = claims.text("nonce").unwrap_or_default().as_bytes();
    ensure(constant_time::verify_slices_are_equal(nonce, expected.nonce.as_bytes()).is_ok(), "nonce")?;
    ensure((1..=MAX_SUBJECT).contains(&claims.subject().len()), "subject")
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::KeySize,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
    };
    use serde_json::json;

    use super::*;

    const EXPECTED: Expected<'_> =
        Expected { issuer: "https://login.example.com", client_id: "console", nonce: "n0nce" };

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000)
    }

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a provider signs with, and its public half.
    enum Signer {
        Rsa(RsaKeyPair),
        Ec(EcdsaKeyPair),
    }

    impl Signer {
        fn rsa() -> Self {
            Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
        }

        fn ec() -> Self {
            Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
        }

        fn alg(&self) -> &'static str {
            match self {
                Self::Rsa(_) => "RS256",
                Self::Ec(_) => "ES256",
            }
        }

        fn jwk(&self, kid: &str) -> Value {
            match self {
                Self::Rsa(pair) => {
                    let public = pair.public_key();
                    let (n, e) = rsa_components(public.as_ref());
                    json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": encode(n), "e": encode(e)})
                }
                Self::Ec(pair) => {
                    let point = pair.public_key().as_ref();
                    json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])})
                }
            }
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
            let signature = match self {
                Self::Rsa(pair) => {
                    let mut signature = vec![0; pair.public_modulus_len()];
                    let random = SystemRandom::new();
                    pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).expect("signed");
                    signature
                }
                Self::Ec(pair) => {
                    pair.sign(&SystemRandom::new(), message.as_bytes()).expect("signed").as_ref().to_vec()
                }
            };
            format!("{message}.{}", encode(signature))
        }
    }

    /// Modulus and exponent out of PKCS#1: a sequence of two integers of known lengths.
    fn rsa_components(der: &[u8]) -> (&[u8], &[u8]) {
        // 30 82 xx xx 02 82 01 01 00 <256 bytes> 02 03 01 00 01
        assert_eq!((der.len(), der[4], der[8]), (270, 2, 0));
        (&der[9..265], &der[267..270])
    }

    fn claims() -> Value {
        let now = now().as_seconds();
        json!({
            "iss": EXPECTED.issuer, "sub": "ann", "aud": "console", "exp": now + 300, "iat": now, "nonce": EXPECTED.nonce,
            "email": "ann@example.com", "email_verified": true, "cognito:groups": ["staff", "editor"],
        })
    }

    fn judge(signer: &Signer, header: &Value, claims: &Value, keys: Value) -> Result<Claims, &'static str> {
        let keys = Keys { keys: keys.as_array().expect("a list").clone() };
        verify(&signer.sign(header, claims), &keys, &EXPECTED, now()).map_err(|fault| fault.0)
    }

    #[test]
    fn both_kinds_of_keys_are_believed() {
        for signer in [Signer::rsa(), Signer::ec()] {
            let keys = json!([{"kty": "OKP", "crv": "X25519"}, "nonsense", Signer::ec().jwk("old"), signer.jwk("now")]);
            for header in [json!({"alg": signer.alg(), "kid": "now"}), json!({"alg": signer.alg(), "typ": "JWT"})] {
                let believed = judge(&signer, &header, &claims(), keys.clone()).expect("believed");
                assert_eq!((believed.subject(), believed.email()), ("ann", Some("ann@example.com")));
                assert_eq!(believed.list("cognito:groups"), ["staff", "editor"]);
            }
        }
    }

    #[test]
    fn a_token_by_nobody_in_particular_is_not() {
        let (signer, other) = (Signer::rsa(), Signer::rsa());
        let keys = json!([signer.jwk("now")]);
        let header = json!({"alg": "RS256", "kid": "now"});
        for (forger, header, fault) in [
            (&other, header.clone(), "signature"),
            (&signer, json!({"alg": "none"}), "algorithm"),
            (&signer, json!({"alg": "HS256", "kid": "now"}), "algorithm"),
            (&signer, json!({"alg": "ES256", "kid": "now"}), "unknown_key"),
            (&signer, json!({"alg": "RS256", "kid": "then"}), "unknown_key"),
            (&signer, json!({"alg": "RS256", "crit": ["b64"], "b64": false}), "unknown_extension"),
        ] {
            assert_eq!(judge(forger, &header, &claims(), keys.clone()).err(), Some(fault), "{header}");
        }
        // A key for another purpose signs nothing, nor does one of another kind by the right name.
        for (field, value, fault) in
            [("use", "enc", "unknown_key"), ("alg", "RS512", "unknown_key"), ("kty", "EC", "signature")]
        {
            let mut keys = keys.clone();
            keys[0][field] = json!(value);
            assert_eq!(judge(&signer, &header, &claims(), keys).err(), Some(fault), "{field}");
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        let signer = Signer::rsa();
        let keys = Keys { keys: vec![signer.jwk("now")] };
        let good = signer.sign(&json!({"alg": "RS256"}), &claims());
        assert!(verify(&good, &keys, &EXPECTED, now()).is_ok());
        let (message, _) = good.rsplit_once('.').expect("a signature");
        let changed = good.replacen(&encode(claims().to_string()), &encode(b"{}"), 1);
        let texts = [String::new(), "..".to_owned(), "a.b.c".to_owned(), message.to_owned(), format!("{message}.")];
        for text in texts.into_iter().chain([format!("{good}=="), format!("{good}.x"), changed]) {
            assert!(verify(&text, &keys, &EXPECTED, now()).is_err(), "{text}");
        }
    }

    #[test]
    fn claims_are_about_this_sign_in() {
        let signer = Signer::ec();
        let (header, keys) = (json!({"alg": "ES256"}), json!([signer.jwk("now")]));
        let seconds = now().as_seconds();
        for (name, value, fault) in [
            ("iss", json!("https://login.example.com/"), "issuer"),
            ("iss", json!(null), "issuer"),
            ("aud", json!("shop"), "audience"),
            ("aud", json!([]), "audience"),
            ("aud", json!(["console", "shop"]), "authorized_party"),
            ("azp", json!("shop"), "authorized_party"),
            ("azp", json!(7), "authorized_party"),
            ("exp", json!(seconds - 60), "expired"),
            ("exp", json!(null), "expired"),
            ("exp", json!("soon"), "expired"),
            ("iat", json!(seconds - 601), "time"),
            ("iat", json!(seconds + 61), "time"),
            ("iat", json!(null), "time"),
            ("nbf", json!(seconds + 61), "time"),
            ("nonce", json!("another"), "nonce"),
            ("nonce", json!(null), "nonce"),
            ("sub", json!(""), "subject"),
            ("sub", json!("x".repeat(256)), "subject"),
            ("sub", json!(7), "subject"),
        ] {
            let mut claims = claims();
            claims[name] = value;
            assert_eq!(judge(&signer, &header, &claims, keys.clone()).err(), Some(fault), "{name}: {}", claims[name]);
        }
        for (name, value) in [
            ("aud", json!(["console"])),
            ("azp", json!("console")),
            ("exp", json!(seconds - 59)),
            ("exp", json!(1_795_000_000.5)),
            ("iat", json!(seconds + 60)),
        ] {
            let mut claims = claims();
            claims[name] = value;
            assert!(judge(&signer, &header, &claims, keys.clone()).is_ok(), "{name}: {}", claims[name]);
        }
    }

    #[test]
    fn an_address_that_may_be_anothers_is_no_name() {
        let signer = Signer::ec();
        for (verified, email) in [
            (json!(true), Some("ann@example.com")),
            (json!("true"), Some("ann@example.com")),
            (json!(false), None),
            (json!("false"), None),
            (json!(null), None),
            (json!(1), None),
        ] {
            let mut claims = claims();
            claims["email_verified"] = verified;
            let judged = judge(&signer, &json!({"alg": "ES256"}), &claims, json!([signer.jwk("now")]));
            assert_eq!(judged.expect("believed").email(), email);
        }
    }
}
