//! JSON-RPC messages of MCP, looked at but not taken apart.
//!
//! A message keeps the bytes it came in; only its envelope is read (DESIGN rule 2). What has to change is replaced by
//! byte range, so that both sides see each other's own bytes.

mod edit;
mod envelope;
mod error;
mod headers;
mod id;
mod made;
mod message;
mod recover;

pub use edit::{Array, Object};
pub use error::{RpcError, code, error_response};
pub use headers::{
    LAST_EVENT_ID, METHOD, MODERN_VERSION, PROTOCOL_VERSION, SESSION_ID, VERSION_HEADER_SINCE, copied, copied_value,
    is_protocol_header,
};
pub use id::RequestId;
pub use made::{cancelled, quoted, request, result_response, warning};
pub use message::{Malformed, Message, MessageKind, Span, parse};
pub use recover::IdScanner;
