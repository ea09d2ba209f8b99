//! `GET /api/v1/openapi.json`: the management API's description (OpenAPI 3.1), made of the shapes of its bodies and the
//! list of its operations. Everybody may read it: it holds no secret, and tools fetch it before they have a token.

mod hours_shapes;
mod operation;
mod operations;
mod shapes;
mod widget_shapes;

use std::{collections::BTreeMap, sync::LazyLock};

use axum::response::IntoResponse;
use http::header;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Paths, RefOr, Schema, ServerBuilder,
    schema::AdditionalProperties,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::operator::COOKIE;

/// What precedes every path.
const BASE: &str = "/api/v1";

/// The document, written once.
static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let document = serde_json::to_value(document()).and_then(|document| serde_json::to_vec(&document));
    // Maps with text keys and no foreign types: there is nothing in it that cannot be written.
    document.expect("the document can be written")
});

/// `GET /api/v1/openapi.json`.
pub(crate) async fn serve() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, DOCUMENT.as_slice())
}

fn document() -> OpenApi {
    let mut schemas = BTreeMap::new();
    let mut paths = Paths::new();
    for operation in operations::all() {
        let (path, method) = (format!("{BASE}{}", operation.path), operation.method.clone());
        let item = PathItem::new(method, operation.build(&mut schemas));
        match paths.paths.get_mut(&path) {
            Some(known) => known.merge_operations(item),
            None => drop(paths.paths.insert(path, item)),
        }
    }
    let errors = operation::errors(&mut schemas);
    for schema in schemas.values_mut() {
        close(schema);
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An operator's token.")).build();
    let cookie = ApiKeyValue::with_description(COOKIE, "A console session; writes from the console's own pages only.");
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .responses_from_iter(errors)
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let info = InfoBuilder::new()
        .title("Click to Call management API")
        .version("1")
        .description(Some(operations::INTRODUCTION))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

/// Objects hold the properties named and no others, in what is asked as in what is answered.
fn close(schema: &mut RefOr<Schema>) {
    if let RefOr::T(Schema::Object(object)) = schema {
        if object.additional_properties.is_none() && !object.properties.is_empty() {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
        object.properties.values_mut().for_each(close);
    }
}
