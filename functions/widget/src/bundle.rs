//! How `browser/` becomes what is served. Used by build.rs, and compiled into the crate's tests.
//!
//! The rule is small enough to check by eye, so that what is served stays what is reviewed: the modules of the first
//! paint stand one after the other in one file, without the imports between them; from every file, lines of nothing
//! but comment and blanks at the beginning of a line are left out. Nothing is renamed or rewritten.

/// The modules of the first paint, each after those it imports. They are served as `main.js`.
pub const FIRST_PAINT: [&str; 12] = [
    "ids.js",
    "context.js",
    "texts.js",
    "language.js",
    "design.js",
    "state.js",
    "api.js",
    "session.js",
    "events.js",
    "outlets.js",
    "view.js",
    "main.js",
];

/// What is imported later: the name it is served as, and its modules, joined likewise. Calls come when somebody is about to
/// call, sheets when an app asks its visitors questions, the wait for an opening where it is closed, languages when the visitor
/// speaks another than English.
pub const LATER: [(&str, &[&str]); 8] = [
    ("call.js", &["line.js", "microphone.js", "panel.js", "call.js"]),
    ("sheet.js", &["sheet.js"]),
    ("opening.js", &["opening.js"]),
    ("de.js", &["de.js"]),
    ("es.js", &["es.js"]),
    ("fr.js", &["fr.js"]),
    ("pt.js", &["pt.js"]),
    ("ar.js", &["ar.js"]),
];

/// A language of the document: what is to be read until its script runs, and where none runs.
#[derive(Debug)]
pub struct Language {
    /// Its name.
    pub tag: &'static str,
    /// Which way it is written.
    pub direction: &'static str,
    /// The file of the widget's words in it.
    pub file: &'static str,
    /// That scripts are needed; only the document says so.
    pub scripts: &'static str,
}

/// Those that a document can be told. English, the first, comes with the first paint and is what a document has that was told
/// none.
pub const LANGUAGES: [Language; 6] = [
    Language {
        tag: "en",
        direction: "ltr",
        file: "texts.js",
        scripts: "Calls need JavaScript. Please switch it on for this page or reach us another way.",
    },
    Language {
        tag: "de",
        direction: "ltr",
        file: "de.js",
        scripts: "Anrufe brauchen JavaScript. Bitte schalten Sie es für diese Seite ein oder erreichen Sie uns anders.",
    },
    Language {
        tag: "es",
        direction: "ltr",
        file: "es.js",
        scripts: "Para llamar hace falta JavaScript. Actívelo para esta página o contacte con nosotros de otra forma.",
    },
    Language {
        tag: "fr",
        direction: "ltr",
        file: "fr.js",
        scripts: "Les appels ont besoin de JavaScript. Activez-le pour cette page ou contactez-nous autrement.",
    },
    Language {
        tag: "pt",
        direction: "ltr",
        file: "pt.js",
        scripts: "As chamadas precisam de JavaScript. Ative-o para esta página ou contacte-nos de outra forma.",
    },
    Language {
        tag: "ar",
        direction: "rtl",
        file: "ar.js",
        scripts: "تحتاج المكالمات إلى JavaScript. فعّله لهذه الصفحة أو تواصل معنا بطريقة أخرى.",
    },
];

/// The document in a language. `words`: what stands in its file.
///
/// # Errors
/// When the document lacks a place for a word, or the file a word.
pub fn document(html: &str, language: &Language, words: &str, hash: &str) -> Result<String, String> {
    let mut html = html.to_owned();
    for (place, word) in [
        ("{lang}", language.tag),
        ("{dir}", language.direction),
        ("{title}", said(words, "title")?),
        ("{loading}", said(words, "loading")?),
        ("{call}", said(words, "call")?),
        ("{scripts}", language.scripts),
        ("{hash}", hash),
    ] {
        if !html.contains(place) || word.contains(['<', '&', '{', '\\']) {
            return Err(format!("widget.html, {}: {place} has no place there, or is no plain text", language.file));
        }
        html = html.replace(place, word);
    }
    Ok(html)
}

/// A word of a file of words: the first under this name that fills its line.
fn said<'a>(words: &'a str, name: &str) -> Result<&'a str, String> {
    let start = format!("{name}: \"");
    let mut lines = words.lines().filter_map(|line| line.trim_start().strip_prefix(&start)?.strip_suffix("\","));
    lines.next().ok_or_else(|| format!("{name} is not among the words"))
}

/// The document for who will read this language: it says which, so that nobody has to ask, and fetches its file beside the
/// script.
///
/// # Errors
/// When the document lacks one of the two places.
pub fn known(html: &str, language: &Language, hash: &str) -> Result<String, String> {
    let (root, head) = ("<html ", "</head>");
    if html.matches(root).count() != 1 || html.matches(head).count() != 1 {
        return Err(format!("widget.html: {root} and {head} must stand there once"));
    }
    let Language { tag, file, .. } = language;
    let html = html.replace(root, &format!("{root}data-lang=\"{tag}\" "));
    let link = format!("<link rel=\"modulepreload\" href=\"/a/{hash}/{file}\">\n{head}");
    Ok(if FIRST_PAINT.contains(file) { html } else { html.replace(head, &link) })
}

/// Leaves out lines of nothing but comment, empty lines, and blanks at the beginning of a line.
///
/// It knows no strings, so no line inside a template literal may begin like a comment or depend on its blanks.
pub fn strip(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        let comment = inside || line.starts_with("/*");
        if comment {
            inside = !line.ends_with("*/");
        } else if !line.is_empty() && !line.starts_with("//") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Joins modules, given as (name, text), into one.
///
/// # Errors
/// When a module imports one that does not stand before it, when an import takes more than its line or renames what it
/// imports, and when two modules share a name at their top level.
pub fn join(modules: &[(&str, String)]) -> Result<String, String> {
    let mut joined = String::new();
    let mut names: Vec<(&str, &str)> = Vec::new();
    for (place, (file, text)) in modules.iter().enumerate() {
        for line in text.lines() {
            if let Some(import) = line.strip_prefix("import ") {
                let from = import.split_once("} from \"./").and_then(|(_, from)| from.strip_suffix("\";"));
                let known = from.is_some_and(|from| modules[..place].iter().any(|(earlier, _)| *earlier == from));
                if !known || import.contains(" as ") {
                    return Err(format!(
                        "{file}: {line}: only a plain import of a module listed before it can be joined"
                    ));
                }
            } else if let Some(name) = top_level_name(line) {
                if let Some((other, _)) = names.iter().find(|(_, known)| *known == name) {
                    return Err(format!("{file}: {name} is a top-level name of {other} too"));
                }
                names.push((file, name));
            }
        }
        let stripped = strip(text);
        for line in stripped.lines().filter(|line| !line.starts_with("import {")) {
            joined.push_str(line);
            joined.push('\n');
        }
    }
    Ok(joined)
}

/// A module served on its own may not import one of the joined ones: the browser would run that a second time.
///
/// # Errors
/// When it does.
pub fn check_alone(file: &str, text: &str) -> Result<(), String> {
    match text.lines().find(|line| FIRST_PAINT.iter().any(|first| line.contains(&format!("\"./{first}\"")))) {
        Some(line) if !line.trim_start().starts_with(['*', '/']) => {
            Err(format!("{file}: {line}: imports a joined module"))
        }
        _ => Ok(()),
    }
}

/// The name a line declares, when it declares one at the top level (that is, at the beginning of the line).
fn top_level_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line);
    let rest = ["function ", "class ", "const ", "let "].iter().find_map(|word| line.strip_prefix(word))?;
    rest.split(|character: char| !character.is_alphanumeric() && character != '_' && character != '$').next()
}

/// FNV-1a over 64 bits: names what never changes. Nobody gains by a collision with their own files.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blanks_at_the_beginning_go() {
        let text = "// head\n/**\n * doc\n */\nconst a = 1; // kept\n\n  /** one line */\n  const url = \"https://x\";\n/* a */\nlet b;";
        assert_eq!(strip(text), "const a = 1; // kept\nconst url = \"https://x\";\nlet b;\n");
    }

    #[test]
    fn modules_become_one() {
        let a = ("a.js", "// a\nexport const one = 1;\n".to_owned());
        let b = (
            "b.js",
            "import { one } from \"./a.js\";\nfunction two() {\n  const one = 2;\n  return one;\n}\n".to_owned(),
        );
        let joined = join(&[a.clone(), b]).expect("they fit");
        assert_eq!(joined, "export const one = 1;\nfunction two() {\nconst one = 2;\nreturn one;\n}\n");
        for bad in [
            "import { x } from \"./later.js\";",
            "import { one as uno } from \"./a.js\";",
            "import {",
            "import * as a from \"./a.js\";",
            "const one = 2;",
            "export async function one() {}",
        ] {
            assert!(join(&[a.clone(), ("b.js", bad.to_owned())]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_module_of_its_own_imports_no_joined_one() {
        assert!(check_alone("call.js", "import { x } from \"./api.js\";").is_err());
        assert!(check_alone("call.js", " * @param {import(\"./api.js\").Refusal} x").is_ok());
        assert!(check_alone("call.js", "import { x } from \"./dial.js\";").is_ok());
    }
}
