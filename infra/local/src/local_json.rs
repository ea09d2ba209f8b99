//! `DIR/local.json`: what tools need to know about a running house (contract section 9). It is there while the house
//! runs: written when everything answers, removed at a clean end. It holds a token, so only its owner may read it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use domain::id::{AppId, DestinationId, IntegrationId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Its name in the state directory.
pub const NAME: &str = "local.json";

/// Addresses, tokens and names of a running house.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalJson {
    /// The widget host.
    pub origin: String,
    /// The host of custom code.
    pub code_origin: String,
    /// The console.
    pub console_origin: String,
    /// Signs the local operator in, once.
    pub console_sign_in_url: String,
    /// The media server.
    pub media_url: String,
    /// What the media server shows its own network alone: `/metrics`.
    pub media_private_url: String,
    /// Where the demo's calls go, as a provider's address.
    pub sip_trunk: String,
    /// An admin's token for the management API.
    pub operator_token: String,
    /// The demo; none with `--no-demo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demo: Option<Demo>,
    /// Where the three services listen.
    pub aws: Services,
    /// Names of the tables, by their logical ids in the template.
    pub tables: BTreeMap<String, String>,
    /// Addresses of the queues, by their logical ids.
    pub queues: BTreeMap<String, String>,
    /// ARNs of the keys, by their logical ids.
    pub keys: BTreeMap<String, String>,
    /// The house's process.
    pub pid: u32,
}

/// The demo's app, page and inbox.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Demo {
    /// The demo app.
    pub app_id: AppId,
    /// The key its embed carries.
    pub widget_key: String,
    /// A page that embeds the widget.
    pub page_url: String,
    /// The integration that sends every event to the inbox.
    pub integration_id: IntegrationId,
    /// Where the inbox receives; in a browser, the page that shows what it received.
    pub inbox_url: String,
    /// What the inbox received, as JSON.
    pub inbox_api: String,
}

/// Addresses of the three services.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names of the services")]
pub struct Services {
    pub dynamodb: String,
    pub sqs: String,
    pub kms: String,
    pub region: String,
}

/// What the house remembers itself between runs: `DIR/house.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// The local operator's token.
    pub operator_token: Option<String>,
    /// The demo app.
    pub app_id: Option<AppId>,
    /// The inbox's integration.
    pub integration_id: Option<IntegrationId>,
    /// The demo's trunk.
    #[serde(default)]
    pub sip_trunk: Option<String>,
    /// The demo's profiles, by whom they call.
    #[serde(default)]
    pub profiles: BTreeMap<String, DestinationId>,
}

/// The name of [`Memory`]'s file.
pub const MEMORY: &str = "house.json";

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// What the operating system says.
pub fn write<T: Serialize>(directory: &Path, name: &str, content: &T) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(content)?;
    text.push('\n');
    // A name of its own: two houses that share a directory do not write into each other's file.
    let draft = directory.join(format!(".{name}.{}", std::process::id()));
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&draft).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&draft, directory.join(name))).inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

/// Reads what [`write()`] wrote; nothing when it is absent or cannot be understood.
pub fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(directory.join(name)).ok()?).ok()
}

/// Removes `local.json`, if it is still this process's own.
pub fn remove(directory: &Path) {
    let pid = read::<serde_json::Value>(directory, NAME).and_then(|content| content["pid"].as_u64());
    if pid == Some(std::process::id().into()) {
        let _ = fs::remove_file(directory.join(NAME));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_private_and_only_its_own_is_removed() {
        let directory = std::env::temp_dir().join(format!("local-json-{}", edge::chance::hex::<8>()));
        fs::create_dir(&directory).expect("a directory");
        for (pid, stays) in [(std::process::id(), false), (1, true)] {
            write(&directory, NAME, &serde_json::json!({ "pid": pid })).expect("written");
            #[cfg(unix)]
            {
                let metadata = fs::metadata(directory.join(NAME)).expect("there");
                assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
            }
            assert_eq!(fs::read_dir(&directory).expect("readable").count(), 1, "no draft is left");
            remove(&directory);
            assert_eq!(directory.join(NAME).exists(), stays);
        }
        fs::remove_dir_all(&directory).expect("removed");
    }
}
