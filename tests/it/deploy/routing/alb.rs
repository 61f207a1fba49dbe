//! The files for the load balancer of AWS, which nobody has at home: read by AWS's own description of its interface (in botocore)
//! and by cfn-lint, and held against the limits and the order that make them mean what they should.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sse_sunset::sunset::Notice;

/// Which operation takes which file.
const INPUTS: [(&str, &str); 8] = [
    ("CreateRule", "streams.json"),
    ("CreateRule", "login.json"),
    ("CreateRule", "all.json"),
    ("CreateRule", "gone-stream.json"),
    ("CreateRule", "gone-messages.json"),
    ("CreateTargetGroup", "target-group.json"),
    ("ModifyTargetGroupAttributes", "target-group-attributes.json"),
    ("ModifyLoadBalancerAttributes", "load-balancer-attributes.json"),
];

/// The rules, and what each is called in the template.
const RULES: [(&str, &str); 5] = [
    ("gone-stream.json", "GoneStream"),
    ("gone-messages.json", "GoneMessages"),
    ("streams.json", "Streams"),
    ("login.json", "Login"),
    ("all.json", "All"),
];

/// The largest body of a fixed response, in bytes.
const BODY: usize = 1024;
/// What the template allows a URL to be.
const NEW_URL: usize = 300;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/routing/alb").join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn read(file: &str) -> Value {
    serde_json::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A program that `tests/run` installs below `target`.
fn run(program: &str, words: &[&Path]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/aws/bin").join(program);
    let output = Command::new(&program).args(words).output();
    output.unwrap_or_else(|error| panic!("{}: {error}; tests/run puts it there", program.display()))
}

/// What AWS's own description of the operation has to say against an input.
fn complaint(operation: &str, input: &Path) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/deploy/routing/aws.py");
    let output = run("python", &[&script, Path::new("elbv2"), Path::new(operation), input]);
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn inputs_are_what_the_operations_take() {
    for (operation, file) in INPUTS {
        assert_eq!(complaint(operation, &path(file)), None, "{file}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = read("streams.json");
    wrong["Conditions"][0]["PathPatternConfig"] = json!({"Value": ["/sse"]});
    let file = folder.path().join("wrong.json");
    fs::write(&file, wrong.to_string()).expect("a file");
    let complaint = complaint("CreateRule", &file).expect("a complaint");
    assert!(complaint.contains("Unknown parameter"), "{complaint}");
}

#[test]
fn template_is_one_that_cfn_lint_passes() {
    let output = run("cfn-lint", &[&path("routing.yaml")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wrong.yaml");
    fs::write(&file, text("routing.yaml").replacen("Type: forward", "Type: foreward", 1)).expect("a file");
    assert!(!run("cfn-lint", &[&file]).status.success(), "it knows a wrong file");
}

/// All values of a rule's conditions, with what they are of.
fn conditions(rule: &Value) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for condition in rule["Conditions"].as_array().expect("conditions") {
        let field = condition["Field"].as_str().expect("a field");
        let config = if field == "path-pattern" { "PathPatternConfig" } else { "HttpRequestMethodConfig" };
        let values = condition[config]["Values"].as_array().expect("values");
        let values = values.iter().map(|value| value.as_str().expect("text").to_owned()).collect();
        assert!(all.insert(field.to_owned(), values).is_none(), "{field} twice");
    }
    all
}

#[test]
fn rules_stay_below_the_limits_and_come_in_their_order() {
    let mut last = 0;
    for (file, _) in RULES {
        let rule = read(file);
        let priority = rule["Priority"].as_u64().expect("a priority");
        assert!(priority > last && priority <= 50_000, "{file}: the tombstone first, all last");
        last = priority;
        let values: Vec<String> = conditions(&rule).into_values().flatten().collect();
        // Quotas of Application Load Balancers: condition values and wildcards of a rule.
        assert!(values.len() <= 5, "{file}: {values:?}");
        assert!(values.iter().map(|value| value.matches(['*', '?']).count()).sum::<usize>() <= 5, "{file}");
        assert!(values.iter().all(|value| value.len() <= 128), "{file}");
        assert_eq!(rule["Actions"].as_array().map(Vec::len), Some(1), "{file}");
    }
    let paths = |file: &str| conditions(&read(file))["path-pattern"].clone();
    assert_eq!(paths("streams.json"), ["/sse", "/sse/*", "/messages", "/messages/", "//messages"]);
    assert_eq!(paths("all.json"), ["/*"]);
}

#[test]
fn tombstone_is_the_proxys_answer_as_far_as_there_is_room() {
    let notice = Notice { new_url: Some("https://mcp.example.com/mcp".to_owned()), ..Notice::default() };
    for file in ["gone-stream.json", "gone-messages.json"] {
        let rule = read(file);
        let answer = &rule["Actions"][0]["FixedResponseConfig"];
        assert_eq!((&rule["Actions"][0]["Type"], &answer["StatusCode"]), (&json!("fixed-response"), &json!("410")));
        // It gives no other of this kind.
        assert_eq!(answer["ContentType"], "application/json");
        let body = answer["MessageBody"].as_str().expect("a body");
        assert!(body.len() <= BODY, "{file}: {}", body.len());
        assert_eq!(serde_json::from_str::<Value>(body).expect("JSON"), notice.problem(), "{file}");
    }
    let methods = |file: &str| conditions(&read(file))["http-request-method"].clone();
    assert_eq!(methods("gone-stream.json"), ["GET", "HEAD", "POST"], "DELETE and the rest are the server's");
    assert_eq!(methods("gone-messages.json"), ["POST"]);
}

/// The template as JSON, in which `!Ref x` and the like are only `x`.
fn template() -> Value {
    let text = text("routing.yaml").replace("!Condition ", "").replace("!Equals ", "").replace("!Or ", "");
    let text = text.replace("!Ref ", "").replace("!Sub ", "");
    serde_saphyr::from_str(&text).expect("YAML")
}

#[test]
fn template_says_what_the_inputs_say() {
    let template = template();
    let longest = "u".repeat(NEW_URL);
    assert_eq!(template["Parameters"]["NewUrl"]["MaxLength"], NEW_URL);
    for (file, name) in RULES {
        let (rule, made) = (read(file), &template["Resources"][name]);
        assert_eq!(made["Type"], "AWS::ElasticLoadBalancingV2::ListenerRule", "{name}");
        let made = &made["Properties"];
        assert_eq!(made["Priority"], rule["Priority"], "{name}");
        assert_eq!(conditions(made), conditions(&rule), "{name}");
        assert_eq!(made["Actions"][0]["Type"], rule["Actions"][0]["Type"], "{name}");
        if let Some(body) = made["Actions"][0]["FixedResponseConfig"]["MessageBody"].as_str() {
            let given = template["Parameters"]["NewUrl"]["Default"].as_str().expect("a URL");
            let written = &rule["Actions"][0]["FixedResponseConfig"]["MessageBody"];
            assert_eq!(body.replace("${NewUrl}", given), written.as_str().expect("a body"), "{name}");
            assert!(body.replace("${NewUrl}", &longest).len() <= BODY, "{name}");
        }
    }
    let of_rule = |name: &str| template["Resources"][name]["Condition"].as_str().expect("a condition").to_owned();
    let there = RULES.map(|(_, name)| of_rule(name));
    assert_eq!(there, ["IsGone", "IsGone", "IsThere", "IsSplit", "IsAll"], "none of them with direct");
    // CloudFormation takes no aliases.
    assert!(!text("routing.yaml").contains(['&', '\t']));
}

/// The proxy keeps a connection for longer than the load balancer does, by what the README has it started with.
#[test]
fn idle_times_fit() {
    let attributes = read("load-balancer-attributes.json");
    let idle = attributes["Attributes"].as_array().expect("attributes").iter();
    let idle = idle.clone().find(|attribute| attribute["Key"] == "idle_timeout.timeout_seconds").expect("the time");
    let idle: u32 = idle["Value"].as_str().expect("text").parse().expect("seconds");
    assert!((1..=4000).contains(&idle));
    let readme = fs::read_to_string(path("../README.md")).expect("a file");
    let (_, rest) = readme.split_once("--idle-timeout ").expect("the option");
    let ours: u32 = rest.split_once('s').expect("seconds").0.parse().expect("a number");
    assert!(ours > idle);
}
