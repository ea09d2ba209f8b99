//! Turns `browser/` into a table of assets with their brotli forms, included into the crate by `src/assets.rs`.
//! The rule for JavaScript and CSS is in `src/bundle.rs`.

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

#[path = "src/bundle.rs"]
mod bundle;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=browser");
    println!("cargo::rerun-if-changed=src/bundle.rs");
    #[expect(clippy::disallowed_methods, reason = "Cargo speaks to build scripts through the environment")]
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let read = |file: &str| {
        fs::read_to_string(Path::new("browser").join(file)).map_err(|error| format!("browser/{file}: {error}"))
    };

    let mut modules = Vec::new();
    for file in bundle::FIRST_PAINT {
        modules.push((file, read(file)?));
    }
    let mut assets = vec![("main.js", bundle::join(&modules)?), ("widget.css", bundle::strip(&read("widget.css")?))];
    for (name, files) in bundle::LATER {
        let mut modules = Vec::new();
        for file in files {
            let text = read(file)?;
            bundle::check_alone(file, &text)?;
            modules.push((*file, text));
        }
        assets.push((name, bundle::join(&modules)?));
    }
    let hash = bundle::fingerprint(assets.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]));

    let mut table = String::new();
    writeln!(table, "/// The name of this set of assets, in their addresses.\npub const HASH: &str = \"{hash}\";")?;
    writeln!(table, "/// What `/a/{{hash}}/` serves.\npub static ASSETS: [Asset; {}] = [", assets.len())?;
    for (name, text) in &assets {
        writeln!(table, "{},", asset(out, name, text)?)?;
    }
    writeln!(table, "];")?;
    let loader = asset(out, "embed.js", &bundle::strip(&read("embed.js")?))?;
    writeln!(table, "/// The loader.\npub static LOADER: Asset = {loader};")?;
    let bridge = asset(out, "bridge.js", &bundle::strip(&read("bridge.js")?))?;
    writeln!(
        table,
        "/// What stands, inline, at the head of a document of custom code.\npub static BRIDGE: Asset = {bridge};"
    )?;
    let html = read("widget.html")?;
    let in_language = |language: &bundle::Language| -> Result<String, Box<dyn Error>> {
        Ok(bundle::document(&html, language, &read(language.file)?, &hash)?)
    };
    let [english, ..] = &bundle::LANGUAGES;
    let document = asset(out, "widget.html", &in_language(english)?)?;
    writeln!(table, "/// The widget document.\npub static DOCUMENT: Asset = {document};")?;
    writeln!(table, "/// The same where it is known which language the widget will speak.")?;
    writeln!(table, "pub static DOCUMENTS: [(&str, Asset); {}] = [", bundle::LANGUAGES.len())?;
    for language in &bundle::LANGUAGES {
        let html = bundle::known(&in_language(language)?, language, &hash)?;
        let document = asset(out, &format!("widget.{}.html", language.tag), &html)?;
        writeln!(table, "(\"{}\", {document}),", language.tag)?;
    }
    writeln!(table, "];")?;
    fs::write(out.join("refused.html"), read("refused.html")?.replace("{hash}", &hash))?;
    writeln!(table, "/// The document of an error screen, with places for its words.")?;
    writeln!(table, "pub const REFUSED: &str = include_str!(concat!(env!(\"OUT_DIR\"), \"/refused.html\"));")?;
    fs::write(out.join("table.rs"), table)?;
    Ok(())
}

/// Writes `text` and its brotli form, and answers with the expression that includes both.
fn asset(out: &Path, name: &str, text: &str) -> Result<String, Box<dyn Error>> {
    let params =
        brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 18, size_hint: text.len(), ..Default::default() };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut text.as_bytes(), &mut compressed, &params)?;
    fs::write(out.join(name), text)?;
    fs::write(out.join(format!("{name}.br")), compressed)?;
    let media_type = match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "html")) => "text/html; charset=utf-8",
        _ => return Err(format!("browser/{name}: no media type is known").into()),
    };
    let tag = bundle::fingerprint([text.as_bytes()]);
    let bytes = |file: String| format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\"))");
    Ok(format!(
        "Asset {{ name: \"{name}\", media_type: \"{media_type}\", tag: \"{tag}\", plain: {}, brotli: {} }}",
        bytes(name.to_owned()),
        bytes(format!("{name}.br"))
    ))
}
