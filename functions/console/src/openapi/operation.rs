//! One operation of the API: its answers follow from what it takes, so that each can say only what really happens.

use std::{borrow::Cow, collections::BTreeMap};

use domain::operator::Role;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Content, ContentBuilder, Header, HttpMethod, ObjectBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
        Schema, Type,
        extensions::ExtensionsBuilder,
        path::{Operation as Described, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::ArrayBuilder,
        security::SecurityRequirement,
    },
};

use super::shapes;

/// Schemas by name.
pub(super) type Schemas = BTreeMap<String, RefOr<Schema>>;

const JSON: &str = "application/json";
/// A change's body may also say what it is (RFC 7396).
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A type's schema, to be asked for later.
#[derive(Clone, Copy)]
struct Shape {
    name: fn() -> Cow<'static, str>,
    schema: fn() -> RefOr<Schema>,
    nested: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Shape {
    fn of<T: ToSchema>() -> Self {
        Self { name: T::name, schema: T::schema, nested: T::schemas }
    }

    /// A reference to it; the schema itself joins the others.
    fn refer(self, schemas: &mut Schemas) -> RefOr<Schema> {
        let mut nested = Vec::new();
        (self.nested)(&mut nested);
        schemas.extend(nested);
        let name = (self.name)().into_owned();
        schemas.insert(name.clone(), (self.schema)());
        Ref::from_schema_name(name).into()
    }
}

enum Gives {
    Nothing,
    One(u16, Shape),
    Page(Shape),
    Document,
}

/// One operation.
pub(super) struct Operation {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    id: &'static str,
    summary: &'static str,
    notes: &'static str,
    role: Option<Role>,
    body: Option<Shape>,
    body_is_optional: bool,
    query: Vec<Parameter>,
    gives: Gives,
    conflict: bool,
    limited: bool,
}

fn operation(
    method: HttpMethod,
    path: &'static str,
    id: &'static str,
    role: impl Into<Option<Role>>,
    summary: &'static str,
) -> Operation {
    let role = role.into();
    let (query, gives) = (Vec::new(), Gives::Nothing);
    let (body, body_is_optional, conflict, limited) = (None, false, false, false);
    Operation { method, path, id, summary, notes: "", role, body, body_is_optional, query, gives, conflict, limited }
}

macro_rules! methods {
    ($($function:ident $method:ident),*) => {$(
        pub(super) fn $function(
            path: &'static str, id: &'static str, role: impl Into<Option<Role>>, summary: &'static str,
        ) -> Operation {
            operation(HttpMethod::$method, path, id, role, summary)
        }
    )*};
}

methods!(get Get, post Post, put Put, patch Patch, delete Delete);

impl Operation {
    /// What else there is to know.
    pub(super) fn notes(self, notes: &'static str) -> Self {
        Self { notes, ..self }
    }

    /// Takes this body.
    pub(super) fn takes<T: ToSchema>(self) -> Self {
        Self { body: Some(Shape::of::<T>()), ..self }
    }

    /// Takes this body, or none.
    pub(super) fn may_take<T: ToSchema>(self) -> Self {
        Self { body_is_optional: true, ..self.takes::<T>() }
    }

    /// Takes this query parameter.
    pub(super) fn query(mut self, name: &str, about: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.query.push(parameter(name, ParameterIn::Query, about, schema.into()));
        self
    }

    /// Answers 200 with this.
    pub(super) fn gives<T: ToSchema>(self) -> Self {
        Self { gives: Gives::One(200, Shape::of::<T>()), ..self }
    }

    /// Answers 201 with this.
    pub(super) fn creates<T: ToSchema>(self) -> Self {
        Self { gives: Gives::One(201, Shape::of::<T>()), ..self }
    }

    /// Answers 202 with this.
    pub(super) fn accepts<T: ToSchema>(self) -> Self {
        Self { gives: Gives::One(202, Shape::of::<T>()), ..self }
    }

    /// Answers 200 with a page of these.
    pub(super) fn lists<T: ToSchema>(mut self) -> Self {
        let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(100));
        self.gives = Gives::Page(Shape::of::<T>());
        self.query("limit", "Items of a page.", limit.default(Some(25.into()))).query(
            "cursor",
            "The `nextCursor` of the page before.",
            ObjectBuilder::new().schema_type(Type::String),
        )
    }

    /// Answers 200 with this very document.
    pub(super) fn gives_document(self) -> Self {
        Self { gives: Gives::Document, ..self }
    }

    /// May answer 409.
    pub(super) fn may_conflict(self) -> Self {
        Self { conflict: true, ..self }
    }

    /// May answer 429.
    pub(super) fn may_be_limited(self) -> Self {
        Self { limited: true, ..self }
    }

    pub(super) fn build(self, schemas: &mut Schemas) -> Described {
        let names = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let names: Vec<&str> = names.collect();
        let mut described = OperationBuilder::new().operation_id(Some(self.id)).summary(Some(self.summary));
        let mut notes = self.notes.to_owned();
        if let Some(role) = self.role {
            let role = format!("{role:?}").to_lowercase();
            notes = format!("{notes} Needs the role `{role}`.");
            described = described.extensions(Some(ExtensionsBuilder::new().add("x-role", role).build()));
        }
        if !notes.is_empty() {
            described = described.description(Some(notes.trim()));
        }
        let first = self.path.split('/').rfind(|part| !part.is_empty() && !part.starts_with('{')).unwrap_or("api");
        let tag = if names.first() == Some(&"appId") { self.path.split('/').nth(3).unwrap_or("apps") } else { first };
        described = described.tag(tag);
        for name in &names {
            described = described.parameter(parameter(name, ParameterIn::Path, "", shapes::path_parameter(name)));
        }
        let takes_fields = self.body.is_some() || !self.query.is_empty();
        for parameter in self.query {
            described = described.parameter(parameter);
        }
        if let Some(body) = self.body {
            let reference = body.refer(schemas);
            let content = || ContentBuilder::new().schema(Some(reference.clone())).build();
            let required = if self.body_is_optional { Required::False } else { Required::True };
            let mut request = RequestBodyBuilder::new().required(Some(required)).content(JSON, content());
            if matches!(self.method, HttpMethod::Patch) {
                request = request.content(MERGE_PATCH, content());
            }
            described = described.request_body(Some(request.build()));
        }
        described = match self.gives {
            Gives::Nothing => described.response("204", ResponseBuilder::new().description("Done.")),
            Gives::One(status, shape) => described.response(status.to_string(), success(shape.refer(schemas), schemas)),
            Gives::Page(shape) => described.response("200", page(shape.refer(schemas), schemas)),
            Gives::Document => {
                let content = ContentBuilder::new().schema(Some(ObjectBuilder::new())).build();
                described.response("200", ResponseBuilder::new().description("The document.").content(JSON, content))
            }
        };
        let needs_operator = self.role.is_some();
        for (status, happens) in [
            (400, takes_fields),
            (401, needs_operator),
            (403, needs_operator && (self.role > Some(Role::Viewer) || !matches!(self.method, HttpMethod::Get))),
            (404, !names.is_empty()),
            (409, self.conflict),
            (413, self.body.is_some()),
            (415, self.body.is_some()),
            (429, self.limited),
            (500, true),
            (503, needs_operator),
        ] {
            if let Some((_, name, _)) = ERRORS.iter().find(|(known, ..)| happens && *known == status) {
                described = described.response(status.to_string(), Ref::from_response_name(*name));
            }
        }
        if needs_operator {
            let security = ["bearer", "session"].map(|name| SecurityRequirement::new::<_, [&str; 0], &str>(name, []));
            described = described.securities(Some(security));
        } else {
            described = described.securities(Some([SecurityRequirement::default()]));
        }
        described.build()
    }
}

fn parameter(name: &str, place: ParameterIn, about: &str, schema: RefOr<Schema>) -> Parameter {
    let required = if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    let about = Some(about).filter(|about| !about.is_empty());
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(about)
        .schema(Some(schema))
        .build()
}

fn success(data: RefOr<Schema>, schemas: &mut Schemas) -> Response {
    let envelope = ObjectBuilder::new()
        .property("data", data)
        .property("meta", Shape::of::<shapes::Meta>().refer(schemas))
        .required("data")
        .required("meta");
    answer("Done.", envelope)
}

fn page(item: RefOr<Schema>, schemas: &mut Schemas) -> Response {
    let envelope = ObjectBuilder::new()
        .property("data", ArrayBuilder::new().items(item).max_items(Some(100)))
        .property("meta", Shape::of::<shapes::Meta>().refer(schemas))
        .property("pagination", Shape::of::<shapes::Pagination>().refer(schemas))
        .required("data")
        .required("meta")
        .required("pagination");
    answer("A page.", envelope)
}

fn answer(description: &str, envelope: ObjectBuilder) -> Response {
    let mut schema = RefOr::T(Schema::Object(envelope.build()));
    super::close(&mut schema);
    ResponseBuilder::new().description(description).content(JSON, Content::new(Some(schema))).build()
}

const ERRORS: [(u16, &str, &str); 10] = [
    (400, "Invalid", "A field or parameter is wrong; `details` names it."),
    (401, "Unauthorized", "There is no token, or it is unknown or has ended."),
    (403, "Forbidden", "The operator's role does not allow it."),
    (404, "NotFound", "There is no such thing here: unknown, deleted, or another app's."),
    (409, "Conflict", "It contradicts what is there, or somebody changed it meanwhile."),
    (413, "TooLarge", "The body is over 64 KB."),
    (415, "NotJson", "The body is not sent as JSON."),
    (429, "TooMany", "Too many of these; `Retry-After` says when to come back."),
    (500, "ServerError", "A fault of ours; the request id helps us to find it."),
    (503, "Unavailable", "Something we need is away; `Retry-After` says when to try again."),
];

/// The error answers by name.
pub(super) fn errors(schemas: &mut Schemas) -> Vec<(&'static str, Response)> {
    let reference = Shape::of::<shapes::Error>().refer(schemas);
    let text = || Header::new(String::schema());
    let number = || Header::new(u64::schema());
    let errors = ERRORS.into_iter().map(|(status, name, description)| {
        let content = ContentBuilder::new().schema(Some(reference.clone())).build();
        let mut response = ResponseBuilder::new().description(description).content(JSON, content);
        response = response.header("X-Request-Id", text());
        if status == 401 {
            response = response.header("WWW-Authenticate", text());
        }
        if [429, 503].contains(&status) {
            response = response.header("Retry-After", number());
        }
        (name, response.build())
    });
    errors.collect()
}
