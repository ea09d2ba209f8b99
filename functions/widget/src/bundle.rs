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

/// Languages that a document can be told. English comes with the first paint.
pub const LANGUAGES: [&str; 6] = ["en", "de", "es", "fr", "pt", "ar"];

/// The document for who will read this language: it says which, and fetches its module beside the script.
///
/// # Errors
/// When the document lacks one of the two places.
pub fn speaking(html: &str, language: &str, hash: &str) -> Result<String, String> {
    let (root, head) = ("<html ", "</head>");
    if html.matches(root).count() != 1 || html.matches(head).count() != 1 {
        return Err(format!("widget.html: {root} and {head} must stand there once"));
    }
    let html = html.replace(root, &format!("{root}data-lang=\"{language}\" "));
    let link = format!("<link rel=\"modulepreload\" href=\"/a/{hash}/{language}.js\">\n{head}");
    Ok(if language == "en" { html } else { html.replace(head, &link) })
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
