//! Where a widget may stand and who hears it: the pages that may frame it, the pages that get its events, and what a
//! customer pastes into theirs (contract sections 6 and 8).

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::{
    app::WidgetKey,
    design::{Lang, Look},
    field::FieldError,
    id::AppId,
};

/// Entries of each list at most.
pub const MAX_ORIGINS: usize = 20;
const MAX_ORIGIN: usize = 300;
/// Characters that the loader's button, which never changes its size, has room for.
const MAX_LABEL: usize = 12;

/// What an operator sets: both lists, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Embed {
    /// Pages that are told of events, each an exact origin; none unless they stand here.
    pub allowed_origins: Vec<String>,
    /// Pages that may frame the widget, as CSP sources; empty: the deployment's default, any https page.
    pub frame_ancestors: Vec<String>,
}

impl Embed {
    /// Checks both lists and writes each entry as browsers write it.
    ///
    /// # Errors
    /// Every entry that is wrong.
    pub fn check(self) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let exact = "must be an exact origin such as https://shop.example.com (or http://localhost:3000 for development): \
                     no path, no wildcard";
        let framing =
            "must be an origin such as https://shop.example.com, or https://*.example.com for all hosts below one";
        let embed = Self {
            allowed_origins: list("allowedOrigins", &self.allowed_origins, exact, origin, &mut errors),
            frame_ancestors: list("frameAncestors", &self.frame_ancestors, framing, ancestor, &mut errors),
        };
        if errors.is_empty() { Ok(embed) } else { Err(errors) }
    }
}

fn list(
    field: &str,
    given: &[String],
    expected: &str,
    parse: fn(&str) -> Option<String>,
    errors: &mut Vec<FieldError>,
) -> Vec<String> {
    let mut kept = Vec::new();
    if given.len() > MAX_ORIGINS {
        errors.push(FieldError::invalid(field, format!("must be at most {MAX_ORIGINS}")));
        return kept;
    }
    for (index, text) in given.iter().enumerate() {
        let field = format!("{field}[{index}]");
        match parse(text) {
            Some(parsed) if kept.contains(&parsed) => errors.push(FieldError::invalid(field, "stands more than once")),
            Some(parsed) => kept.push(parsed),
            None => errors.push(FieldError::invalid(field, expected)),
        }
    }
    kept
}

/// An exact origin as browsers write it: `https`, or `http` on this machine. It stands in policies and is compared with
/// what browsers say, so it may hold nothing but a scheme, a host and a port.
fn origin(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    if text.len() > MAX_ORIGIN || rest.contains(['/', '\\', '?', '#', '@', '*', '%']) || rest.ends_with(':') {
        return None;
    }
    // URLs may not begin or end in blanks, nor hold tabs and line breaks: a parser would overlook them.
    if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let here = match url.host()? {
        // The URL standard lets hosts hold semicolons, commas and quotes, which would end a policy's directive.
        Host::Domain(name) if !is_name(name) => return None,
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    (url.scheme() == "https" || here).then(|| url.origin().ascii_serialization())
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// A source of `frame-ancestors`: an origin, or all hosts below one.
fn ancestor(text: &str) -> Option<String> {
    let Some(below) = text.strip_prefix("https://*.") else { return origin(text) };
    let parsed = origin(&format!("https://{below}"))?;
    let host = parsed.strip_prefix("https://")?;
    // No whole top-level domain, and no addresses: nothing is below them.
    let name = host.split(':').next()?;
    let fits = name.contains('.') && name.split('.').next_back()?.bytes().any(|byte| byte.is_ascii_alphabetic());
    fits.then(|| format!("https://*.{host}"))
}

/// The address of an app's widget.
pub fn address(widget_origin: &str, app: AppId, key: &WidgetKey) -> String {
    format!("{widget_origin}/widget/{app}?key={key}")
}

/// What the loader's button and the link say: the app's own word for calling, where the button has room for it, else that of
/// the app's language.
pub fn label(look: &Look) -> &str {
    let own = look.texts.get("call").filter(|text| text.chars().count() <= MAX_LABEL);
    own.map_or(call_us(look.lang), String::as_str)
}

/// The same without a word of the app's own: what the call button inside says, and in English what the loader says by itself.
pub const fn call_us(lang: Lang) -> &'static str {
    match lang {
        Lang::Auto | Lang::En => "Call us",
        Lang::De => "Anrufen",
        Lang::Es => "Llamar",
        Lang::Fr => "Appeler",
        Lang::Pt => "Ligar",
        Lang::Ar => "اتصال",
    }
}

/// What a customer pastes, in the three ways that there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snippets {
    /// A frame at its place in the page.
    pub iframe: String,
    /// The loader: one button, nothing else before it is tapped.
    pub loader: String,
    /// A link that opens the widget in a window of its own.
    pub link: String,
}

impl Snippets {
    /// Of one app's widget, in the looks of what it has published.
    pub fn of(widget_origin: &str, app: AppId, key: &WidgetKey, look: &Look) -> Self {
        let widget = attribute(&address(widget_origin, app, key));
        let loader = attribute(&format!("{widget_origin}/embed.js"));
        let (app, key, label) = (attribute(&app.to_string()), attribute(&key.to_string()), attribute(label(look)));
        let theme = &look.theme;
        let (position, accent, on_accent) =
            (theme.position.as_str(), attribute(&theme.accent), attribute(&theme.on_accent));
        Self {
            iframe: format!(
                "<iframe src=\"{widget}\" title=\"Click to call\" width=\"380\" height=\"600\"\n  \
                 allow=\"microphone; autoplay; speaker-selection; screen-wake-lock\" loading=\"lazy\"></iframe>"
            ),
            loader: format!(
                "<script async src=\"{loader}\"\n  data-app-id=\"{app}\"\n  data-key=\"{key}\"\n  \
                 data-position=\"{position}\" data-label=\"{label}\"\n  \
                 data-accent=\"{accent}\" data-on-accent=\"{on_accent}\"></script>"
            ),
            link: format!("<a href=\"{widget}\" target=\"_blank\" rel=\"noopener\">{label}</a>"),
        }
    }
}

/// A text as it may stand in a quoted attribute.
fn attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{design::Position, time::Timestamp};

    #[test]
    fn origins_are_exact() {
        for (text, kept) in [
            ("https://shop.example.com", Some("https://shop.example.com")),
            ("https://Shop.Example.com:443", Some("https://shop.example.com")),
            ("https://shop.example.com:8443", Some("https://shop.example.com:8443")),
            ("https://bücher.example", Some("https://xn--bcher-kva.example")),
            ("https://192.0.2.1", Some("https://192.0.2.1")),
            ("https://[2001:db8::1]:8443", Some("https://[2001:db8::1]:8443")),
            ("http://localhost", Some("http://localhost")),
            ("http://demo.localhost:8080", Some("http://demo.localhost:8080")),
            ("http://127.0.0.1:3000", Some("http://127.0.0.1:3000")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("http://shop.example.com", None),
            ("http://localhost.example.com", None),
            ("https://shop.example.com/", None),
            ("https://shop.example.com/path", None),
            ("https://shop.example.com?x", None),
            ("https://shop.example.com#x", None),
            ("https://shop.example.com:", None),
            ("https://shop.example.com:99999", None),
            ("https://user@shop.example.com", None),
            ("https://*.example.com", None),
            ("https://*", None),
            ("https:", None),
            ("https://", None),
            ("*", None),
            ("null", None),
            ("", None),
            ("shop.example.com", None),
            ("//shop.example.com", None),
            ("data:text/html,x", None),
            ("https://a.example;script-src", None),
            ("https://a.example,https://b.example", None),
            ("https://a.example https://b.example", None),
            ("https://a.example; script-src 'unsafe-inline'", None),
            ("https://a.example\r\nx: y", None),
            ("https://a.example\t", None),
            (" https://a.example", None),
            ("https://a'b.example", None),
            ("https://a\"b.example", None),
            ("https://a%2eexample", None),
            ("https:\\\\a.example", None),
        ] {
            assert_eq!(origin(text).as_deref(), kept, "{text:?}");
        }
    }

    #[test]
    fn ancestors_may_be_all_hosts_below_one() {
        for (text, kept) in [
            ("https://*.Example.com", Some("https://*.example.com")),
            ("https://*.example.com:8443", Some("https://*.example.com:8443")),
            ("https://a.example", Some("https://a.example")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("https://*.com", None),
            ("https://*.*.example.com", None),
            ("https://a.*.example.com", None),
            ("https://*.192.0.2.1", None),
            ("https://*", None),
            ("https:", None),
            ("*", None),
            ("'self'", None),
            ("'none'", None),
            ("https://*.example.com;x", None),
            ("http://*.localhost", None),
        ] {
            assert_eq!(ancestor(text).as_deref(), kept, "{text:?}");
        }
    }

    #[test]
    fn wrong_entries_are_named() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let embed = Embed {
            allowed_origins: texts(&["https://a.example", "https://A.example", "*"]),
            frame_ancestors: vec!["https://a.example".to_owned(); MAX_ORIGINS + 1],
        };
        let errors = embed.check().expect_err("wrong");
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["allowedOrigins[1]", "allowedOrigins[2]", "frameAncestors"]);
    }

    #[test]
    fn snippets_are_ready_to_paste() {
        let at = Timestamp::from_millis(1);
        let (app, key) = (AppId::mint(at, &[0; 10]), WidgetKey::mint(&[7; 20]));
        let Snippets { iframe, loader, link } = Snippets::of("https://call.example.com", app, &key, &Look::default());
        let address = format!("https://call.example.com/widget/{app}?key={key}");
        assert!(
            iframe.contains(&format!("src=\"{address}\"")) && iframe.contains("title=\"Click to call\""),
            "{iframe}"
        );
        assert!(loader.contains(&format!("data-app-id=\"{app}\"")) && loader.contains(&format!("data-key=\"{key}\"")));
        assert!(link.contains(&format!("href=\"{address}\"")) && link.contains("rel=\"noopener\""), "{link}");
        assert!(loader.contains(
            "data-position=\"bottom-right\" data-label=\"Call us\"\n  data-accent=\"#0b57d0\" data-on-accent=\"#ffffff\""
        ));
        assert_eq!(attribute("a&b\"<c>"), "a&amp;b&quot;&lt;c&gt;");
    }

    #[test]
    fn snippets_have_the_looks_of_the_app() {
        let at = Timestamp::from_millis(1);
        let (app, key) = (AppId::mint(at, &[0; 10]), WidgetKey::mint(&[7; 20]));
        let mut look = Look { lang: Lang::De, ..Look::default() };
        look.theme.position = Position::BottomLeft;
        (look.theme.accent, look.theme.on_accent) = ("#ffd400".into(), "#000000".into());
        let of = |look: &Look| Snippets::of("https://call.example.com", app, &key, look);
        let loader = of(&look).loader;
        assert!(
            loader.contains("data-position=\"bottom-left\" data-label=\"Anrufen\"")
                && loader.contains("data-accent=\"#ffd400\" data-on-accent=\"#000000\""),
            "{loader}"
        );
        look.texts.insert("call".into(), "\"Ring\" <us>".into());
        let shown = of(&look);
        assert!(shown.loader.contains("data-label=\"&quot;Ring&quot; &lt;us&gt;\""), "{}", shown.loader);
        assert!(shown.link.ends_with(">&quot;Ring&quot; &lt;us&gt;</a>"), "{}", shown.link);
        look.texts.insert("call".into(), "Ring the bakery at the corner".into());
        assert_eq!(label(&look), "Anrufen", "the button would cut it");
    }
}
