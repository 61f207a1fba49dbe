use super::*;
use proptest::prelude::*;

const USE: &str = r#"{"@timestamp":"2026-11-21T14:27:32.514Z","event.name":"legacy.use","schema":"sse-sunset/1","service.instance.id":"vm","boot.id":"435a","log.seq":4,"legacy.session":"4c98","identity":"name:A\"b","identity.source":"client_info","client.family":"other","client.address":"c8cb","mcp.method.name":"tools/call","legacy.uses":3}"#;

#[test]
fn record_is_read_with_escapes_and_borrowed_without() {
    let line = Line::parse(USE.as_bytes()).expect("a record");
    assert_eq!((line.at, line.seq, &*line.instance), (1_795_271_252_514, 4, "vm"));
    let Event::Use { who, uses } = line.event else { panic!("a use") };
    assert_eq!((&*who.identity, uses), ("name:A\"b", 3));
    assert!(matches!(line.instance.0, Cow::Borrowed(_)));
}

#[test]
fn cut_record_is_broken_and_other_lines_are_foreign() {
    assert!(matches!(Line::parse(&USE.as_bytes()[..200]), Err(NotALine::Broken(_))));
    let ecs = r#"{"@timestamp":"2026-11-21T14:27:32.514Z","message":"hello"}"#;
    for foreign in ["", "hello", "{}", "[1]", "{\"@times", ecs] {
        assert_eq!(Line::parse(foreign.as_bytes()).expect_err("none"), NotALine::Foreign, "{foreign}");
    }
}

#[test]
fn newer_schema_is_told_apart() {
    let newer = USE.replace("sse-sunset/1", "sse-sunset/2");
    assert_eq!(Line::parse(newer.as_bytes()).expect_err("newer"), NotALine::Schema("sse-sunset/2".to_owned()));
}

#[test]
fn record_with_a_wrong_field_is_broken_in_any_order_of_fields() {
    let wrong = r#"{"schema":"sse-sunset/1","log.seq":"4","@timestamp":"2026-11-21T14:27:32.514Z"}"#;
    assert!(matches!(Line::parse(wrong.as_bytes()), Err(NotALine::Broken(_))));
}

#[test]
fn passthrough_is_on_off_or_not_told() {
    for (field, told) in [("", None), (r#","passthrough":"off""#, Some(false)), (r#","passthrough":"all""#, Some(true))]
    {
        for name in ["proxy.start", "proxy.heartbeat"] {
            let text = USE.replace("legacy.use\"", &format!("{name}\"")).replace(r#","legacy.uses":3"#, field);
            let line = Line::parse(text.as_bytes()).expect("a record");
            let (Event::Start { passthrough } | Event::Heartbeat { passthrough, .. }) = line.event else {
                panic!("{:?}", line.event)
            };
            assert_eq!(passthrough, told, "{text}");
        }
    }
}

#[test]
fn phase_is_read_and_what_was_left_out_is_not_so() {
    let record = |more: &str| USE.replace("legacy.use\"", "sunset.phase\"").replace(r#","legacy.uses":3"#, more);
    let least = record(r#","sunset.phase":"freeze","sunset.dance":[1]"#);
    let Ok(Line { event: Event::Phase(phase), .. }) = Line::parse(least.as_bytes()) else { panic!("{least}") };
    assert_eq!((&*phase.phase, &*phase.by, phase.until, phase.paused), ("freeze", "", None, false));
    assert!(phase.before.is_none() && phase.why.is_none() && phase.held_back.is_none() && phase.dry_run.is_none());
    let all = record(
        r#","sunset.phase":"freeze","sunset.phase.before":"announce","sunset.by":"guard","sunset.why":"a \"b\"","sunset.until":"2026-11-21T14:27:32.514Z","sunset.paused":true,"sunset.held_back":"brownout","sunset.dry_run":"gone""#,
    );
    let Ok(Line { event: Event::Phase(phase), .. }) = Line::parse(all.as_bytes()) else { panic!("{all}") };
    assert_eq!((phase.until, phase.paused, phase.why.as_deref()), (Some(1_795_271_252_514), true, Some("a \"b\"")));
    let names = [&phase.before, &phase.held_back, &phase.dry_run].map(|name| name.as_deref());
    assert_eq!(names, [Some("announce"), Some("brownout"), Some("gone")]);
    for broken in [record(""), record(r#","sunset.phase":"gone","sunset.until":"soon""#)] {
        assert!(matches!(Line::parse(broken.as_bytes()), Err(NotALine::Broken(_))), "{broken}");
    }
}

#[test]
fn unknown_event_keeps_its_number() {
    let line = USE.replace("legacy.use\"", "legacy.dance\"");
    assert!(matches!(Line::parse(line.as_bytes()), Ok(Line { seq: 4, event: Event::Other, .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..400_usize) {
        let _ = Line::parse(&bytes);
        let _ = Line::parse(&USE.as_bytes()[..cut.min(USE.len())]);
    }
}
