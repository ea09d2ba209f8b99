//! The shapes of what makes up a widget, and of what its visitors write.
#![expect(dead_code, reason = "only their schemas are used")]

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema, Type,
        schema::{AdditionalProperties, SchemaType},
    },
};

use super::shapes::{CallId, SessionId, Timestamp, texts};

texts! {
    /// A colour.
    Colour: "^#[0-9A-Fa-f]{6}$", "#0b57d0";
    /// Names a field, a question or a button, unlike every other.
    PartId: "^[A-Za-z][A-Za-z0-9_-]{0,39}$", "q1";
    /// An exact origin: https, or http on this machine.
    Origin: "^https?://[^/?#@*%\\\\\\s]+$", "https://shop.example.com";
    /// An origin, or all hosts below one.
    Ancestor: "^https?://(\\*\\.)?[^/?#@*%\\\\\\s]+$", "https://*.example.com";
}

/// The number of a version, in a path.
pub(super) fn version_number() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[1-9][0-9]{0,8}$")).examples(["1"]).into()
}

/// An app's own wording of the widget's texts.
pub(super) struct Texts;

impl PartialSchema for Texts {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(300));
        let texts = domain::design::text_keys().fold(ObjectBuilder::new(), |texts, key| texts.property(key, text()));
        let about = "The app's own wording, in its language, of the widget's texts; `error.{code}.…` of what is said when a \
                     call fails, `broken.{code}.…` when it breaks off after a conversation.";
        texts.additional_properties(Some(AdditionalProperties::FreeForm(false))).description(Some(about)).into()
    }
}

impl ToSchema for Texts {}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Lang {
    Auto,
    En,
    De,
    Es,
    Fr,
    Pt,
    Ar,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Mode {
    Auto,
    Light,
    Dark,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Corner {
    Round,
    Soft,
    Square,
}

#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub(super) enum Position {
    BottomRight,
    BottomLeft,
}

/// Colours and shapes; what is not given has its default.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Theme {
    #[schema(required = false)]
    mode: Mode,
    #[schema(required = false)]
    accent: Colour,
    /// Of text on the accent colour: at least 4.5:1 apart from it.
    #[schema(required = false)]
    on_accent: Colour,
    #[schema(required = false)]
    corner: Corner,
    /// Where the loader's button stands.
    #[schema(required = false)]
    position: Position,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum BlockKind {
    Text,
    Image,
    Disclosure,
}

/// Something above the call button: a text, an image, or, last, what a visitor must be told.
#[derive(ToSchema)]
pub(super) struct Block {
    kind: BlockKind,
    /// Of a text or disclosure.
    #[schema(min_length = 1, max_length = 1000)]
    text: Option<String>,
    /// Of an image.
    #[schema(pattern = "^https://", max_length = 2048)]
    url: Option<String>,
    /// Of an image: what it shows; empty when it only decorates.
    #[schema(max_length = 300)]
    alt: Option<String>,
}

/// What is not given has its default.
#[derive(ToSchema)]
pub(super) struct DesignDraft {
    /// `auto`: the visitor's, where the widget speaks it.
    #[schema(required = false)]
    lang: Lang,
    #[schema(required = false)]
    texts: Texts,
    #[schema(required = false)]
    theme: Theme,
    #[schema(required = false, max_items = 10)]
    blocks: Vec<Block>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Design {
    lang: Lang,
    texts: Texts,
    theme: Theme,
    blocks: Vec<Block>,
    /// Which version visitors get; 0: none was published, and defaults hold.
    #[schema(minimum = 0)]
    published_version: u32,
    #[schema(required = false)]
    published_at: Timestamp,
    /// Whether the draft, with its form, survey and buttons, differs from what is published.
    changed: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct DesignPreview {
    /// The widget's address with the preview's key.
    url: String,
    expires_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct DesignSummary {
    #[schema(minimum = 1)]
    version: u32,
    published_at: Timestamp,
    /// The operator's name.
    published_by: String,
    /// The version that this one brought back.
    #[schema(required = false)]
    restored_from: u32,
}

/// A version as widgets read it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct DesignVersion {
    #[schema(minimum = 1)]
    version: u32,
    lang: Lang,
    texts: Texts,
    theme: Theme,
    blocks: Vec<Block>,
    #[schema(required = true)]
    form: Option<Form>,
    #[schema(required = true)]
    survey: Option<Survey>,
    buttons: Vec<Button>,
    published_at: Timestamp,
    /// The operator's name.
    published_by: String,
    /// The version that this one brought back.
    #[schema(required = false)]
    restored_from: u32,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum FormFieldKind {
    Text,
    Email,
    Phone,
    Select,
    Checkbox,
}

#[derive(ToSchema)]
pub(super) struct FormField {
    id: PartId,
    kind: FormFieldKind,
    #[schema(min_length = 1, max_length = 200)]
    label: String,
    /// Whether no call begins without it.
    #[schema(required = false, default = false)]
    required: bool,
    /// Of `select` alone, which needs one at least.
    #[schema(required = false, max_items = 30)]
    options: Vec<String>,
}

/// Without fields there is no form.
#[derive(ToSchema)]
pub(super) struct Form {
    #[schema(max_items = 20)]
    fields: Vec<FormField>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum QuestionKind {
    Rating,
    Choice,
}

#[derive(ToSchema)]
pub(super) struct Question {
    id: PartId,
    kind: QuestionKind,
    #[schema(min_length = 1, max_length = 200)]
    label: String,
    /// Of `choice` alone, which needs two at least.
    #[schema(required = false, max_items = 30)]
    options: Vec<String>,
}

/// Without questions there is no survey; with any, one at least is a rating.
#[derive(ToSchema)]
pub(super) struct Survey {
    #[schema(max_items = 10)]
    questions: Vec<Question>,
    /// Whether visitors may add a comment.
    #[schema(required = false, default = false)]
    comment: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum ButtonAction {
    Link,
    Copy,
    Call,
    Email,
}

#[derive(ToSchema)]
pub(super) struct ButtonDraft {
    /// One is made when there is none, or an empty one.
    #[schema(required = false, pattern = "^([A-Za-z][A-Za-z0-9_-]{0,39})?$", examples("b1"))]
    id: String,
    #[schema(min_length = 1, max_length = 60)]
    label: String,
    action: ButtonAction,
    /// An https address, a text to copy, a phone number (`+` and digits) or an email address.
    #[schema(min_length = 1, max_length = 2048)]
    value: String,
}

#[derive(ToSchema)]
pub(super) struct Button {
    id: PartId,
    label: String,
    action: ButtonAction,
    value: String,
}

#[derive(ToSchema)]
pub(super) struct ButtonsDraft {
    #[schema(max_items = 6)]
    buttons: Vec<ButtonDraft>,
}

#[derive(ToSchema)]
pub(super) struct Buttons {
    buttons: Vec<Button>,
}

/// What is not given is empty.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct EmbedDraft {
    /// Pages that are told of events; none unless they stand here.
    #[schema(required = false, max_items = 20)]
    allowed_origins: Vec<Origin>,
    /// Pages that may frame the widget; empty: any https page, unless the deployment says something else.
    #[schema(required = false, max_items = 20)]
    frame_ancestors: Vec<Ancestor>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Embed {
    allowed_origins: Vec<Origin>,
    frame_ancestors: Vec<Ancestor>,
    snippets: Snippets,
}

/// HTML, ready to paste.
#[derive(ToSchema)]
pub(super) struct Snippets {
    iframe: String,
    loader: String,
    /// Opens the widget in a window of its own.
    link: String,
}

/// What is not given is empty. Each area holds up to 64 KB.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct CustomCodeDraft {
    #[schema(required = false, max_length = 65536)]
    head_html: String,
    #[schema(required = false, max_length = 65536)]
    body_end_html: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct CustomCode {
    head_html: String,
    body_end_html: String,
}

/// Days; what is not given is 30.
#[derive(ToSchema)]
pub(super) struct RetentionDraft {
    /// Of calls and form values.
    #[schema(required = false, minimum = 1, maximum = 365, default = 30)]
    calls: u16,
    /// Of survey answers.
    #[schema(required = false, minimum = 1, maximum = 365, default = 30)]
    surveys: u16,
    /// Of deliveries, with what was sent.
    #[schema(required = false, minimum = 1, maximum = 90, default = 30)]
    deliveries: u16,
}

#[derive(ToSchema)]
pub(super) struct Retention {
    calls: u16,
    surveys: u16,
    deliveries: u16,
}

/// What a visitor wrote into one field, with its label then.
#[derive(ToSchema)]
pub(super) struct FormValue {
    id: PartId,
    label: String,
    value: FormAnswer,
}

/// A text, or whether a box was ticked.
pub(super) struct FormAnswer;

impl PartialSchema for FormAnswer {
    fn schema() -> RefOr<Schema> {
        let kinds = SchemaType::from_iter([Type::String, Type::Boolean]);
        ObjectBuilder::new().schema_type(kinds).description(Some("A text, or whether a box was ticked.")).into()
    }
}

impl ToSchema for FormAnswer {}

/// An answer, with its question's label then.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct SurveyAnswer {
    question_id: PartId,
    label: String,
    #[schema(required = false, minimum = 1, maximum = 5)]
    rating: u8,
    #[schema(required = false)]
    text: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct FilledSurvey {
    call_id: CallId,
    session_id: SessionId,
    submitted_at: Timestamp,
    /// Whether it was sent from a preview.
    preview: bool,
    /// The mean of the ratings, one decimal.
    #[schema(minimum = 1, maximum = 5)]
    rating: f64,
    answers: Vec<SurveyAnswer>,
    #[schema(required = false)]
    comment: String,
}
