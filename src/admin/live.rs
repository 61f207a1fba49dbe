//! What the admin listener shows of the live verdict; another part of the program keeps it.

use std::fmt;

use serde_json::{Map, Value};

/// The verdict as it is now. Asked on the threads that serve clients too: an answer must be there within milliseconds, so
/// whatever takes longer is computed beforehand.
pub trait LiveReport: fmt::Debug + Send + Sync {
    /// What it adds to `/status`: fields of its own, and `verdict` in place of the plain one.
    fn status(&self) -> Map<String, Value>;

    /// The whole of `/report.json`.
    fn report_json(&self) -> String;

    /// The page at `/`: one HTML document that loads nothing but `fragment`, by a relative URL.
    fn page(&self) -> String;

    /// What that page shows, to be put in place of what it has.
    fn fragment(&self) -> String;
}
