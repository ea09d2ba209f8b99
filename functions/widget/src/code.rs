//! A customer's own code as a document, on a host of its own. Its text is whatever they wrote; what fences it in are its
//! headers, which no text can take back: an opaque origin without storage, cookies, forms, pop-ups or microphone.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use domain::custom_code::CustomCode;

use crate::{
    assets, bundle,
    document::{Places, framing},
};

/// A change shows after a minute; until then nothing is asked for again.
const SHORT: &str = "public, max-age=60";

/// What the code may load and reach: anything by https, nothing that leads out of its frame. `sandbox` holds in a window
/// of its own too.
const POLICY: &str = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' https: blob:; \
    style-src 'unsafe-inline' https:; img-src https: data: blob:; font-src https: data:; media-src https: data: blob:; \
    connect-src https: wss:; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors ";

/// Nothing that a browser asks its user for.
const PERMISSIONS: &str = "microphone=(), camera=(), display-capture=(), autoplay=(), speaker-selection=(), \
    screen-wake-lock=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), midi=(), clipboard-read=(), \
    clipboard-write=(), fullscreen=(), publickey-credentials-get=()";

/// The document: the bridge before anything of the customer's, then their two areas as they are.
pub fn document(places: &Places, ancestors: &[String], code: &CustomCode, request: &HeaderMap) -> Response {
    // A frame's policy asks for every document above it: the widget, and the page around that.
    let above: Vec<&str> = std::iter::once(places.widget.as_str()).chain(framing(places, ancestors)).collect();
    let policy = format!("{POLICY}{}", above.join(" "));
    let bridge = String::from_utf8_lossy(assets::BRIDGE.plain);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Custom code</title>\n\
         <script>\n{bridge}</script>\n{}\n</head>\n<body>\n{}\n</body>\n</html>\n",
        code.head_html, code.body_end_html
    );
    let tag = format!("W/\"{}\"", bundle::fingerprint([html.as_bytes(), policy.as_bytes()]));
    let fresh = assets::has(tag.trim_start_matches("W/").trim_matches('"'), request);
    let mut answer = Response::new(if fresh { Body::empty() } else { Body::from(html) });
    if fresh {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, SHORT),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        (header::HeaderName::from_static("permissions-policy"), PERMISSIONS),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    let closed = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).unwrap_or(closed));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            widget: "https://call.example.com".into(),
            code: "https://code.example.com".into(),
            media: None,
            ancestors: vec!["https:".into()],
        }
    }

    fn code(head: &str, body: &str) -> CustomCode {
        CustomCode { head_html: head.into(), body_end_html: body.into() }
    }

    fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
        answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    async fn text(answer: Response) -> String {
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[test]
    fn the_document_is_fenced() {
        let answer = document(&places(), &[], &code("", "<p>"), &HeaderMap::new());
        let policy = header(&answer, "content-security-policy");
        assert!(policy.starts_with("sandbox allow-scripts; default-src 'none'; "), "{policy}");
        assert!(policy.ends_with("; frame-ancestors https://call.example.com https:"), "{policy}");
        assert!(!policy.contains("allow-same-origin") && policy.matches("sandbox").count() == 1);
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-embedder-policy", "require-corp"),
            ("cross-origin-resource-policy", "cross-origin"),
            ("cache-control", SHORT),
            ("set-cookie", ""),
            ("access-control-allow-origin", ""),
        ] {
            assert_eq!(header(&answer, name), value, "{name}");
        }
        assert!(header(&answer, "permissions-policy").contains("microphone=()"));
    }

    #[test]
    fn ancestors_cannot_add_directives() {
        let ancestors = ["https://a.example".to_owned(), "https://b.example; script-src *".to_owned()];
        let answer = document(&places(), &ancestors, &code("", "<p>"), &HeaderMap::new());
        let policy = header(&answer, "content-security-policy");
        assert!(policy.ends_with("; frame-ancestors https://call.example.com https://a.example"), "{policy}");
    }

    #[tokio::test]
    async fn the_bridge_comes_first_and_closes_what_it_opens() {
        let bridge = std::str::from_utf8(assets::BRIDGE.plain).expect("text");
        assert!(bridge.contains("c2c") && !bridge.contains("</") && !bridge.contains("<!--"), "{bridge}");
        let hostile = code("</script></head></html><script>early()</script>", "<!-- <script> </body></html>");
        let html = text(document(&places(), &[], &hostile, &HeaderMap::new())).await;
        let (before, after) = html.split_once(bridge).expect("the bridge");
        assert!(before.ends_with("<script>\n") && before.matches('<').count() == 7, "{before}");
        assert!(after.starts_with("</script>\n</script></head></html><script>early()"), "{after}");
    }

    #[test]
    fn a_known_document_is_not_sent_again_and_another_is() {
        let tagged = |code: &CustomCode, ancestors: &[String]| {
            document(&places(), ancestors, code, &HeaderMap::new()).headers()[header::ETAG].clone()
        };
        let (one, other) = (code("a", "b"), code("a", "c"));
        let tag = tagged(&one, &[]);
        assert_ne!(tag, tagged(&other, &[]));
        assert_ne!(tag, tagged(&one, &["https://a.example".to_owned()]), "the policy is a part of it");
        let request = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        let answer = document(&places(), &[], &one, &request);
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert!(header(&answer, "content-security-policy").starts_with("sandbox "));
        assert_eq!(document(&places(), &[], &other, &request).status(), StatusCode::OK);
    }
}
