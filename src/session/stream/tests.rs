//! The queue and the stream together: both ends of one thing.

use futures_util::FutureExt as _;
use http::HeaderMap;
use http_body_util::BodyExt as _;

use super::super::Budget;
use super::super::outbox::{Outbox, outbox};
use super::super::position::ResumeKey;
use super::*;
use crate::auth::Credential;
use crate::traffic::Principal;

/// Bytes that always pass, and bytes that go at once.
const SMALL: usize = 16 << 10;
const PIECE: usize = 64 << 10;

fn key() -> ResumeKey {
    ResumeKey::random()
}

fn queue(bound: usize, budget: Budget) -> Outbox {
    outbox(bound, budget, Budget::new(1 << 20), key(), Credential::of(&HeaderMap::new()))
}

fn stream_of(outbox: &Outbox, keep_alive: Option<Duration>) -> EventStream {
    let face = outbox.face();
    let mut stream = EventStream::new(Bytes::from_static(b"endpoint"), face.clone(), face.attach_first(), keep_alive);
    assert_eq!(next(&mut stream).now_or_never().flatten().as_deref(), Some(&b"endpoint"[..]));
    assert!(stream.frame().now_or_never().is_none(), "hyper writes it out now");
    stream
}

fn pair(bound: usize) -> (Outbox, EventStream) {
    let outbox = queue(bound, Budget::new(1 << 20));
    let stream = stream_of(&outbox, None);
    (outbox, stream)
}

fn arrival() -> Arrival {
    let address = "127.0.0.1".parse().expect("an address");
    let connection = Connection {
        user_agent: None,
        peer_address: String::new(),
        auth_scheme: None,
        path: "/sse".into(),
        server_address: None,
        origin: None,
        protocol_version: "1.1",
        reconnect: false,
    };
    Arrival {
        client: Client { principal: Principal::default(), info: None, user_agent: None, address },
        connection,
        closer: Arc::new(Closer::new(|| {})),
        lost: 0,
        superseded: false,
        is_resume: true,
    }
}

/// A stream that comes to the session, after `position`.
fn another(outbox: &Outbox, position: Option<u64>) -> Option<EventStream> {
    let face = outbox.face();
    let attachment = face.attach(position, arrival()).ok()?;
    Some(EventStream::new(Bytes::from_static(b"endpoint"), face, attachment, None))
}

async fn next(stream: &mut EventStream) -> Option<Bytes> {
    let frame = stream.frame().await?.expect("infallible");
    Some(frame.into_data().expect("data"))
}

/// The message in the next event.
async fn message(stream: &mut EventStream) -> Option<String> {
    let event = String::from_utf8(next(stream).await?.to_vec()).expect("utf-8");
    let data = event.split("data: ").nth(1)?;
    Some(data.trim_end().to_owned())
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn events_come_in_order_under_ids_that_count_and_the_stream_ends_after_them() {
    let (outbox, mut stream) = pair(1000);
    outbox.push(&text("1"));
    outbox.push(&text("2"));
    outbox.finish();
    let first = next(&mut stream).await.expect("an event");
    assert!(first.starts_with(b"id: ") && first.ends_with(b"-1\nevent: message\ndata: 1\n\n"), "{first:?}");
    assert!(next(&mut stream).await.expect("an event").ends_with(b"-2\nevent: message\ndata: 2\n\n"));
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn endpoint_leaves_before_anything_that_waits() {
    let (outbox, stream) = pair(1000);
    drop(stream);
    outbox.push(&text("waits"));
    let mut stream = another(&outbox, None).expect("a session");
    assert_eq!(next(&mut stream).now_or_never().flatten().as_deref(), Some(&b"endpoint"[..]));
    assert!(stream.frame().now_or_never().is_none(), "hyper writes it out now");
    assert_eq!(message(&mut stream).await.as_deref(), Some("waits"));
}

#[tokio::test]
async fn full_queue_takes_no_more_until_there_is_room() {
    let (outbox, mut stream) = pair(4);
    assert!(outbox.try_push(&text("larger than the bound")), "one message always fits");
    assert!(!outbox.try_push(&text("x")));
    assert!(outbox.room_for(1).now_or_never().is_none());
    next(&mut stream).await;
    outbox.room_for(1).await;
    assert!(outbox.try_push(&text("x")));
}

#[tokio::test]
async fn all_outboxes_together_have_a_bound_too_but_small_events_always_pass() {
    let budget = Budget::new(10 * SMALL);
    let large = |smalls: usize| Bytes::from(vec![b'x'; smalls * SMALL - 1000]);
    let (one, other) = (queue(100 * SMALL, budget.clone()), queue(100 * SMALL, budget.clone()));
    let (mut stream_of_one, stream_of_other) = (stream_of(&one, None), stream_of(&other, None));
    assert!(one.try_push(&large(8)));
    assert!(!other.try_push(&large(3)), "the first holds it all");
    assert!(other.room_for(3 * SMALL).now_or_never().is_none());
    assert!(one.try_push(&large(2)));
    assert!(budget.take(budget_left(&budget)), "the rest is taken too");
    assert!(one.is_spent() && !other.is_spent(), "who owes nothing may still be sent a little");
    assert!(other.try_push(&large(1)), "a small one");
    while one.len() > 0 {
        next(&mut stream_of_one).await;
    }
    other.room_for(3 * SMALL).await;
    assert!(other.try_push(&large(3)));
    drop((other, stream_of_other));
    assert!(one.try_push(&large(9)), "what was left in a queue is given back");
}

fn budget_left(budget: &Budget) -> usize {
    let mut left = 1;
    while budget.take(left) {
        budget.give(left);
        left += 1;
    }
    left - 1
}

#[tokio::test(start_paused = true)]
async fn large_event_goes_in_pieces_of_which_each_is_progress() {
    let budget = Budget::new(10 * PIECE);
    let outbox = queue(10 * PIECE, budget.clone());
    let mut stream = stream_of(&outbox, Some(Duration::from_secs(15)));
    assert!(outbox.try_push(&Bytes::from(vec![b'x'; 3 * PIECE - 100])));
    for left in [2, 1, 0] {
        tokio::time::sleep(Duration::from_secs(50)).await;
        let piece = next(&mut stream).await.expect("a piece");
        assert!(piece.starts_with(b"id:") == (left == 2) && piece.len() > PIECE - 100, "and no comment in between");
        assert_eq!(outbox.len(), usize::from(left > 0));
        assert!(outbox.stalled_since().is_none_or(|since| since.elapsed().is_zero()));
    }
    assert!(budget.take(10 * PIECE), "all is given back");
}

#[tokio::test]
async fn dropped_stream_is_a_client_gone() {
    let (outbox, stream) = pair(4);
    assert!(outbox.coming_or_going(true).now_or_never().is_none());
    drop(stream);
    outbox.coming_or_going(true).await;
}

#[tokio::test(start_paused = true)]
async fn comment_goes_out_after_silence_only() {
    let outbox = queue(100, Budget::new(1000));
    let start = Instant::now();
    let mut stream = stream_of(&outbox, Some(Duration::from_secs(15)));
    assert_eq!(next(&mut stream).await.as_deref(), Some(&b": k\n"[..]));
    assert_eq!(start.elapsed(), Duration::from_secs(15));
    tokio::time::sleep(Duration::from_secs(10)).await;
    outbox.push(&text("event"));
    assert_eq!(message(&mut stream).await.as_deref(), Some("event"));
    assert_eq!(next(&mut stream).await.as_deref(), Some(&b": k\n"[..]));
    assert_eq!(start.elapsed(), Duration::from_secs(40));
    assert_eq!(next(&mut stream).await.as_deref(), Some(&b": k\n"[..]));
    assert_eq!(start.elapsed(), Duration::from_secs(55));
}

#[tokio::test(start_paused = true)]
async fn stall_counts_from_the_last_time_the_client_took_something() {
    let (outbox, mut stream) = pair(1000);
    assert_eq!(outbox.stalled_since(), None);
    tokio::time::sleep(Duration::from_secs(1000)).await;
    outbox.push(&text("1"));
    assert_eq!(outbox.stalled_since().map(|since| since.elapsed()), Some(Duration::ZERO), "silence is no stall");
    outbox.push(&text("2"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    next(&mut stream).await;
    let since = outbox.stalled_since().expect("one event is left");
    assert_eq!(since.elapsed(), Duration::ZERO);
    drop(stream);
    assert_eq!(outbox.stalled_since(), None, "nobody is there who could stall");
}

#[tokio::test]
async fn client_gets_what_came_after_the_event_it_names() {
    let (outbox, mut stream) = pair(1000);
    for message in ["1", "2", "3"] {
        outbox.push(&text(message));
    }
    next(&mut stream).await;
    next(&mut stream).await;
    drop(stream);
    outbox.push(&text("4"));
    let mut stream = another(&outbox, Some(1)).expect("the session");
    next(&mut stream).await.expect("the endpoint");
    for expected in ["2", "3", "4"] {
        assert_eq!(message(&mut stream).await.as_deref(), Some(expected));
    }
    assert!(another(&outbox, Some(5)).is_none(), "there never was an event 5");
    assert_eq!(outbox.take_arrivals().len(), 1);
    outbox.finish();
    assert!(another(&outbox, Some(4)).is_none(), "the session is over");
}

#[tokio::test]
async fn client_that_names_no_event_gets_what_nobody_took() {
    let (outbox, mut stream) = pair(10 * PIECE);
    outbox.push(&text("taken"));
    let large = Bytes::from(vec![b'x'; PIECE]);
    assert!(outbox.try_push(&large));
    next(&mut stream).await;
    next(&mut stream).await.expect("a part of the second");
    drop(stream);
    let mut stream = another(&outbox, None).expect("the session");
    next(&mut stream).await.expect("the endpoint");
    assert!(next(&mut stream).await.expect("the second, from its start").starts_with(b"id: "));
}

#[tokio::test]
async fn later_stream_ends_the_one_before() {
    let (outbox, mut first) = pair(1000);
    let mut second = another(&outbox, Some(0)).expect("the session");
    assert_eq!(next(&mut first).await, None);
    drop(first);
    assert!(outbox.has_stream(), "its end is not the client's");
    next(&mut second).await.expect("the endpoint");
    outbox.push(&text("1"));
    assert_eq!(message(&mut second).await.as_deref(), Some("1"));
    assert!(outbox.take_arrivals()[0].superseded);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_long_ago_is_not_kept_and_is_counted_when_it_is_asked_for() {
    let (outbox, mut stream) = pair(1000);
    outbox.push(&text("1"));
    outbox.push(&text("2"));
    next(&mut stream).await;
    next(&mut stream).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    outbox.push(&text("3"));
    next(&mut stream).await;
    drop(stream);
    let mut stream = another(&outbox, Some(0)).expect("the session");
    next(&mut stream).await.expect("the endpoint");
    assert_eq!(message(&mut stream).await.as_deref(), Some("3"));
    assert_eq!(outbox.take_arrivals()[0].lost, 2);
    drop(stream);
    tokio::time::sleep(Duration::from_secs(61)).await;
    drop(another(&outbox, Some(1)).expect("the session"));
    assert_eq!(outbox.take_arrivals()[0].lost, 1, "the second is not kept, the third is");
}

#[tokio::test]
async fn what_there_was_no_room_to_keep_is_counted_too() {
    let outbox = outbox(1000, Budget::new(1 << 20), Budget::new(100), key(), Credential::of(&HeaderMap::new()));
    let mut stream = stream_of(&outbox, None);
    for number in ["1", "2", "3"] {
        outbox.push(&text(number));
        next(&mut stream).await;
    }
    drop(stream);
    let mut stream = another(&outbox, Some(0)).expect("the session");
    next(&mut stream).await.expect("the endpoint");
    assert_eq!(message(&mut stream).await.as_deref(), Some("1"));
    assert_eq!(outbox.take_arrivals()[0].lost, 2, "those after the one that was kept");
    assert!(another(&outbox, Some(3)).is_some());
    assert_eq!(outbox.take_arrivals()[0].lost, 0);
}

#[tokio::test]
async fn lent_stream_takes_the_events_of_another_session_until_it_is_taken_back() {
    let (home, mut stream) = pair(1000);
    let (other, gone) = pair(1000);
    drop(gone);
    other.push(&text("of the other"));
    let attachment = other.face().attach(None, arrival()).expect("the session");
    stream.line().lend(&home.face(), other.face(), attachment);
    assert_eq!(message(&mut stream).await.as_deref(), Some("of the other"));
    home.push(&text("of its own"));
    other.push(&text("not taken"));
    stream.line().take_back();
    assert_eq!(message(&mut stream).await.as_deref(), Some("of its own"));
    other.coming_or_going(true).await;
    assert_eq!(other.len(), 2, "what was taken meanwhile is owed to the one it was meant for");

    let attachment = other.face().attach(None, arrival()).expect("the session");
    stream.line().lend(&home.face(), other.face(), attachment);
    drop(stream);
    home.coming_or_going(true).await;
    other.coming_or_going(true).await;
}

#[tokio::test]
async fn stream_that_is_taken_back_amid_an_event_ends() {
    let (home, mut stream) = pair(10 * PIECE);
    let (other, gone) = pair(10 * PIECE);
    drop(gone);
    assert!(other.try_push(&Bytes::from(vec![b'x'; 3 * PIECE])));
    let attachment = other.face().attach(None, arrival()).expect("the session");
    stream.line().lend(&home.face(), other.face(), attachment);
    next(&mut stream).await.expect("a part of the event");
    home.push(&text("of its own"));
    stream.line().take_back();
    assert_eq!(next(&mut stream).await, None, "nothing may follow but the rest of the event");
    assert_eq!((home.len(), other.len()), (1, 1));
}
