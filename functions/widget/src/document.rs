//! The widget document and its error screens: the headers that fence them in, and the words a visitor reads when there
//! is no widget to show.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use domain::{
    design::Lang,
    limit::{Exceeded, WINDOW},
    time::Timestamp,
};

use crate::{assets, bundle};

/// What the document's policy names besides the widget's own host.
#[derive(Clone, Debug)]
pub struct Places {
    /// The widget's own host, which frames custom code.
    pub widget: String,
    /// The host of customers' custom code.
    pub code: String,
    /// Where the media server takes offers.
    pub media: Option<String>,
    /// Who may frame the widget of an app that says nothing about it, as CSP sources.
    pub ancestors: Vec<String>,
}

/// Why there is a screen with words instead of the widget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No app has this id, or it is no id.
    UnknownApp,
    /// Over the limit of loads, at this moment.
    TooMany(Exceeded, Timestamp),
    /// We cannot look the app up.
    Unavailable,
}

/// The widget document, framed only by `ancestors` (the default when there are none). In a language that is known it also
/// fetches what is said in it, beside the script that will ask for it; in English where only the visitor's browser knows.
pub fn document(places: &Places, ancestors: &[String], lang: Lang, request: &HeaderMap) -> Response {
    let policy = policy(places, ancestors);
    let asset = assets::DOCUMENTS.iter().find(|(name, _)| *name == lang.as_str());
    let asset = asset.map_or(&assets::DOCUMENT, |(_, asset)| asset);
    // A kept copy carries its policy; a changed policy must therefore be a changed document.
    let tag = bundle::fingerprint([asset.tag.as_bytes(), policy.as_bytes()]);
    fenced(assets::file(asset, &tag, request), &policy)
}

/// The language that a widget's address asks for, else its app's; `Auto` where only the visitor knows.
pub fn language(query: Option<&str>, app: Lang) -> Lang {
    let asked = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("lang="));
    // Tags have no characters that an address would escape.
    asked.and_then(Lang::of_tag).unwrap_or(app)
}

/// An error screen: calm words for the visitor, a hint for the site's owner, still HTML inside the frame.
pub fn refused(places: &Places, why: Refused) -> Response {
    let words = Words::of(why);
    let html = assets::REFUSED
        .replace("{title}", words.title)
        .replace("{body}", words.body)
        .replace("{action}", if words.again { r#"<a class="button go" href="">Try again</a>"# } else { "" })
        .replace("{owner}", words.owner);
    let mut answer = Response::new(Body::from(html));
    *answer.status_mut() = words.status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(assets::DOCUMENT.media_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    match why {
        Refused::UnknownApp => {}
        Refused::TooMany(exceeded, now) => {
            headers.insert(header::RETRY_AFTER, exceeded.retry_after(now).into());
            headers.insert("x-ratelimit-limit", exceeded.limit.into());
            headers.insert("x-ratelimit-remaining", 0.into());
            headers.insert("x-ratelimit-reset", exceeded.reset.as_seconds().into());
            headers.insert("x-ratelimit-window", WINDOW.as_secs().into());
        }
        Refused::Unavailable => {
            headers.insert(header::RETRY_AFTER, 5.into());
        }
    }
    let mut answer = fenced(answer, &policy(places, &[]));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

struct Words {
    status: StatusCode,
    title: &'static str,
    body: &'static str,
    again: bool,
    owner: &'static str,
}

impl Words {
    fn of(why: Refused) -> Self {
        match why {
            Refused::UnknownApp => Self {
                status: StatusCode::NOT_FOUND,
                title: "Calls aren’t available here yet",
                body: "Something on this page still needs to be set up. Please reach us another way for now.",
                again: false,
                owner: "<details><summary>Is this your website?</summary><p>No app has the id in this embed code. \
                        Copy the embed code from your console again and replace the one on this page.</p></details>",
            },
            Refused::TooMany(..) => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                title: "A lot is going on",
                body: "There were many requests in a short time. Please wait a minute, then try again.",
                again: true,
                owner: "",
            },
            Refused::Unavailable => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "Back in a moment",
                body: "We can’t get ready for calls right now. Please try again in a moment.",
                again: true,
                owner: "",
            },
        }
    }
}

/// The headers every document has.
fn fenced(mut answer: Response, policy: &str) -> Response {
    let headers = answer.headers_mut();
    // Asked for each time: it names the assets, and after a deployment only the new ones are there.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // With both of these, pages that isolate themselves can embed the widget too.
    headers.insert("cross-origin-embedder-policy", HeaderValue::from_static("require-corp"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    headers.insert("permissions-policy", HeaderValue::from_static(PERMISSIONS));
    let policy =
        HeaderValue::from_str(policy).unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}

const PERMISSIONS: &str = "microphone=(self), autoplay=(self), speaker-selection=(self), screen-wake-lock=(self), \
    camera=(), display-capture=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), midi=(), \
    publickey-credentials-get=()";

/// Who may frame the widget of an app that names these.
///
/// Sources were checked when they were saved. One that could end the directive here is left out all the same.
pub(crate) fn framing<'a>(places: &'a Places, ancestors: &'a [String]) -> Vec<&'a str> {
    let ancestors = if ancestors.is_empty() { &places.ancestors } else { ancestors };
    ancestors.iter().map(String::as_str).filter(|source| is_source(source)).collect()
}

fn policy(places: &Places, ancestors: &[String]) -> String {
    let sources = framing(places, ancestors);
    // When none is left nobody may frame the widget.
    let sources = if sources.is_empty() { "'none'".to_owned() } else { sources.join(" ") };
    let media = places.media.as_deref().map(origin).filter(|media| is_source(media)).unwrap_or_default();
    let code = &places.code;
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {media}; \
         img-src 'self' https: data:; media-src 'self' blob:; frame-src {code}; base-uri 'none'; form-action 'none'; \
         frame-ancestors {sources}; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

fn is_source(source: &str) -> bool {
    !source.is_empty() && source.bytes().all(|byte| byte.is_ascii_graphic() && !b";,".contains(&byte))
}

/// Scheme, host and port of an address: a policy's source with a path would match that path alone.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |end| end + 3);
    url[host..].find('/').map_or(url, |end| &url[..host + end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            widget: "https://call.example.com".into(),
            code: "https://code.example.com".into(),
            media: Some("https://media.example.com:8443/x/".into()),
            ancestors: vec!["https:".into()],
        }
    }

    fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
        answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    #[test]
    fn the_document_is_fenced() {
        let answer = document(&places(), &[], Lang::Auto, &HeaderMap::new());
        assert_eq!(
            header(&answer, "content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' https://media.example.com:8443; \
             img-src 'self' https: data:; media-src 'self' blob:; frame-src https://code.example.com; base-uri 'none'; \
             form-action 'none'; frame-ancestors https:; require-trusted-types-for 'script'; trusted-types 'none'"
        );
        assert_eq!(header(&answer, "cross-origin-embedder-policy"), "require-corp");
        assert_eq!(header(&answer, "cross-origin-resource-policy"), "cross-origin");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer");
        assert_eq!(header(&answer, "cache-control"), "no-cache");
        assert!(!answer.headers().contains_key("x-frame-options"));
    }

    #[test]
    fn an_app_names_its_own_ancestors() {
        let answer = document(
            &places(),
            &["https://a.example".into(), "https://*.b.example".into()],
            Lang::Auto,
            &HeaderMap::new(),
        );
        let policy = header(&answer, "content-security-policy");
        assert!(policy.contains("frame-ancestors https://a.example https://*.b.example;"), "{policy}");
    }

    #[test]
    fn no_source_can_add_a_directive() {
        for bad in ["https://a.example; script-src *", "https://a.example,x", "a b", "a\r\nset-cookie: x", ""] {
            let answer = document(&places(), &[bad.into()], Lang::Auto, &HeaderMap::new());
            let policy = header(&answer, "content-security-policy");
            assert!(policy.contains("frame-ancestors 'none';"), "{bad}: {policy}");
        }
    }

    #[test]
    fn another_policy_is_another_document() {
        let first = document(&places(), &[], Lang::Auto, &HeaderMap::new());
        let mut again = HeaderMap::new();
        again.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(document(&places(), &[], Lang::Auto, &again).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(document(&places(), &["https://a.example".into()], Lang::Auto, &again).status(), StatusCode::OK);
    }

    async fn html(lang: Lang) -> String {
        let answer = document(&places(), &[], lang, &HeaderMap::new());
        let html = axum::body::to_bytes(answer.into_body(), 10_000).await.expect("a body");
        String::from_utf8(html.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn a_language_that_is_known_comes_beside_the_script() {
        for (lang, file) in [(Lang::Auto, None), (Lang::En, None), (Lang::De, Some("de.js")), (Lang::Ar, Some("ar.js"))]
        {
            let html = html(lang).await;
            let link = file.map(|file| format!("<link rel=\"modulepreload\" href=\"/a/{}/{file}\">", assets::HASH));
            assert_eq!(html.matches("modulepreload").count(), usize::from(link.is_some()), "{html}");
            assert!(html.contains(&link.unwrap_or_default()), "{html}");
            assert_eq!(html.contains(&format!("data-lang=\"{}\"", lang.as_str())), lang != Lang::Auto, "{html}");
        }
        let tag = |lang| document(&places(), &[], lang, &HeaderMap::new()).headers()[header::ETAG].clone();
        assert_ne!(tag(Lang::De), tag(Lang::Auto));
    }

    #[tokio::test]
    async fn before_its_script_runs_the_document_speaks_the_language_already() {
        for (lang, root, title, loading, call) in [
            (Lang::Auto, "lang=\"en\" dir=\"ltr\"", "Talk to us", "Getting ready…", "Call"),
            (Lang::En, "lang=\"en\" dir=\"ltr\"", "Talk to us", "Getting ready…", "Call"),
            (Lang::De, "lang=\"de\" dir=\"ltr\"", "Sprechen Sie mit uns", "Einen Moment …", "Anrufen"),
            (Lang::Es, "lang=\"es\" dir=\"ltr\"", "Hable con nosotros", "Un momento…", "Llamar"),
            (Lang::Fr, "lang=\"fr\" dir=\"ltr\"", "Parlez-nous", "Un instant…", "Appeler"),
            (Lang::Pt, "lang=\"pt\" dir=\"ltr\"", "Fale connosco", "Um momento…", "Ligar"),
            (Lang::Ar, "lang=\"ar\" dir=\"rtl\"", "تحدّث معنا", "لحظة من فضلك…", "اتصال"),
        ] {
            let html = html(lang).await;
            assert!(html.contains(&format!("{root} data-state=\"loading\">")), "{html}");
            assert!(html.contains(&format!("<title>{title}</title>")), "{html}");
            assert!(html.contains(&format!("role=\"status\">{loading}</p>")), "{html}");
            assert!(html.contains(&format!("</svg>{call}</button>")), "{html}");
            assert_eq!(html.contains("<noscript><p>Calls need JavaScript."), root.contains("\"en\""), "{html}");
            assert!(!html.contains('{'), "{html}");
        }
    }

    #[test]
    fn the_address_asks_for_a_language_or_the_app_has_one() {
        for (query, app, lang) in [
            (None, Lang::Auto, Lang::Auto),
            (None, Lang::De, Lang::De),
            (Some("key=wk_1&lang=fr&order=A-1"), Lang::De, Lang::Fr),
            (Some("lang=PT-br"), Lang::Auto, Lang::Pt),
            (Some("lang=tlh"), Lang::De, Lang::De),
            (Some("language=fr&xlang=fr&lang"), Lang::Auto, Lang::Auto),
            (Some("lang=%0d%0a"), Lang::Auto, Lang::Auto),
        ] {
            assert_eq!(language(query, app), lang, "{query:?}");
        }
    }

    #[test]
    fn refusals_are_html_with_their_own_status() {
        let now = Timestamp::from_millis(0);
        let too_many = Refused::TooMany(Exceeded { limit: 1, reset: Timestamp::from_millis(30_000) }, now);
        for (why, status) in [
            (Refused::UnknownApp, StatusCode::NOT_FOUND),
            (too_many, StatusCode::TOO_MANY_REQUESTS),
            (Refused::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let answer = refused(&places(), why);
            assert_eq!(answer.status(), status);
            assert_eq!(header(&answer, "content-type"), "text/html; charset=utf-8");
            assert_eq!(header(&answer, "cache-control"), "no-store");
            assert!(header(&answer, "content-security-policy").contains("frame-ancestors https:;"));
        }
        assert_eq!(header(&refused(&places(), too_many), "retry-after"), "30");
    }
}
