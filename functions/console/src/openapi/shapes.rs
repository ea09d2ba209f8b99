//! The shapes of bodies as the document shows them. Rules know nothing of OpenAPI, so their types have a likeness here;
//! the fuzzer in `tests/run schema` holds real answers against them.
#![expect(dead_code, reason = "only their schemas are used")]

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use super::hours_shapes::{Hours, HoursDraft};

macro_rules! texts {
    ($($(#[doc = $about:literal])* $name:ident: $pattern:expr, $example:expr;)*) => {$(
        $(#[doc = $about])*
        pub(super) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let about = concat!($($about),*).trim();
                let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about));
                text.pattern(Some($pattern)).examples([$example]).into()
            }
        }

        impl ToSchema for $name {}
    )*};
}
pub(super) use texts;

macro_rules! id {
    ($prefix:literal) => {
        concat!("^", $prefix, "_[0-9a-hjkmnp-tv-z]{26}$")
    };
}

texts! {
    /// Names an app.
    AppId: id!("app"), "app_01jd3v9zk0abcdefghjkmnpqrs";
    /// Names an integration of an app.
    IntegrationId: id!("int"), "int_01jd3v9zk0abcdefghjkmnpqrs";
    /// Names a profile: an event's `destinationId`.
    ProfileId: id!("dest"), "dest_01jd3v9zk0abcdefghjkmnpqrs";
    /// Names an operator's token.
    OperatorId: id!("op"), "op_01jd3v9zk0abcdefghjkmnpqrs";
    /// Names an event.
    EventId: id!("evt"), "evt_01jd3v9zk0abcdefghjkmnpqrs";
    /// Names a delivery.
    DeliveryId: id!("dlv"), "dlv_01jd3v9zk0abcdefghjkmnpqrs";
    /// Names a visitor's session.
    SessionId: id!("ses"), "ses_01jd3v9zk0abcdefghjkmnpqrs";
    /// Names a call.
    CallId: id!("call"), "call_01jd3v9zk0abcdefghjkmnpqrs";
    /// A name that an embed can ask for.
    RoutingKey: "^[A-Za-z0-9_.-]{1,64}$", "sales";
    /// Names a row of the audit log.
    AuditId: id!("aud"), "aud_01jd3v9zk0abcdefghjkmnpqrs";
    /// Names a secret of an integration.
    SecretName: "^[A-Za-z][A-Za-z0-9_]{0,63}$", "token";
    /// A time: RFC 3339, UTC, with milliseconds.
    Timestamp: r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$", "2026-01-31T12:00:00.000Z";
    /// A time as it may be asked for: RFC 3339, with `Z` or an offset.
    Moment: r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$",
        "2026-01-31T12:00:00Z";
}

/// The schema of a path's parameter. What does not fit it is as unknown as what is not there.
pub(super) fn path_parameter(name: &str) -> RefOr<Schema> {
    match name {
        "appId" => AppId::schema(),
        "integrationId" => IntegrationId::schema(),
        "deliveryId" => DeliveryId::schema(),
        "callId" => CallId::schema(),
        "version" => super::widget_shapes::version_number(),
        "profileId" => ProfileId::schema(),
        "operatorId" => OperatorId::schema(),
        "name" => SecretName::schema(),
        _ => String::schema(),
    }
}

#[derive(ToSchema)]
pub(super) struct Meta {
    timestamp: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Pagination {
    #[schema(minimum = 1, maximum = 100)]
    limit: u8,
    has_more: bool,
    /// What asks for the next page; there when there is one.
    #[schema(required = false)]
    next_cursor: String,
}

#[derive(ToSchema)]
pub(super) struct Error {
    error: ErrorBody,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct ErrorBody {
    r#type: ErrorType,
    /// For a person.
    message: String,
    timestamp: Timestamp,
    request_id: String,
    /// The fields that are wrong.
    #[schema(required = false)]
    details: Vec<FieldError>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum ErrorType {
    ValidationError,
    Unauthorized,
    Forbidden,
    NotFound,
    AppNotFound,
    Conflict,
    PayloadTooLarge,
    UnsupportedMediaType,
    RateLimitExceeded,
    ServerError,
    Unavailable,
}

#[derive(ToSchema)]
pub(super) struct FieldError {
    /// Its path, such as `headers[2].name`; empty for the body itself.
    field: String,
    /// For a person.
    message: String,
    /// For a program.
    code: String,
}

#[derive(ToSchema)]
pub(super) struct AppDraft {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

#[derive(ToSchema)]
pub(super) struct AppPatch {
    #[schema(required = false, min_length = 1, max_length = 100)]
    name: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct App {
    app_id: AppId,
    name: String,
    /// The public key that embeds carry.
    widget_key: String,
    created_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct AppSummary {
    app_id: AppId,
    name: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum ProviderKind {
    Sip,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Transport {
    Udp,
    Tcp,
    Tls,
}

#[derive(ToSchema)]
pub(super) enum Codec {
    #[schema(rename = "PCMU")]
    Pcmu,
    #[schema(rename = "PCMA")]
    Pcma,
    #[schema(rename = "opus")]
    Opus,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct ProviderDraft {
    kind: ProviderKind,
    /// `sip:` or `sips:`, an optional user, a host, an optional port.
    #[schema(pattern = "^sips?:[^\\s/?#;\\\\]+$", max_length = 260, examples("sip:trunk.example.com:5060"))]
    uri: String,
    transport: Transport,
    /// Who we are to the provider, where it asks.
    #[schema(pattern = "^[A-Za-z0-9_.!~*'()&=+$,@-]{1,128}$")]
    username: Option<String>,
    /// Visible ASCII, without blanks at its ends. It needs a user name.
    #[schema(write_only, pattern = "^[!-~]([ -~]*[!-~])?$", min_length = 1, max_length = 4096)]
    password: Option<String>,
    /// The number or name that calls come from.
    #[schema(pattern = "^[A-Za-z0-9+_.@-]{1,64}$")]
    caller_id: Option<String>,
    /// In order of preference.
    #[schema(required = false, min_items = 1, max_items = 8)]
    codecs: Vec<Codec>,
    /// Whether audio is protected by SRTP with keys in the description; it needs `tls`.
    #[schema(required = false, default = false)]
    srtp: bool,
    /// Keys of a visitor's context that calls tell the contact centre, as SIP headers `X-C2C-Context-…`.
    #[schema(required = false, max_items = 20)]
    context_headers: Vec<String>,
    /// Whether calls may be placed.
    active: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Provider {
    kind: ProviderKind,
    uri: String,
    transport: Transport,
    #[schema(required = false)]
    username: String,
    #[schema(required = false)]
    caller_id: String,
    codecs: Vec<Codec>,
    srtp: bool,
    context_headers: Vec<String>,
    active: bool,
    /// Whether a password is stored.
    has_password: bool,
    /// What came of asking it last whether it is there; absent until it was asked for the first time.
    #[schema(required = false)]
    health: ProviderHealth,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct ProviderHealth {
    /// Whether it answered; one that refuses the question is there to refuse it.
    reachable: bool,
    checked_at: Timestamp,
    /// The SIP status it answered with.
    #[schema(required = false, minimum = 200, maximum = 699)]
    sip_status: u16,
    /// Milliseconds until it answered.
    #[schema(required = false)]
    rtt_ms: u32,
    /// Why it counts as not there.
    #[schema(required = false)]
    reason: ProviderFault,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum ProviderFault {
    AddressUnreadable,
    NameNotFound,
    ResolverSilent,
    AddressBlocked,
    NoAnswer,
    ServerError,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct ProfileDraft {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `sip:` and an address, or `tel:+` and an international number.
    #[schema(
        pattern = "^(sips?:[^\\s/?#;\\\\]+|tel:\\+[1-9][0-9]{2,14})$",
        max_length = 260,
        examples("tel:+493012345678")
    )]
    destination: String,
    /// Names that an embed can ask for instead of the id; each leads to one profile of an app.
    #[schema(max_items = 20)]
    routing_keys: Option<Vec<RoutingKey>>,
    /// Whether it is reached when nothing is asked for. An app has one default at most: another one gives way.
    default: Option<bool>,
    /// When it takes calls; as its app does, unless it says otherwise.
    hours: Option<HoursDraft>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct ProfilePatch {
    #[schema(required = false, min_length = 1, max_length = 100)]
    name: String,
    #[schema(required = false, pattern = "^(sips?:[^\\s/?#;\\\\]+|tel:\\+[1-9][0-9]{2,14})$", max_length = 260)]
    destination: String,
    /// `null`: none.
    #[schema(max_items = 20)]
    routing_keys: Option<Vec<RoutingKey>>,
    /// `null`: no.
    default: Option<bool>,
    /// `null`: as its app does.
    hours: Option<HoursDraft>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Profile {
    id: ProfileId,
    name: String,
    destination: String,
    routing_keys: Vec<RoutingKey>,
    hours: Hours,
    default: bool,
    created_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Role {
    Viewer,
    Editor,
    Admin,
}

#[derive(ToSchema)]
pub(super) struct OperatorDraft {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    role: Role,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Operator {
    id: OperatorId,
    name: String,
    role: Role,
    created_at: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct NewOperator {
    id: OperatorId,
    name: String,
    role: Role,
    created_at: Timestamp,
    /// The token. It is shown this once.
    token: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum EventName {
    WidgetLoaded,
    CallStarted,
    CallEnded,
    CallError,
    SurveySubmitted,
    CustomButtonClicked,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum IntegrationStatus {
    Active,
    Paused,
    Inactive,
}

/// What an operator may set; only the service pauses.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum WantedStatus {
    Active,
    Inactive,
}

#[derive(ToSchema)]
pub(super) struct HeaderField {
    #[schema(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$", examples("X-Source"))]
    name: String,
    #[schema(pattern = "^[\\t -~]*$", max_length = 4096)]
    value: String,
}

/// 408, 425 or 429.
pub(super) struct RetryStatus;

impl PartialSchema for RetryStatus {
    fn schema() -> RefOr<Schema> {
        let kinds = ObjectBuilder::new().schema_type(Type::Integer);
        kinds.enum_values(Some(domain::integration::RETRIABLE_STATUSES)).into()
    }
}

impl ToSchema for RetryStatus {}

#[derive(ToSchema)]
pub(super) enum Window {
    #[schema(rename = "24h")]
    Day,
    #[schema(rename = "7d")]
    Week,
}

#[derive(ToSchema)]
pub(super) struct SuccessRate {
    window: Window,
    delivered: u64,
    failed: u64,
}

/// Which event is made up; the integration's first one unless it is given.
#[derive(ToSchema)]
pub(super) struct Trial {
    event: Option<EventName>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct TrialOutcome {
    delivery_id: DeliveryId,
    status: DeliveryStatus,
    attempt: Attempt,
}

#[derive(ToSchema)]
pub(super) struct ResendSince {
    since: Moment,
    /// The `nextCursor` of the answer before.
    cursor: Option<DeliveryId>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Resent {
    /// How many this request sent again.
    resent: u64,
    has_more: bool,
    #[schema(required = false)]
    next_cursor: DeliveryId,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct IntegrationDraft {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Where deliveries go: HTTPS, a public host.
    #[schema(pattern = "^[Hh][Tt][Tt][Pp][Ss]?://", max_length = 2048, examples("https://example.com/events"))]
    url: String,
    /// Which events it hears; none by default.
    events: Option<Vec<EventName>>,
    #[schema(max_items = 20)]
    headers: Option<Vec<HeaderField>>,
    /// The time limit of one attempt, body included.
    #[schema(minimum = 100, maximum = 10000, default = 5000)]
    timeout_ms: Option<u64>,
    /// Answers that are tried again; none by default.
    retry_statuses: Option<Vec<RetryStatus>>,
    status: Option<WantedStatus>,
    /// Whether deliveries are signed; they fail until there is a key.
    signing: Option<bool>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct IntegrationPatch {
    #[schema(required = false, min_length = 1, max_length = 100)]
    name: String,
    #[schema(
        required = false,
        pattern = "^[Hh][Tt][Tt][Pp][Ss]?://",
        max_length = 2048,
        examples("https://example.com/events")
    )]
    url: String,
    /// `null`: none.
    events: Option<Vec<EventName>>,
    /// `null`: none.
    #[schema(max_items = 20)]
    headers: Option<Vec<HeaderField>>,
    /// `null`: the default.
    #[schema(minimum = 100, maximum = 10000)]
    timeout_ms: Option<u64>,
    /// `null`: none.
    retry_statuses: Option<Vec<RetryStatus>>,
    #[schema(required = false)]
    status: WantedStatus,
    /// Whether deliveries are signed.
    #[schema(required = false)]
    signing: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Integration {
    id: IntegrationId,
    name: String,
    url: String,
    events: Vec<EventName>,
    headers: Vec<HeaderField>,
    timeout_ms: u64,
    status: IntegrationStatus,
    /// Why it is paused.
    #[schema(required = false)]
    paused_reason: String,
    /// When it was paused.
    #[schema(required = false)]
    paused_at: Timestamp,
    /// Answers that are tried again.
    retry_statuses: Vec<RetryStatus>,
    /// How deliveries ended in the last day, in steps of an hour; only where one reads or lists.
    #[schema(required = false)]
    success_rate: SuccessRate,
    /// The same of the last day, and of the last week in steps of half a day.
    #[schema(required = false)]
    success_rates: Vec<SuccessRate>,
    /// Whether deliveries are signed.
    signing: bool,
    created_at: Timestamp,
}

/// The body of a request to an integration.
#[derive(ToSchema)]
pub(super) struct Envelope {
    id: EventId,
    name: EventName,
    #[schema(value_type = Object)]
    data: (),
    timestamp: Timestamp,
}

/// A value to store.
#[derive(ToSchema)]
pub(super) struct SecretDraft {
    /// Visible ASCII, without blanks at its ends; not one or two dots alone.
    #[schema(pattern = "^[!-~]([ -~]*[!-~])?$", min_length = 1, max_length = 4096)]
    value: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Secret {
    name: SecretName,
    /// Counts its values.
    version: u64,
    created_at: Timestamp,
    /// When this value was stored.
    updated_at: Timestamp,
    /// When this value was shown.
    #[schema(required = false)]
    revealed_at: Timestamp,
}

#[derive(ToSchema)]
pub(super) struct RevealReason {
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

#[derive(ToSchema)]
pub(super) struct Revealed {
    value: String,
}

/// An empty object.
#[derive(ToSchema)]
pub(super) struct Nothing {}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct SigningKey {
    /// Of Standard Webhooks.
    #[schema(pattern = "^whsec_[A-Za-z0-9+/]+=*$")]
    key: String,
    created_at: Timestamp,
    /// Until when the key before it signs too.
    #[schema(required = false)]
    previous_key_until: Timestamp,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum AuditOutcome {
    Granted,
    Refused,
}

#[derive(ToSchema)]
pub(super) struct AuditEntry {
    id: AuditId,
    at: Timestamp,
    operator: String,
    /// What was tried, such as `secret.reveal`.
    action: String,
    /// The ids and names of what it was tried on; for what is yet to be made, what it would belong to.
    target: String,
    ip: String,
    outcome: AuditOutcome,
    /// The operator's own.
    #[schema(required = false)]
    reason: String,
    /// Why it was refused, such as `role`.
    #[schema(required = false)]
    refusal: String,
    /// What else is to be known of it: from which host to which something leads.
    #[schema(required = false)]
    detail: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum DeliveryStatus {
    Pending,
    Delivered,
    Failed,
    Skipped,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum ErrorClass {
    Dns,
    Connect,
    Tls,
    Timeout,
    Reset,
    #[schema(rename = "http_4xx")]
    Http4xx,
    #[schema(rename = "http_5xx")]
    Http5xx,
    Redirect,
    BlockedAddress,
    SecretMissing,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum EndReason {
    UserHangup,
    RemoteHangup,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Call {
    id: CallId,
    session_id: SessionId,
    /// The profile that was called.
    destination_id: ProfileId,
    #[schema(required = false)]
    routing_key: RoutingKey,
    /// Whether it was placed from a preview.
    preview: bool,
    started_at: Timestamp,
    #[schema(required = false)]
    answered_at: Timestamp,
    /// Not there while it runs.
    #[schema(required = false)]
    ended_at: Timestamp,
    /// Whole seconds from start to end.
    #[schema(required = false)]
    duration: u64,
    /// Who hung up.
    #[schema(required = false)]
    reason: EndReason,
    /// Why it failed, as `call_error` says it.
    #[schema(required = false)]
    error_code: String,
    /// The final SIP status other than success.
    #[schema(required = false, minimum = 300, maximum = 699)]
    sip_status: u16,
    /// The codec on the trunk.
    #[schema(required = false)]
    codec: Codec,
    #[schema(required = false)]
    quality: CallQuality,
    /// What its visitor wrote into the form before it; only where one call is read.
    #[schema(required = false)]
    form_values: Vec<super::widget_shapes::FormValue>,
    /// What its visitor wrote into the survey after it; only where one call is read.
    #[schema(required = false)]
    survey: super::widget_shapes::FilledSurvey,
}

/// How a call sounded; `null`: nothing was ever judged.
#[derive(ToSchema)]
pub(super) struct CallQuality {
    /// What the browser sent.
    browser: Option<LegQuality>,
    /// What the trunk sent.
    trunk: Option<LegQuality>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct LegQuality {
    /// Mean opinion score, 1 to 4.5.
    mos: f64,
    worst_mos: f64,
    /// Share of packets lost.
    #[schema(minimum = 0, maximum = 1)]
    loss: f64,
    jitter_ms: u32,
    worst_jitter_ms: u32,
    rtt_ms: Option<u32>,
    worst_rtt_ms: Option<u32>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Attempt {
    #[schema(minimum = 1)]
    number: u32,
    at: Timestamp,
    duration_ms: u64,
    #[schema(required = false)]
    status_code: u16,
    #[schema(required = false)]
    error_class: ErrorClass,
    /// The beginning of the answer's body.
    #[schema(required = false)]
    excerpt: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Delivery {
    id: DeliveryId,
    integration_id: IntegrationId,
    event_id: EventId,
    event_name: EventName,
    status: DeliveryStatus,
    created_at: Timestamp,
    #[schema(required = false)]
    next_attempt_at: Timestamp,
    /// Whether an operator only tried the integration.
    #[schema(required = false)]
    test: bool,
    attempts: Vec<Attempt>,
    /// What was sent; only where one delivery is read.
    #[schema(required = false)]
    envelope: Envelope,
}
