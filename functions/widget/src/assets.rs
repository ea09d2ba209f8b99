//! The files the widget's host serves as they are: which, in which form, and how long they may be kept.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

/// One file in its two forms.
#[derive(Debug)]
pub struct Asset {
    /// Its name.
    pub name: &'static str,
    /// Its `Content-Type`.
    pub media_type: &'static str,
    /// Changes when the file does.
    pub tag: &'static str,
    /// As it is.
    pub plain: &'static [u8],
    /// Compressed when the crate was built.
    pub brotli: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/table.rs"));

/// Kept for good: the address changes when the content does.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";
/// The loader's address never changes, so that what it holds must be able to: five minutes.
const SHORT: &str = "public, max-age=300, stale-while-revalidate=3600";

/// The asset `name` of the set `hash`; only the set built into this binary is known.
pub fn asset(hash: &str, name: &str, request: &HeaderMap) -> Option<Response> {
    let asset = ASSETS.iter().find(|asset| hash == HASH && asset.name == name)?;
    let mut answer = file(asset, asset.tag, request);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(FOR_GOOD));
    Some(answer)
}

/// The loader. Any page may read it, with and without `crossorigin`.
pub fn loader(request: &HeaderMap) -> Response {
    let mut answer = file(&LOADER, LOADER.tag, request);
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(SHORT));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

/// A file in the form the request takes, or 304 when it has it. `tag` names content and headers together.
pub fn file(asset: &Asset, tag: &str, request: &HeaderMap) -> Response {
    let compressed = accepts_brotli(request);
    let fresh = has(tag, request);
    let body = if fresh { Body::empty() } else { Body::from(if compressed { asset.brotli } else { asset.plain }) };
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    // Weak, because both forms share it.
    if let Ok(tag) = HeaderValue::from_str(&format!("W/\"{tag}\"")) {
        headers.insert(header::ETAG, tag);
    }
    if fresh {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return answer;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    if compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    answer
}

fn accepts_brotli(request: &HeaderMap) -> bool {
    let lines = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = parameters.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("br") && quality.is_ok_and(|quality| quality > 0.0)
    })
}

/// Whether the request has what this tag names.
pub(crate) fn has(tag: &str, request: &HeaderMap) -> bool {
    let lines = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|given| {
        let given = given.trim();
        given == "*" || given.strip_prefix("W/").unwrap_or(given).trim_matches('"') == tag
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn brotli_goes_only_to_those_who_take_it() {
        for (value, takes) in [
            ("gzip, deflate, br, zstd", true),
            ("br", true),
            ("BR;q=0.5", true),
            ("gzip, br;q=0", false),
            ("br;q=0.000", false),
            ("brotli", false),
            ("gzip", false),
            ("*", false),
            ("br;q=x", false),
            ("", false),
        ] {
            assert_eq!(accepts_brotli(&request(header::ACCEPT_ENCODING, value)), takes, "{value}");
        }
        assert!(!accepts_brotli(&HeaderMap::new()));
    }

    #[test]
    fn a_known_tag_is_not_sent_again() {
        for (value, known) in
            [("W/\"t1\"", true), ("\"t1\"", true), ("\"t0\", W/\"t1\"", true), ("*", true), ("\"t2\"", false)]
        {
            assert_eq!(has("t1", &request(header::IF_NONE_MATCH, value)), known, "{value}");
        }
    }

    #[test]
    fn assets_are_kept_for_good_and_only_under_their_own_hash() {
        let answer = asset(HASH, "main.js", &request(header::ACCEPT_ENCODING, "br")).expect("an asset of this set");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], FOR_GOOD);
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "br");
        assert!(asset("0000000000000000", "main.js", &HeaderMap::new()).is_none());
        assert!(asset(HASH, "embed.js", &HeaderMap::new()).is_none());
    }

    #[test]
    fn the_loader_answers_304_with_the_headers_a_cache_needs() {
        let tag = loader(&HeaderMap::new()).headers()[header::ETAG].clone();
        let mut request = HeaderMap::new();
        request.insert(header::IF_NONE_MATCH, tag.clone());
        let answer = loader(&request);
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer.headers()[header::ETAG], tag);
        assert_eq!(answer.headers()[header::CACHE_CONTROL], SHORT);
        assert_eq!(answer.headers()[header::VARY], "accept-encoding");
        assert!(!answer.headers().contains_key(header::CONTENT_TYPE));
    }

    /// The budgets, in bytes of brotli: of the first paint, and of what comes later for those who need it.
    #[test]
    fn sizes_stay_within_their_budgets() {
        let size =
            |name: &str| ASSETS.iter().find(|asset| asset.name == name).map_or(usize::MAX, |asset| asset.brotli.len());
        for (name, size, limit) in [
            ("loader", LOADER.brotli.len(), 1_536),
            ("document", DOCUMENT.brotli.len(), 3_072),
            ("style sheet", size("widget.css"), 4_096),
            ("script of the first paint", size("main.js"), 15_360),
            ("script of a call", size("call.js"), 6_144),
            ("script of form and survey", size("sheet.js"), 2_048),
            ("script of closed hours", size("opening.js"), 512),
            ("bridge", BRIDGE.brotli.len(), 1_024),
        ] {
            assert!(size <= limit, "{name}: {size}");
        }
        for (language, document) in &DOCUMENTS {
            assert!(document.brotli.len() <= 3_072, "document, {language}: {}", document.brotli.len());
        }
        for language in ["de.js", "es.js", "fr.js", "pt.js", "ar.js"] {
            assert!(size(language) <= 3_072, "{language}: {}", size(language));
        }
    }
}
