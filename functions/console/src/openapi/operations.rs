//! The list of the API's operations. A test of the running house compares it with the router: a route that is missing
//! here, or that stands here alone, fails it.

use domain::operator::Role::{Admin, Editor, Viewer};
use utoipa::PartialSchema;

use super::{
    hours_shapes as hours,
    operation::{Operation, delete, get, patch, post, put},
    shapes, widget_shapes as widget,
};

pub(super) const INTRODUCTION: &str = "\
Apps, their widgets, providers, profiles and integrations, calls, the delivery log and the operators. Every answer is JSON: \
`{data, meta}`, with `pagination` for lists, or `{error}`. Lists take `limit` and `cursor`. `PATCH` is a JSON merge \
patch (RFC 7396): fields that are not given stay, `null` removes what may be removed. Ids of another customer's things \
are answered exactly as unknown ones.";

/// Every operation.
pub(super) fn all() -> Vec<Operation> {
    let mut all = vec![
        get("/openapi.json", "readDescription", None, "This document").gives_document(),
        get("/apps", "listApps", Viewer, "List the apps").lists::<shapes::AppSummary>(),
        post("/apps", "createApp", Editor, "Create an app").takes::<shapes::AppDraft>().creates::<shapes::App>(),
        get("/apps/{appId}", "readApp", Viewer, "Read an app").gives::<shapes::App>(),
        patch("/apps/{appId}", "changeApp", Editor, "Change an app")
            .takes::<shapes::AppPatch>()
            .gives::<shapes::App>()
            .may_conflict(),
        delete("/apps/{appId}", "deleteApp", Admin, "Delete an app")
            .notes("Only an app without active integrations; afterwards it is as unknown as one that never was.")
            .may_conflict(),
        post("/apps/{appId}/rotate-key", "rotateWidgetKey", Admin, "Make a new widget key")
            .notes("The old key ends at once: embeds that carry it get no session until they carry the new one.")
            .gives::<shapes::App>()
            .may_conflict(),
    ];
    all.extend(provider());
    all.extend(hours());
    all.extend(profiles());
    all.extend(integrations());
    all.extend(secrets());
    all.extend(deliveries());
    all.extend(calls());
    all.extend(design());
    all.extend(parts());
    all.extend(settings());
    all.extend(operators());
    all.extend(audit());
    all
}

fn provider() -> Vec<Operation> {
    let path = "/apps/{appId}/provider";
    vec![
        get(path, "readProvider", Viewer, "Read the SIP provider").gives::<shapes::Provider>(),
        put(path, "putProvider", Editor, "Set the SIP provider")
            .notes(
                "All of it is set anew, but for the password: without one, the stored one stays as long as `username` does; \
                 `null` removes it. No answer ever shows it. With a stored password, only an admin leads it to another host \
                 without giving the password again.",
            )
            .takes::<shapes::ProviderDraft>()
            .gives::<shapes::Provider>()
            .may_conflict(),
        delete(path, "deleteProvider", Editor, "Remove the SIP provider")
            .notes("Without an active one no session is given."),
    ]
}

fn hours() -> Vec<Operation> {
    let path = "/apps/{appId}/hours";
    vec![
        get(path, "readHours", Viewer, "Read the business hours")
            .notes("Those of an app that never set any: open always.")
            .gives::<hours::AppHours>(),
        put(path, "putHours", Editor, "Set the business hours")
            .notes(
                "Outside them a session says that it is closed, and no call begins. A window belongs to the date on which it \
                 opens, also when it runs past midnight: the evening before a closed day ends as planned.",
            )
            .takes::<hours::AppHoursDraft>()
            .gives::<hours::AppHours>()
            .may_conflict(),
    ]
}

fn profiles() -> Vec<Operation> {
    let all = "/apps/{appId}/profiles";
    let one = "/apps/{appId}/profiles/{profileId}";
    vec![
        get(all, "listProfiles", Viewer, "List the profiles").lists::<shapes::Profile>(),
        post(all, "createProfile", Editor, "Create a profile")
            .takes::<shapes::ProfileDraft>()
            .creates::<shapes::Profile>()
            .may_conflict(),
        get(one, "readProfile", Viewer, "Read a profile").gives::<shapes::Profile>(),
        patch(one, "changeProfile", Editor, "Change a profile")
            .takes::<shapes::ProfilePatch>()
            .gives::<shapes::Profile>()
            .may_conflict(),
        delete(one, "deleteProfile", Editor, "Delete a profile").may_conflict(),
    ]
}

fn operators() -> Vec<Operation> {
    vec![
        get("/operators", "listOperators", Admin, "List the operators")
            .notes("Tokens made elsewhere, such as a deployment's first one, are not listed.")
            .lists::<shapes::Operator>(),
        post("/operators", "createOperator", Admin, "Create an operator")
            .notes("The answer shows the token; nothing else ever does.")
            .takes::<shapes::OperatorDraft>()
            .creates::<shapes::NewOperator>(),
        delete("/operators/{operatorId}", "deleteOperator", Admin, "End an operator's token")
            .notes("Console sessions begun with it end too. The last admin stays.")
            .may_conflict(),
    ]
}

fn integrations() -> Vec<Operation> {
    let all = "/apps/{appId}/integrations";
    let one = "/apps/{appId}/integrations/{integrationId}";
    vec![
        get(all, "listIntegrations", Viewer, "List the integrations").lists::<shapes::Integration>(),
        post(all, "createIntegration", Editor, "Create an integration")
            .notes("It is active unless `status` says otherwise; at most three of an app are.")
            .takes::<shapes::IntegrationDraft>()
            .creates::<shapes::Integration>()
            .may_conflict(),
        get(one, "readIntegration", Viewer, "Read an integration").gives::<shapes::Integration>(),
        patch(one, "changeIntegration", Editor, "Change an integration")
            .notes("One that holds secrets is led to another host or port by an admin alone: they would go there.")
            .takes::<shapes::IntegrationPatch>()
            .gives::<shapes::Integration>()
            .may_conflict(),
        delete(one, "deleteIntegration", Editor, "Delete an integration").may_conflict(),
        post(
            "/apps/{appId}/integrations/{integrationId}/activate",
            "activateIntegration",
            Editor,
            "Begin to send, or send again",
        )
        .gives::<shapes::Integration>()
        .may_conflict(),
        post("/apps/{appId}/integrations/{integrationId}/deactivate", "deactivateIntegration", Editor, "Stop sending")
            .gives::<shapes::Integration>()
            .may_conflict(),
        post("/apps/{appId}/integrations/{integrationId}/test", "testIntegration", Editor, "Send a test event")
            .notes("One attempt, whatever the integration's status; it counts nowhere. The body may be left out.")
            .may_take::<shapes::Trial>()
            .gives::<shapes::TrialOutcome>()
            .may_conflict(),
        post(
            "/apps/{appId}/integrations/{integrationId}/resend",
            "resendDeliveries",
            Editor,
            "Send again what failed or was skipped since a time",
        )
        .notes("Newest first, at most 50 a request: while `hasMore`, ask again with `cursor`.")
        .takes::<shapes::ResendSince>()
        .accepts::<shapes::Resent>()
        .may_conflict(),
    ]
}

fn secrets() -> Vec<Operation> {
    let all = "/apps/{appId}/integrations/{integrationId}/secrets";
    let one = "/apps/{appId}/integrations/{integrationId}/secrets/{name}";
    vec![
        get(all, "listSecrets", Viewer, "List the secrets, without their values").lists::<shapes::Secret>(),
        get(one, "readSecret", Viewer, "Read about a secret, not its value").gives::<shapes::Secret>(),
        put(one, "putSecret", Editor, "Store a secret's value")
            .notes("Deliveries use it within two seconds. It may be shown once, whatever became of the value before.")
            .takes::<shapes::SecretDraft>()
            .gives::<shapes::Secret>()
            .may_conflict(),
        delete(one, "deleteSecret", Editor, "Delete a secret")
            .notes("Not while the integration's address or a header names it.")
            .may_conflict(),
        post(
            "/apps/{appId}/integrations/{integrationId}/secrets/{name}/reveal",
            "revealSecret",
            Admin,
            "Show a secret's value, once",
        )
        .notes("Ten an hour for each integration. Every try is in the audit log.")
        .takes::<shapes::RevealReason>()
        .gives::<shapes::Revealed>()
        .may_conflict()
        .may_be_limited(),
        post(
            "/apps/{appId}/integrations/{integrationId}/signing-key",
            "rotateSigningKey",
            Editor,
            "Make a signing key, or the next one",
        )
        .notes("The key is shown in this answer alone. The first one switches signing on; the one before signs for a day more.")
        .takes::<shapes::Nothing>()
        .creates::<shapes::SigningKey>()
        .may_conflict(),
    ]
}

fn audit() -> Vec<Operation> {
    vec![
        get("/apps/{appId}/audit", "listAudit", Viewer, "List an app's audit log, newest first")
            .notes("Every change of the app and of what belongs to it, and every try that a role did not allow.")
            .lists::<shapes::AuditEntry>(),
        get("/audit", "listDeploymentAudit", Admin, "List the deployment's audit log, newest first")
            .notes("Operators, their console sessions, and apps that came and went.")
            .lists::<shapes::AuditEntry>(),
    ]
}

fn calls() -> Vec<Operation> {
    vec![
        get("/apps/{appId}/calls", "listCalls", Viewer, "List the calls, newest first").lists::<shapes::Call>(),
        get("/apps/{appId}/calls/{callId}", "readCall", Viewer, "Read a call").gives::<shapes::Call>(),
        delete("/apps/{appId}/calls/{callId}", "eraseCall", Admin, "Erase all that is known of a call")
            .notes(
                "The call, what its visitor wrote into the form and the survey, and the deliveries of its events with \
                 their bodies. Not while it runs. Form values belong to the visitor's session: they go with the first of \
                 its calls that is erased.",
            )
            .may_conflict(),
        get("/apps/{appId}/surveys", "listSurveys", Viewer, "List filled-in surveys, that of the newest call first")
            .lists::<widget::FilledSurvey>(),
    ]
}

fn design() -> Vec<Operation> {
    let draft = "/apps/{appId}/design";
    vec![
        get(draft, "readDesign", Viewer, "Read the draft of the design").gives::<widget::Design>(),
        put(draft, "putDesign", Editor, "Set the draft of the design")
            .notes("Visitors see it once it is published. The form, the survey and buttons stay as they are.")
            .takes::<widget::DesignDraft>()
            .gives::<widget::Design>()
            .may_conflict(),
        post("/apps/{appId}/design/publish", "publishDesign", Editor, "Publish the draft")
            .notes("With its form, survey and buttons, for sessions that begin from now on. The newest 50 versions are kept.")
            .creates::<widget::DesignVersion>()
            .may_conflict(),
        post("/apps/{appId}/design/preview", "previewDesign", Editor, "Look at the draft in the widget")
            .notes(
                "Who has the address sees the draft as it is when the widget is loaded. Its calls are real; its events go to \
                 no integration. After an hour it shows that the preview has expired.",
            )
            .creates::<widget::DesignPreview>()
            .may_conflict(),
        get("/apps/{appId}/design/versions", "listDesignVersions", Viewer, "List what was published, newest first")
            .lists::<widget::DesignSummary>(),
        get("/apps/{appId}/design/versions/{version}", "readDesignVersion", Viewer, "Read what was published")
            .gives::<widget::DesignVersion>(),
        post("/apps/{appId}/design/versions/{version}/restore", "restoreDesignVersion", Editor, "Publish a version again")
            .notes("It becomes the newest version. The draft stays as it is.")
            .creates::<widget::DesignVersion>()
            .may_conflict(),
    ]
}

/// Parts of the draft that have addresses of their own.
fn parts() -> Vec<Operation> {
    const PUBLISHED: &str = "A part of the draft: visitors see it once the design is published.";
    let (form, survey, buttons) = ("/apps/{appId}/form", "/apps/{appId}/survey", "/apps/{appId}/buttons");
    vec![
        get(form, "readForm", Viewer, "Read the form before a call").gives::<widget::Form>(),
        put(form, "putForm", Editor, "Set the form before a call")
            .notes(PUBLISHED)
            .takes::<widget::Form>()
            .gives::<widget::Form>()
            .may_conflict(),
        get(survey, "readSurvey", Viewer, "Read the survey after a call").gives::<widget::Survey>(),
        put(survey, "putSurvey", Editor, "Set the survey after a call")
            .notes(PUBLISHED)
            .takes::<widget::Survey>()
            .gives::<widget::Survey>()
            .may_conflict(),
        get(buttons, "readButtons", Viewer, "Read the app's own buttons").gives::<widget::Buttons>(),
        put(buttons, "putButtons", Editor, "Set the app's own buttons")
            .notes(PUBLISHED)
            .takes::<widget::ButtonsDraft>()
            .gives::<widget::Buttons>()
            .may_conflict(),
    ]
}

/// What holds at once, without being published.
fn settings() -> Vec<Operation> {
    let (embed, code, retention) = ("/apps/{appId}/embed", "/apps/{appId}/custom-code", "/apps/{appId}/retention");
    vec![
        get(embed, "readEmbed", Viewer, "Read where the widget may stand, and how to embed it")
            .gives::<widget::Embed>(),
        put(embed, "putEmbed", Editor, "Set where the widget may stand and which pages hear its events")
            .notes("Holds for sessions that begin from now on, and for widgets loaded from some seconds later.")
            .takes::<widget::EmbedDraft>()
            .gives::<widget::Embed>()
            .may_conflict(),
        get(code, "readCustomCode", Viewer, "Read the custom code").gives::<widget::CustomCode>(),
        put(code, "putCustomCode", Editor, "Set the custom code")
            .notes("It runs in a sandboxed document of its own. Browsers keep the one before for up to a minute.")
            .takes::<widget::CustomCodeDraft>()
            .gives::<widget::CustomCode>()
            .may_conflict(),
        get(retention, "readRetention", Viewer, "Read how long what is about visitors is kept")
            .gives::<widget::Retention>(),
        put(retention, "putRetention", Editor, "Set how long what is about visitors is kept")
            .notes("For what is made from now on: everything is told its end when it is made.")
            .takes::<widget::RetentionDraft>()
            .gives::<widget::Retention>()
            .may_conflict(),
    ]
}

fn deliveries() -> Vec<Operation> {
    vec![
        get("/apps/{appId}/deliveries", "listDeliveries", Viewer, "List the deliveries, newest first")
            .notes("A page of a rare kind may hold fewer than asked for while more follow: `hasMore` decides.")
            .lists::<shapes::Delivery>()
            .query("integrationId", "Only those to this integration.", shapes::IntegrationId::schema())
            .query("status", "Only those that stand so.", shapes::DeliveryStatus::schema()),
        get("/apps/{appId}/deliveries/{deliveryId}", "readDelivery", Viewer, "Read a delivery")
            .gives::<shapes::Delivery>(),
        post("/apps/{appId}/deliveries/{deliveryId}/resend", "resendDelivery", Editor, "Send a delivery again")
            .notes("Up to three attempts more, of the same event under the same `webhook-id`.")
            .accepts::<shapes::Delivery>()
            .may_conflict(),
    ]
}
