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
    "rmcp",
    "roo-code",
    "ruby",
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
    ("@librechat/", "librechat"),
    ("@n8n/", "n8n"),
    ("anthropic/", "claude"),
    ("claude-code", "claude-code"),
    ("claude", "claude"),
    ("cline", "cline"),
    ("continue", "continue"),
    ("cursor", "cursor"),
    ("dify", "dify"),
    ("gemini-cli", "gemini-cli"),
    ("goose", "goose"),
    ("java sdk mcp client", "java-sdk"),
    ("librechat", "librechat"),
    ("langchain4j", "langchain4j"),
    // Under this name it tries a URL before it connects (`mcp-remote-fallback-test`).
    ("mcp-remote", MCP_REMOTE),
    ("mcp-inspector", "mcp-inspector"),
    ("inspector-client", "mcp-inspector"),
    ("mcp-ruby-client", "ruby"),
    ("ruby-mcp-client", "ruby"),
    ("n8n", "n8n"),
    ("openai", "openai"),
    // The Rust SDK before 0.11 sends no user-agent; this is the name of clients that chose none.
    ("rmcp", "rmcp"),
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
    ("claude-user", "claude"),
    ("librechat", "librechat"),
    ("openai-mcp/", "openai"),
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
    if bridge.is_some_and(|bridge| bridge.starts_with(MCP_REMOTE)) {
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

    #[test]
    fn family_knows_the_names_that_clients_really_send() {
        let names = [
            ("@librechat/api-client", "librechat"),
            ("@n8n/n8n-nodes-langchain.mcpClientTool", "n8n"),
            ("Anthropic/ClaudeAI", "claude"),
            ("claude-ai", "claude"),
            ("claude-code", "claude-code"),
            ("continue-cli-client", "continue"),
            ("cursor-vscode", "cursor"),
            ("gemini-cli-mcp-client", "gemini-cli"),
            ("Java SDK MCP Client", "java-sdk"),
            ("mcp-inspector", "mcp-inspector"),
            ("mcp-remote-fallback-test", "mcp-remote"),
            ("mcp-ruby-client", "ruby"),
            ("openai-mcp", "openai"),
            ("rmcp", "rmcp"),
            ("Roo Code", "roo-code"),
            ("spring-ai-mcp-client - server1", "spring-ai"),
            ("Visual Studio Code", "vscode"),
        ];
        for (name, expected) in names {
            assert_eq!(family(Some(name), None, None), expected, "{name}");
        }
        let user_agents = [
            ("Claude-User/1.0", "claude"),
            ("openai-mcp/1.0.0 (ChatGPT)", "openai"),
            ("Java-http-client/17.0.15", "java-sdk"),
            ("Go-http-client/1.1", "go"),
            ("Visual Studio Code/1.105.0", "vscode"),
            ("node", "typescript-sdk"),
        ];
        for (user_agent, expected) in user_agents {
            assert_eq!(family(None, None, Some(user_agent)), expected, "{user_agent}");
        }
        assert_eq!(family(Some("mcp"), None, Some("python-httpx/0.28.1")), "python-sdk", "the SDK's own default");
    }
}
