//! What holds at one moment: made once for each change, read by every request.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::account::Account;
use super::{Config, Form, Notice, Phase, Seen, Share};
use crate::mcp::RpcError;

/// The rules of a moment.
#[derive(Debug)]
pub struct Rules {
    /// Counts the changes.
    pub number: u64,
    /// The phase that holds.
    pub phase: Phase,
    /// Until when, if that is known.
    pub until: Option<Timestamp>,
    /// What is carried out.
    pub(super) carried_out: Strict,
    /// What is only written.
    pub(super) rehearsed: Option<Strict>,
    pub(super) config: Arc<Config>,
    /// What clients are told.
    notice: Notice,
    /// Of every answer on the legacy paths.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Before the endpoint event.
    comment: Option<Bytes>,
}

/// Whom a phase refuses.
#[derive(Debug, Clone, Default)]
pub(super) struct Strict {
    pub(super) phase: Phase,
    /// Newcomers are those that are not there; nobody is refused as long as it is not made.
    pub(super) seen: Option<Arc<Seen>>,
    pub(super) share: Share,
    pub(super) ends_running: bool,
}

/// What the rules say of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It is served.
    Served,
    /// It is served, and would be refused if this phase were carried out.
    Rehearsed(Phase),
    /// It is refused because of this phase.
    Refused(Phase),
}

impl Rules {
    pub(super) fn new(
        number: u64,
        until: Option<Timestamp>,
        carried_out: Strict,
        rehearsed: Option<Strict>,
        config: Arc<Config>,
    ) -> Self {
        let phase = carried_out.phase;
        let mut notice = config.notice.clone();
        let is_over = phase >= Phase::Tombstone;
        if notice.sunset.is_some_and(|sunset| (sunset > Timestamp::now()) == is_over) {
            // It came before its date, or did not come at it: a date would be told as past that is to come, or the other way.
            notice.sunset = None;
        }
        let says = phase >= Phase::Announce;
        let headers = if says { notice.headers() } else { Vec::new() };
        let ends = until.filter(|_| phase == Phase::Brownout);
        let comment = says.then(|| Bytes::from(notice.comment(phase, ends)));
        Rules { number, phase, until, carried_out, rehearsed, config, notice, headers, comment }
    }

    /// Whether `other` says the same.
    pub(super) fn is_as(&self, other: &Rules) -> bool {
        self.notice == other.notice
            && self.until == other.until
            && self.carried_out == other.carried_out
            && self.rehearsed == other.rehearsed
    }

    /// What happens to `account`, which asks for a session now.
    #[must_use]
    pub fn judge(&self, account: &Account) -> Word {
        let now = Timestamp::now();
        let by = |strict: &Strict| strict.refuses(account, &self.config, now);
        match (by(&self.carried_out), self.rehearsed.as_ref().and_then(by)) {
            (Some(phase), _) => Word::Refused(phase),
            (None, Some(phase)) => Word::Rehearsed(phase),
            (None, None) => Word::Served,
        }
    }

    /// Why the running session of `account` ends now, if it does.
    #[must_use]
    pub fn ends(&self, account: &Account) -> Option<Phase> {
        match self.phase {
            Phase::Gone => Some(Phase::Gone),
            _ if self.carried_out.ends_running => {
                let phase = self.carried_out.refuses(account, &self.config, Timestamp::now())?;
                phase.hits_users().then_some(phase)
            }
            _ => None,
        }
    }

    /// Whether running sessions may end at all.
    #[must_use]
    pub fn ends_some(&self) -> bool {
        self.phase == Phase::Gone || self.carried_out.ends_running && self.phase.hits_users()
    }

    /// Whether `account`, that asks for a stream, is told by HTTP and not on one. Who may be exempt by a name that it has not
    /// said yet is not: its stream opens, and `initialize` tells.
    #[must_use]
    pub fn refuses_by_http(&self, account: &Account) -> Option<Phase> {
        if self.config.refuse_with != Form::Http || !self.phase.hits_users() || self.phase == Phase::Gone {
            return None;
        }
        // By its name it may be exempt, or another one of the share.
        let is_for_all = self.config.exempt.is_empty() && self.carried_out.share == Share::default();
        if !account.is_principal && !is_for_all {
            return None;
        }
        self.carried_out.refuses(account, &self.config, Timestamp::now()).filter(|phase| phase.hits_users())
    }

    /// The error that a client gets in place of a session.
    #[must_use]
    pub fn refusal(&self, phase: Phase) -> RpcError {
        let until = self.until.filter(|_| phase == self.phase && phase == Phase::Brownout);
        self.notice.refusal(phase, until)
    }

    /// The same for people.
    #[must_use]
    pub fn text(&self, phase: Phase) -> String {
        self.refusal(phase).message
    }

    /// The headers of every answer on the legacy paths; none before `announce`.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The line before the endpoint event; none before `announce`.
    #[must_use]
    pub fn comment(&self) -> Option<&Bytes> {
        self.comment.as_ref()
    }

    /// What clients are told.
    #[must_use]
    pub fn notice(&self) -> &Notice {
        &self.notice
    }

    /// The text of the one warning that a session gets from `announce` on, if that was wished for.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let says = self.config.notify && self.phase >= Phase::Announce;
        says.then(|| self.notice.text(Phase::Announce, None))
    }
}

impl PartialEq for Strict {
    /// Lists of those who were seen are the same only where they are one.
    fn eq(&self, other: &Self) -> bool {
        let seen = |strict: &Strict| strict.seen.as_ref().map(Arc::as_ptr);
        (self.phase, self.share, self.ends_running, seen(self))
            == (other.phase, other.share, other.ends_running, seen(other))
    }
}

impl Strict {
    fn refuses(&self, account: &Account, config: &Config, now: Timestamp) -> Option<Phase> {
        if self.phase == Phase::Gone {
            return Some(Phase::Gone);
        }
        // One that came back without a word may be exempt by a name that it said before.
        let may_be_exempt = !account.is_named && !config.exempt.is_empty();
        if self.phase < Phase::Freeze || may_be_exempt || account.is_exempt(&config.exempt, now) {
            return None;
        }
        if self.phase.hits_users() && account.is_in(self.share) {
            return Some(self.phase);
        }
        self.seen.as_ref().is_some_and(|seen| !account.was(seen)).then_some(Phase::Freeze)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::Waiver;

    fn account(name: &str) -> Account {
        let identity = format!("name:{name}");
        Account { identity, address: "a".to_owned(), is_principal: false, is_named: true }
    }

    fn rules(carried_out: Strict, rehearsed: Option<Strict>, change: impl FnOnce(&mut Config)) -> Rules {
        let mut config = Config::default();
        change(&mut config);
        Rules::new(1, None, carried_out, rehearsed, Arc::new(config))
    }

    fn strict(phase: Phase) -> Strict {
        Strict { phase, ..Strict::default() }
    }

    #[test]
    fn phases_refuse_as_they_are_meant_to() {
        for (phase, word) in [
            (Phase::Observe, Word::Served),
            (Phase::Announce, Word::Served),
            // Who was seen is not known yet.
            (Phase::Freeze, Word::Served),
            (Phase::Brownout, Word::Refused(Phase::Brownout)),
            (Phase::Tombstone, Word::Refused(Phase::Tombstone)),
            (Phase::Gone, Word::Refused(Phase::Gone)),
        ] {
            assert_eq!(rules(strict(phase), None, |_| {}).judge(&account("x")), word, "{phase}");
        }
    }

    #[test]
    fn freeze_refuses_newcomers_in_brownouts_of_a_share_too() {
        let seen = Some(Arc::new(Seen::default()));
        let frozen = Strict { seen: seen.clone(), ..strict(Phase::Freeze) };
        assert_eq!(rules(frozen, None, |_| {}).judge(&account("x")), Word::Refused(Phase::Freeze));
        let share = Share { basis_points: 0 };
        let brownout = Strict { seen, share, ..strict(Phase::Brownout) };
        assert_eq!(rules(brownout, None, |_| {}).judge(&account("x")), Word::Refused(Phase::Freeze));
    }

    #[test]
    fn exempt_are_served_until_all_is_gone() {
        let exempt = |config: &mut Config| {
            config.exempt.push(Waiver {
                client: "name:x*".to_owned(),
                owner: "o".to_owned(),
                reason: "r".to_owned(),
                expires: "9999-12-31".parse().expect("a date"),
            });
        };
        assert_eq!(rules(strict(Phase::Tombstone), None, exempt).judge(&account("xy")), Word::Served);
        assert_eq!(rules(strict(Phase::Tombstone), None, exempt).judge(&account("y")), Word::Refused(Phase::Tombstone));
        assert_eq!(rules(strict(Phase::Gone), None, exempt).judge(&account("xy")), Word::Refused(Phase::Gone));
    }

    #[test]
    fn rehearsal_refuses_nobody() {
        let rules = rules(strict(Phase::Announce), Some(strict(Phase::Tombstone)), |_| {});
        assert_eq!(rules.judge(&account("x")), Word::Rehearsed(Phase::Tombstone));
        assert_eq!(rules.ends(&account("x")), None);
    }

    #[test]
    fn running_sessions_end_with_everything_or_where_it_was_wished_for() {
        assert_eq!(rules(strict(Phase::Gone), None, |_| {}).ends(&account("x")), Some(Phase::Gone));
        assert_eq!(rules(strict(Phase::Tombstone), None, |_| {}).ends(&account("x")), None);
        let ending = Strict { ends_running: true, ..strict(Phase::Brownout) };
        assert_eq!(rules(ending, None, |_| {}).ends(&account("x")), Some(Phase::Brownout));
        let frozen = Strict { ends_running: true, seen: Some(Arc::default()), ..strict(Phase::Freeze) };
        assert_eq!(rules(frozen, None, |_| {}).ends(&account("x")), None, "newcomers are refused when they come");
    }

    #[test]
    fn signals_begin_with_the_announcement() {
        let told = |config: &mut Config| config.notice.new_url = Some("https://a/mcp".to_owned());
        let observe = rules(strict(Phase::Observe), None, told);
        assert!(observe.headers().is_empty() && observe.comment().is_none() && observe.warning().is_none());
        let announce = rules(strict(Phase::Announce), None, |config| {
            told(config);
            config.notify = true;
        });
        assert!(!announce.headers().is_empty() && announce.comment().is_some());
        assert!(announce.warning().is_some_and(|text| text.contains("https://a/mcp")));
    }
}
