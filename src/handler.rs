//! The handler: which response each path and method gets.

use std::io::Read;

use tiny_http::{Header, Response};

use crate::exposition::{CONTENT_TYPE, Exposition};
use crate::request::{Request, RequestError};

/// Returns the response to a request, or to bytes that aren't one.
pub fn respond(exposition: &Exposition, request: &Result<Request, RequestError>) -> Response<impl Read> {
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            return Response::from_string(format!("{error}\n")).with_status_code(error.status());
        }
    };
    let path = request.target.split('?').next();
    match (path, request.method.as_str()) {
        (Some("" | "/" | "/metrics"), "GET" | "HEAD") => {
            Response::from_data(exposition.render()).with_header(header("Content-Type", CONTENT_TYPE))
        }
        (Some("" | "/" | "/metrics"), _) => Response::from_string("This path accepts only GET and HEAD.\n")
            .with_status_code(405)
            .with_header(header("Allow", "GET, HEAD")),
        _ => Response::from_string("This path doesn't exist: the metrics are at /metrics.\n").with_status_code(404),
    }
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("both are ASCII")
}
