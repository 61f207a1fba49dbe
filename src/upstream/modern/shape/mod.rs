//! What a 2026-07-28 server says, put so that a client of an older revision can read it, and the other way round.
//!
//! Pure: texts in, texts out (UPSTREAMS.md C, C.1, C.2 are the tables). Only the members that must change are written
//! again; every other byte passes, and what needs no change comes back borrowed. Three rules decide what must change:
//!
//! - A *content type* the client's revision does not have breaks its parser for the whole message (unions told apart by
//!   `type`, in zod and pydantic alike), so such content is always converted.
//! - A *member* it does not know does no harm: zod passes it through, pydantic keeps it. The published schemas of the
//!   old revisions allow it too. So `title`, `icons`, `annotations` and their like stay.
//! - A *known member with a wider type* (a schema that is no object schema, structured content that is no object) breaks
//!   the parser again, and is narrowed.
//!
//! The trap: what is told about a tool in a list and what its call returns are shaped far apart and must still agree.
//! There is no memory between the two; see `tools`.

mod content;
mod elicitation;
mod errors;
mod json;
mod opening;
mod profile;
mod questions;
mod results;
mod sampling;
mod tools;

pub use errors::{Failed, error, failed_call};
pub use opening::initialize_result;
pub use profile::{Profile, Version};
pub use questions::{BadAnswer, CannotAsk, InputRequest, InputRequired, answer_to_server, request_to_client};
pub use results::{input_required, notification, result};

#[cfg(test)]
mod tests;
