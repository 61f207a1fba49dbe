//! Whose a session is, and who may post into it (SECURITY §2.3, Binding to the principal).
//!
//! A session belongs to the principal that its stream showed, or else to the first whose message the upstream accepted.
//! From then on anybody else is told that there is no such session, before anything of the message has an effect. What a
//! client may do is to show another credential: a JWT says itself that it is the same person's; a credential that says
//! nothing is believed from the client's own address, or where the upstream has just turned the one before it down. To be
//! let in here is no permission: the upstream judges every credential itself.
//!
//! Why the address and not the connection: a balancer's connections carry the requests of many clients, and a client that
//! comes by itself has its address anyway.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::places::site;
use crate::auth::{Principal, Sender};

/// For how long another credential is believed after the upstream turned the one before it down.
const TURNED_DOWN: Duration = Duration::from_secs(600);
/// Foreign posts are told of no more often than this.
const PACE: Duration = Duration::from_secs(10);

/// Whether a client that shows a credential which says nothing may show another such (`--opaque-rotation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpaqueRotation {
    /// From the client's own address, or after the upstream turned the one before it down.
    #[default]
    Guarded,
    /// Never.
    Deny,
    /// Always.
    Allow,
}

/// Whose one session is. Shared by the session's task and by whoever asks at the door.
#[derive(Debug)]
pub struct Binding {
    rotation: OpaqueRotation,
    /// The session's label in the log.
    label: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None until somebody has shown what the upstream accepts.
    owner: Option<Principal>,
    /// The owner under the credential before this one: messages under it may still be on their way.
    former: Option<Principal>,
    /// The upstream accepted something of the owner's.
    is_settled: bool,
    /// When it turned the owner's credential down, unless it accepted it since.
    turned_down: Option<Instant>,
    /// Where the client is; of IPv6 its site.
    home: IpAddr,
}

/// Tells operators of posts into other people's sessions, however many there are.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Binding {
    /// That of a session whose stream `opener` opened.
    pub(super) fn new(rotation: OpaqueRotation, label: String, opener: &Sender) -> Self {
        let owner = (opener.principal != Principal::Anonymous).then_some(opener.principal);
        let home = site(opener.address);
        let state = State { owner, former: None, is_settled: false, turned_down: None, home };
        Binding { rotation, label, state: Mutex::new(state) }
    }

    /// Whether what `sender` posts is for this session.
    pub(super) fn admits(&self, sender: &Sender) -> bool {
        self.lock().admits(self.rotation, sender, Instant::now())
    }

    /// Whether the session is this very principal's, or nobody's yet. Nothing less gives a client what is in a session.
    pub(super) fn belongs_to(&self, principal: Principal) -> bool {
        let state = self.lock();
        state.owner.is_none_or(|owner| owner == principal) || state.former == Some(principal)
    }

    /// The upstream accepted a message of `principal`, which was let in.
    pub fn accepted(&self, principal: Principal) {
        let mut state = self.lock();
        match state.owner {
            Some(owner) if owner == principal => {}
            // Late news of a credential that was renewed since.
            Some(_) if state.former == Some(principal) => return,
            owner => {
                state.former = owner;
                state.owner = Some(principal);
            }
        }
        state.is_settled = true;
        state.turned_down = None;
    }

    /// The upstream turned a credential of `principal` down.
    pub fn turned_down(&self, principal: Principal) {
        let mut state = self.lock();
        if state.owner.is_none_or(|owner| owner == principal) {
            state.turned_down = Some(Instant::now());
        }
    }

    /// Its client came back from there.
    pub(super) fn moved(&self, address: IpAddr) {
        self.lock().home = site(address);
    }

    /// What diagnostics say of somebody who was not let in.
    pub(super) fn tell(&self, alarm: &Alarm, sender: &Sender) {
        let Some(count) = alarm.ring(Instant::now()) else { return };
        let owner = self.lock().owner.map_or("nobody", |owner| owner.kind());
        tracing::warn!(
            session = self.label,
            owner,
            shown = sender.principal.kind(),
            count,
            "somebody posted into a session that belongs to another principal; it was answered like an unknown session"
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admits(&self, rotation: OpaqueRotation, sender: &Sender, now: Instant) -> bool {
        let Some(owner) = self.owner else { return true };
        let shown = sender.principal;
        if shown == owner || self.former == Some(shown) {
            return true;
        }
        let was_turned_down = self.turned_down.is_some_and(|since| since + TURNED_DOWN > now);
        let is_at_home = self.home == site(sender.address);
        // Who was turned down before anything was accepted has no claim to what is not there.
        let is_unclaimed = was_turned_down && !self.is_settled;
        match (owner, shown) {
            // A name by trusted word is not the upstream's to turn down, and is nobody else's. Nobody in particular is never
            // who showed something before.
            (Principal::Verified(_), _) | (_, Principal::Verified(_) | Principal::Anonymous) => false,
            _ if is_unclaimed => true,
            // A token that names its person is not replaced by one that could be anybody's.
            (Principal::Token(_), _) => false,
            // Only where the upstream has asked for a credential does nobody in particular become somebody. How long ago does
            // not matter: anybody could bring it about that it asks, so it is the address that counts.
            (Principal::Anonymous, _) => rotation != OpaqueRotation::Deny && self.turned_down.is_some() && is_at_home,
            (Principal::Opaque(_), _) => match rotation {
                OpaqueRotation::Guarded => was_turned_down || is_at_home,
                OpaqueRotation::Deny => false,
                OpaqueRotation::Allow => true,
            },
        }
    }
}

impl Alarm {
    /// How many times it rang since it was last told of, if it is to be told of now.
    fn ring(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, count) = &mut *state;
        *count += 1;
        if told.is_some_and(|told| told + PACE > now) {
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Credential;

    const ANN: Principal = Principal::Token([1; 32]);
    const BEN: Principal = Principal::Token([2; 32]);
    const OLD: Principal = Principal::Opaque([3; 32]);
    const NEW: Principal = Principal::Opaque([4; 32]);
    const TEAM: Principal = Principal::Verified([5; 32]);
    const NOBODY: Principal = Principal::Anonymous;

    fn from(principal: Principal, address: &str) -> Sender {
        Sender { credential: Credential::NONE, principal, address: address.parse().expect("an address") }
    }

    fn home(principal: Principal) -> Sender {
        from(principal, "192.0.2.1")
    }

    fn away(principal: Principal) -> Sender {
        from(principal, "192.0.2.2")
    }

    fn of(rotation: OpaqueRotation, owner: Principal) -> Binding {
        Binding::new(rotation, "label".into(), &home(owner))
    }

    fn settled(rotation: OpaqueRotation, owner: Principal) -> Binding {
        let binding = of(rotation, owner);
        binding.accepted(owner);
        binding
    }

    #[tokio::test(start_paused = true)]
    async fn session_is_its_openers_and_nobody_elses() {
        let binding = settled(OpaqueRotation::Guarded, ANN);
        assert!(binding.admits(&away(ANN)), "from anywhere");
        for other in [BEN, NEW, TEAM, NOBODY] {
            assert!(!binding.admits(&home(other)), "{other:?}");
            assert!(!binding.belongs_to(other), "{other:?}");
        }
        binding.turned_down(ANN);
        for other in [BEN, NEW, TEAM, NOBODY] {
            assert!(!binding.admits(&home(other)), "{other:?}, though the token has expired");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn session_that_was_opened_without_a_credential_is_the_first_ones_that_is_accepted() {
        let binding = of(OpaqueRotation::Guarded, NOBODY);
        assert!(binding.admits(&home(ANN)) && binding.admits(&away(BEN)));
        binding.accepted(ANN);
        assert!(binding.admits(&home(ANN)) && !binding.admits(&home(BEN)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_becomes_somebody_only_where_the_upstream_asked_for_it() {
        let binding = settled(OpaqueRotation::Guarded, NOBODY);
        for other in [ANN, NEW, TEAM] {
            assert!(!binding.admits(&home(other)), "{other:?}");
        }
        binding.turned_down(NOBODY);
        assert!(binding.admits(&home(ANN)) && binding.admits(&home(NEW)));
        assert!(!binding.admits(&away(ANN)), "anybody can bring it about that the upstream asks");
        assert!(!binding.admits(&home(TEAM)));
        tokio::time::advance(TURNED_DOWN).await;
        assert!(binding.admits(&home(ANN)), "a person may log in after an hour");
        binding.accepted(NOBODY);
        assert!(!binding.admits(&home(ANN)), "it takes nobody again");
    }

    #[tokio::test(start_paused = true)]
    async fn opaque_credential_is_followed_by_another_as_the_rule_says() {
        use OpaqueRotation::{Allow, Deny, Guarded};
        for (rotation, at_home, elsewhere, after_401) in
            [(Guarded, true, false, true), (Deny, false, false, false), (Allow, true, true, true)]
        {
            let binding = settled(rotation, OLD);
            for next in [NEW, ANN] {
                assert_eq!(binding.admits(&home(next)), at_home, "{rotation:?}");
                assert_eq!(binding.admits(&away(next)), elsewhere, "{rotation:?}");
            }
            binding.turned_down(OLD);
            assert_eq!(binding.admits(&away(NEW)), after_401, "{rotation:?}");
            assert!(!binding.admits(&home(NOBODY)), "{rotation:?}");
            tokio::time::advance(TURNED_DOWN).await;
            assert_eq!(binding.admits(&away(NEW)), elsewhere, "{rotation:?}, ten minutes later");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn owner_changes_its_credential_only_once_the_upstream_accepted_the_new_one() {
        let binding = settled(OpaqueRotation::Guarded, OLD);
        assert!(binding.admits(&home(NEW)));
        assert!(!binding.belongs_to(NEW), "it was shown, and not accepted");
        binding.accepted(NEW);
        assert!(binding.belongs_to(NEW));
        assert!(binding.admits(&away(OLD)), "a message that was on its way");
        binding.accepted(OLD);
        assert!(binding.admits(&away(NEW)), "which does not turn it back");
        let third = Principal::Opaque([9; 32]);
        binding.accepted(third);
        assert!(!binding.admits(&away(OLD)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_turned_down_before_anything_was_accepted_may_be_somebody_else_next() {
        let binding = of(OpaqueRotation::Deny, ANN);
        assert!(!binding.admits(&home(BEN)));
        binding.turned_down(ANN);
        assert!(!binding.admits(&home(NOBODY)));
        assert!(binding.admits(&home(BEN)), "who logs in as another person");
        binding.accepted(BEN);
        assert!(!binding.admits(&home(NEW)));
    }

    #[tokio::test(start_paused = true)]
    async fn turning_down_somebody_else_opens_nothing() {
        let binding = settled(OpaqueRotation::Guarded, OLD);
        binding.turned_down(NEW);
        assert!(!binding.admits(&away(ANN)));
    }

    #[tokio::test(start_paused = true)]
    async fn home_is_where_the_client_was_last_and_a_site_of_ipv6() {
        let binding = settled(OpaqueRotation::Guarded, OLD);
        binding.moved("2001:db8:1:2::1".parse().expect("an address"));
        assert!(binding.admits(&from(NEW, "2001:db8:1:2:aaaa::9")));
        assert!(!binding.admits(&from(NEW, "2001:db8:1:3::1")) && !binding.admits(&home(NEW)));
    }

    #[tokio::test(start_paused = true)]
    async fn alarm_is_told_of_at_a_pace_and_forgets_none() {
        let alarm = Alarm::default();
        let rang: Vec<_> = (0..3).map(|_| alarm.ring(Instant::now())).collect();
        assert_eq!(rang, [Some(1), None, None]);
        tokio::time::advance(PACE).await;
        assert_eq!(alarm.ring(Instant::now()), Some(3));
    }
}
