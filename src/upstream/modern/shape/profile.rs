//! Who the client is: the revision it settled on and what it says it can do.
//!
//! What the server is told the client can do is what the client will be asked for: both come from the same flags here,
//! or a server would be invited to ask and then be refused.

use std::fmt;

use super::json::{RESERVED, is_object, string};
use crate::mcp::Object;

/// Longest capabilities that go up, in bytes: they are kept with the session, and go with every request.
const LONGEST: usize = 16 << 10;

/// The revisions with an `initialize`, which is how a client of HTTP+SSE opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2024-11-05, the last with HTTP+SSE as its transport.
    V2024_11_05,
    /// 2025-03-26: audio content, tool annotations.
    V2025_03_26,
    /// 2025-06-18: structured results, resource links, elicitation.
    V2025_06_18,
    /// 2025-11-25: elicitation by URL, sampling with tools, icons.
    V2025_11_25,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 4] =
        [Version::V2024_11_05, Version::V2025_03_26, Version::V2025_06_18, Version::V2025_11_25];

    /// The revision a client that asks for `asked` gets: that one, or the newest where it is not known.
    #[must_use]
    pub fn settled(asked: &str) -> Self {
        Version::ALL.into_iter().find(|version| version.as_str() == asked).unwrap_or(Version::V2025_11_25)
    }

    /// As it stands in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V2024_11_05 => "2024-11-05",
            Version::V2025_03_26 => "2025-03-26",
            Version::V2025_06_18 => "2025-06-18",
            Version::V2025_11_25 => "2025-11-25",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One client, as its `initialize` described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    version: Version,
    /// `clientCapabilities`, in the words of 2026-07-28.
    capabilities_up: String,
    pub(super) can: Abilities,
}

/// What the client can be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability of its own, in the protocol too")]
pub(super) struct Abilities {
    pub(super) roots: bool,
    pub(super) sampling: bool,
    pub(super) sampling_tools: bool,
    pub(super) sampling_context: bool,
    pub(super) elicitation_form: bool,
    pub(super) elicitation_url: bool,
}

impl Profile {
    /// Reads the `params` of an `initialize`. What cannot be read is taken for not declared.
    #[must_use]
    pub fn of(initialize_params: &str) -> Self {
        let params = Object::of(initialize_params);
        let member = |name: &str| params.as_ref().and_then(|params| params.get(name));
        let asked = member("protocolVersion").and_then(string).unwrap_or_default();
        Profile::settled_on(initialize_params, Version::settled(&asked))
    }

    /// The same for a client that was told `version`, whatever it asked for.
    #[must_use]
    pub fn settled_on(initialize_params: &str, version: Version) -> Self {
        let params = Object::of(initialize_params);
        let member = |name: &str| params.as_ref().and_then(|params| params.get(name));
        let declared = member("capabilities").filter(|text| is_object(text)).unwrap_or("{}");
        let (capabilities_up, can) = translated(declared, version);
        Profile { version, capabilities_up, can }
    }

    /// The revision that the client and the proxy settled on.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The client's capabilities as each request names them in `_meta`.
    #[must_use]
    pub fn capabilities_up(&self) -> &str {
        &self.capabilities_up
    }
}

fn translated(declared: &str, version: Version) -> (String, Abilities) {
    let mut can = Abilities::default();
    let Some(mut up) = Object::of(declared) else { return ("{}".to_owned(), can) };
    // 2026-07-28 knows no listChanged: the roots are asked for when they are wanted.
    can.roots = flag(&mut up, "roots");
    if can.roots {
        up.set("roots", "{}");
    }
    can.sampling = flag(&mut up, "sampling");
    if let Some(mut sampling) = up.get("sampling").filter(|_| can.sampling).and_then(Object::of) {
        can.sampling_tools = flag(&mut sampling, "tools") && version >= Version::V2025_11_25;
        if !can.sampling_tools {
            sampling.remove("tools");
        }
        can.sampling_context = flag(&mut sampling, "context");
        if sampling.is_changed() {
            up.set("sampling", sampling.finish());
        }
    }
    // No revision before 2025-06-18 has elicitation, but who declares it has it: clients of this transport often know
    // more than the revision they name.
    if flag(&mut up, "elicitation") {
        let mut elicitation = up.get("elicitation").and_then(Object::of).or_else(|| Object::of("{}"));
        if let Some(modes) = &mut elicitation {
            elicitation_modes(modes, version, &mut can);
        }
        if let Some(modes) = elicitation.filter(Object::is_changed) {
            up.set("elicitation", modes.finish());
        }
    }
    objects_only(&mut up, "experimental", |_| true);
    // Tasks are not translated (UPSTREAMS.md C.2), under neither of their names.
    objects_only(&mut up, "extensions", |name| name.strip_prefix(RESERVED) != Some("tasks"));
    up.remove("tasks");
    if declared.len() > LONGEST {
        // These have no bounds, and the server can do without.
        up.remove("experimental");
        up.remove("extensions");
    }
    let up = up.finish();
    if up.len() > LONGEST {
        return ("{}".to_owned(), Abilities::default());
    }
    (up.into_owned(), can)
}

/// `{}` of 2025-06-18 means forms; links came with 2025-11-25, beside them or alone.
fn elicitation_modes(modes: &mut Object<'_>, version: Version, can: &mut Abilities) {
    can.elicitation_form = flag(modes, "form");
    can.elicitation_url = flag(modes, "url") && version >= Version::V2025_11_25;
    if !can.elicitation_url {
        modes.remove("url");
    }
    if !can.elicitation_form && !can.elicitation_url {
        can.elicitation_form = true;
        modes.set("form", "{}");
    }
}

/// Whether a capability is declared. It is by an object; `true`, which some write, is made one, all else is taken out.
fn flag(object: &mut Object<'_>, name: &str) -> bool {
    match object.get(name) {
        None => false,
        Some(text) if is_object(text) => true,
        Some("true") => {
            object.set(name, "{}");
            true
        }
        Some(_) => {
            object.remove(name);
            false
        }
    }
}

/// Leaves in the member `name` what is an object and is `kept`: 2026-07-28 takes nothing else there.
fn objects_only(object: &mut Object<'_>, name: &str, kept: impl Fn(&str) -> bool) {
    let Some(text) = object.get(name) else { return };
    let Some(mut members) = Object::of(text) else { return object.remove(name) };
    members.retain(|name, value| is_object(value) && kept(name));
    if members.is_changed() {
        object.set(name, members.finish());
    }
}
