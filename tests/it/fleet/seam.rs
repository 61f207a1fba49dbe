//! What every fleet does, whichever implementation it is.

use bytes::Bytes;
use sse_sunset::fleet::{Board, Called, Fleet, Unshared, Whose};

use super::member::{Member, on_board};
use crate::support::redis::Redis;

fn ids_are_its_own(fleet: &Fleet) {
    let (one, other) = (fleet.new_id(), fleet.new_id());
    assert_ne!(one, other);
    assert!(one.len() >= 43 && one.len() <= 128, "{one}");
    assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{one}");
    assert_eq!(fleet.whose(&one), Whose::Ours);
    for unknown in ["", "x", &"a".repeat(64), &"A".repeat(130), &one[1..]] {
        assert!(!matches!(fleet.whose(unknown), Whose::Of(_)), "{unknown}");
    }
}

async fn alone_it_is_whole(fleet: Fleet) {
    assert!(fleet.degraded().is_empty() && fleet.peers().is_empty());
    fleet.tell(Bytes::from_static(b"word"));
    let nobody = "00000000000000ff".parse().expect("a boot");
    // Over Redis it is not sure at once that nobody is there: it may have been emptied a moment ago.
    let called = fleet.call(nobody, Bytes::from_static(b"call")).await;
    assert!(matches!(called, Called::Gone | Called::Unreachable), "{called:?}");
}

async fn board_shows_what_was_put(fleet: Fleet) {
    on_board(&fleet, Board::is_read).await;
    fleet.put("own/a", Bytes::from_static(b"1")).await.expect("put");
    let first = fleet.board().borrow().get("own/a").expect("an entry").clone();
    assert_eq!(first.bytes, "1");
    fleet.put("own/a", Bytes::from_static(b"2")).await.expect("put");
    let second = fleet.board().borrow().get("own/a").expect("an entry").clone();
    assert_eq!(second.bytes, "2");
    assert_ne!(first.version, second.version);
    fleet.put("own/b", Bytes::new()).await.expect("put");
    let board = fleet.board().borrow().clone();
    assert_eq!(board.below("own/").map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
}

async fn everybodys_entry_changes_only_from_what_was_seen(fleet: Fleet) {
    let first = fleet.replace("agreed", None, Bytes::from_static(b"1")).await.expect("the first");
    assert_eq!(fleet.replace("agreed", None, Bytes::from_static(b"x")).await, Err(Unshared::Conflict));
    let second = fleet.replace("agreed", Some(first), Bytes::from_static(b"2")).await.expect("the second");
    assert_eq!(fleet.replace("agreed", Some(first), Bytes::from_static(b"x")).await, Err(Unshared::Conflict));
    let entry = fleet.board().borrow().get("agreed").expect("an entry").clone();
    assert_eq!((entry.version, &*entry.bytes), (second, &b"2"[..]));
}

#[tokio::test]
async fn solo_keeps_the_promises_of_the_seam() {
    ids_are_its_own(&Fleet::solo());
    alone_it_is_whole(Fleet::solo()).await;
    board_shows_what_was_put(Fleet::solo()).await;
    everybodys_entry_changes_only_from_what_was_seen(Fleet::solo()).await;
    assert!(!Fleet::solo().is_shared() && Fleet::solo().status().is_null());
}

#[tokio::test]
async fn redis_keeps_the_promises_of_the_seam() {
    let redis = Redis::start();
    let member = Member::echo(&redis);
    member.ready(0).await;
    ids_are_its_own(&member.fleet);
    alone_it_is_whole(member.fleet.clone()).await;
    board_shows_what_was_put(member.fleet.clone()).await;
    everybodys_entry_changes_only_from_what_was_seen(member.fleet.clone()).await;
    assert!(member.fleet.is_shared());
}

#[tokio::test]
async fn board_of_one_is_the_board_of_all() {
    let redis = Redis::start();
    let (one, other) = (Member::echo(&redis), Member::echo(&redis));
    one.ready(1).await;
    other.ready(1).await;
    one.fleet.put("own/one", Bytes::from_static(b"1")).await.expect("put");
    on_board(&other.fleet, |board| board.get("own/one").is_some_and(|entry| entry.bytes == "1")).await;
    let version = one.fleet.replace("agreed", None, Bytes::from_static(b"1")).await.expect("the first");
    on_board(&other.fleet, |board| board.get("agreed").is_some_and(|entry| entry.version == version)).await;
    // Of two at once one is first, and the other sees against what it lost.
    let race = |member: &Member, text: &'static [u8]| {
        let fleet = member.fleet.clone();
        async move { fleet.replace("agreed", Some(version), Bytes::from_static(text)).await }
    };
    let (left, right) = tokio::join!(race(&one, b"left"), race(&other, b"right"));
    assert_ne!(left.is_ok(), right.is_ok(), "{left:?} {right:?}");
    let (winner, loser) = if left.is_ok() { (&one, &other) } else { (&other, &one) };
    let text = |member: &Member| member.fleet.board().borrow().get("agreed").map(|entry| entry.bytes.clone());
    assert_eq!(text(winner), text(loser), "at once, not a second later");
}
