//! The closed list of client families, for `client.family` and for bounded metric labels.
//!
//! A family says which product or library speaks, as far as names tell. Names can be forged: a family explains, it
//! never excuses use (EVIDENCE, The verdict).

/// The family of clients that no rule names.
pub const OTHER: &str = "other";
/// The family of browsers, which show a person what they get.
pub const BROWSER: &str = "browser";

/// Every family there is; the last is that of clients which no rule names.
pub const FAMILIES: &[&str] = &[
    BROWSER,
    "claude",
    "claude-code",
    "cline",
    "continue",
    "curl",
    "cursor",
    "dify",
    "gemini-cli",
    "go",
    "goose",
    "java-sdk",
    "kotlin-sdk",
    "langchain4j",
    "librechat",
    MCP_REMOTE,
    "mcp-inspector",
    "n8n",
    "openai",
    "python-sdk",
    "roo-code",
    "spring-ai",
    "typescript-sdk",
    "vscode",
    "windsurf",
    "zed",
    OTHER,
];

/// The family of all clients behind this bridge.
const MCP_REMOTE: &str = "mcp-remote";

/// Families by the start of `clientInfo.name`, in lower case. Products, so they win over libraries.
const BY_NAME: &[(&str, &str)] = &[
    ("claude-code", "claude-code"),
    ("claude", "claude"),
    ("cline", "cline"),
    ("continue", "continue"),
    ("cursor", "cursor"),
    ("dify", "dify"),
    ("gemini-cli", "gemini-cli"),
    ("goose", "goose"),
    ("librechat", "librechat"),
    ("langchain4j", "langchain4j"),
    ("mcp-inspector", "mcp-inspector"),
    ("inspector-client", "mcp-inspector"),
    ("n8n", "n8n"),
    ("openai", "openai"),
    ("roo", "roo-code"),
    ("spring-ai", "spring-ai"),
    ("visual studio code", "vscode"),
    ("windsurf", "windsurf"),
    ("zed", "zed"),
];

/// Families by the start of the user-agent, in lower case.
const BY_USER_AGENT: &[(&str, &str)] = &[
    ("visual studio code/", "vscode"),
    ("claude-code/", "claude-code"),
    ("librechat", "librechat"),
    ("python-httpx", "python-sdk"),
    ("java-http-client/", "java-sdk"),
    ("reactornetty/", "spring-ai"),
    ("go-http-client/", "go"),
    ("ktor", "kotlin-sdk"),
    ("okhttp/", "langchain4j"),
    ("node", "typescript-sdk"),
    ("undici", "typescript-sdk"),
    ("bun/", "typescript-sdk"),
    ("deno/", "typescript-sdk"),
    ("curl/", "curl"),
    ("mozilla/", BROWSER),
];

/// The family of a client: its bridge, else its name, else its user-agent.
#[must_use]
pub fn family(name: Option<&str>, bridge: Option<&str>, user_agent: Option<&str>) -> &'static str {
    if bridge.is_some_and(|bridge| bridge.starts_with("mcp-remote")) {
        return MCP_REMOTE;
    }
    name.and_then(|name| find(BY_NAME, name))
        .or_else(|| user_agent.and_then(|user_agent| find(BY_USER_AGENT, user_agent)))
        .unwrap_or(OTHER)
}

fn find(table: &[(&str, &'static str)], value: &str) -> Option<&'static str> {
    let value = value.to_ascii_lowercase();
    table.iter().find(|(start, _)| value.starts_with(start)).map(|(_, family)| *family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_that_a_rule_names_is_in_the_list_once() {
        let named = BY_NAME.iter().chain(BY_USER_AGENT).map(|(_, family)| *family).chain([MCP_REMOTE, OTHER]);
        let named: std::collections::BTreeSet<&str> = named.collect();
        let listed: std::collections::BTreeSet<&str> = FAMILIES.iter().copied().collect();
        assert_eq!(named, listed);
        assert_eq!(listed.len(), FAMILIES.len(), "none is listed twice");
        assert_eq!(FAMILIES.last(), Some(&OTHER));
    }

    #[test]
    fn product_wins_over_library_and_bridge_over_both() {
        assert_eq!(family(None, None, Some("python-httpx/0.28.1")), "python-sdk");
        assert_eq!(family(Some("Cursor"), None, Some("node")), "cursor");
        assert_eq!(family(Some("Cursor"), Some("mcp-remote 0.1.31"), Some("node")), "mcp-remote");
        assert_eq!(family(Some("mcp"), None, Some("python-httpx2/2.16.2")), "python-sdk");
        assert_eq!(family(Some("something"), None, None), OTHER);
    }
}
