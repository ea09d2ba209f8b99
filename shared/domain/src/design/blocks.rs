//! What stands above the call button.

use serde::{Deserialize, Serialize};

use super::{HTTPS, is_https};
use crate::{field::FieldError, form::keep, strict, survey::prose};

/// Blocks above the call button.
pub const MAX_BLOCKS: usize = 10;
/// Characters of a block's text.
pub const MAX_BLOCK_TEXT: usize = 1_000;
/// Characters of an image's description.
pub const MAX_ALT: usize = 300;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum BlockKind {
    /// A paragraph.
    Text,
    /// A picture.
    Image,
    /// What a visitor must be told before a call; it stands last.
    Disclosure,
}

strict::words!(BlockKind);

/// Something above the call button.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Block {
    /// What it is.
    pub kind: BlockKind,
    /// Of a text or disclosure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of an image: where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of an image: what it shows; empty when it only decorates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt: Option<String>,
}

strict::objects!(Block);

/// Checks each, and that what must be told stands last.
pub(super) fn check_blocks(blocks: &mut [Block], errors: &mut Vec<FieldError>) {
    if blocks.len() > MAX_BLOCKS {
        errors.push(FieldError::invalid("blocks", format!("must be at most {MAX_BLOCKS}")));
        return;
    }
    let last = blocks.len().saturating_sub(1);
    for (index, block) in blocks.iter_mut().enumerate() {
        let at = |field: &str| format!("blocks[{index}].{field}");
        if block.kind == BlockKind::Disclosure && index != last {
            errors.push(FieldError::invalid(at("kind"), "must be the last block, right above the call button"));
        }
        let is_image = block.kind == BlockKind::Image;
        let foreign = if is_image { &[("text", &block.text)][..] } else { &[("url", &block.url), ("alt", &block.alt)] };
        for (field, _) in foreign.iter().filter(|(_, value)| value.is_some()) {
            errors.push(FieldError::invalid(at(field), "does not belong to a block of this kind"));
        }
        if is_image {
            match &block.url {
                None => errors.push(FieldError::required(at("url"))),
                Some(url) if !is_https(url) => errors.push(FieldError::invalid(at("url"), HTTPS)),
                Some(_) => {}
            }
            match &mut block.alt {
                // An empty one says that the picture only decorates; none says nothing.
                None => errors.push(FieldError::required(at("alt"))),
                Some(alt) if alt.trim().is_empty() => alt.clear(),
                Some(alt) => keep(alt, &at("alt"), MAX_ALT, errors),
            }
        } else {
            match &mut block.text {
                None => errors.push(FieldError::required(at("text"))),
                Some(text) => match prose(&at("text"), text, MAX_BLOCK_TEXT) {
                    Ok(trimmed) => *text = trimmed,
                    Err(error) => errors.push(error),
                },
            }
        }
    }
}
