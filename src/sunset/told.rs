//! What of a decision stands in the traffic log: what has changed, and who had it changed.

use super::Phase;
use super::control::Decided;
use super::decision::{Chosen, HeldBack};
use super::order::Order;
use super::state::State;
use crate::traffic::{PhaseBy, PhaseRecord};

/// What of it the log knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) phase: Phase,
    pub(super) is_paused: bool,
    pub(super) held_back: Option<Phase>,
    pub(super) rehearsed: Option<Phase>,
}

/// A decision.
pub(super) struct Judged {
    pub(super) before: State,
    pub(super) state: State,
    pub(super) chosen: Chosen,
    pub(super) held_back: HeldBack,
}

/// What of a decision is to be logged, if anything is.
pub(super) fn tell(decided: &mut Decided, order: Option<&Order>, judged: Judged) -> Option<PhaseRecord> {
    let Judged { before, state, chosen, held_back } = judged;
    let is_paused = state.agreed.pause.is_some();
    let told = Told {
        phase: chosen.phase,
        is_paused,
        held_back: held_back.as_ref().map(|(phase, _)| *phase),
        rehearsed: state.rehearsal().map(|rehearsal| rehearsal.phase),
    };
    let heard = decided.heard.take();
    let last = decided.told.replace(told.clone());
    let is_first = last.is_none();
    let unchanged = last.clone().unwrap_or(Told { phase: before.phase, ..Told::default() });
    (decided.chosen, decided.held_back) = (chosen.clone(), held_back.clone());
    if order.is_none() && told == unchanged {
        return None;
    }
    let goes_on = is_first && told.phase == unchanged.phase;
    let by = match (order, &heard, told.held_back != unchanged.held_back && told.held_back.is_some()) {
        (Some(_), ..) => PhaseBy::Operator,
        (None, Some(_), _) if !goes_on => PhaseBy::Fleet,
        (None, _, true) => PhaseBy::Guard,
        (None, _, false) if goes_on => PhaseBy::Start,
        (None, _, false) => PhaseBy::Plan,
    };
    let objection = held_back.map(|(phase, outlook)| (phase, outlook.objection(phase)));
    if let Some((_, objection)) = objection.as_ref().filter(|_| by == PhaseBy::Guard) {
        tracing::warn!("{objection}");
    }
    if told.phase != unchanged.phase || is_first {
        tracing::info!(phase = told.phase.name(), before = unchanged.phase.name(), "the phase of the switch-off");
    }
    let heard = heard.filter(|_| by == PhaseBy::Fleet).map(|heard| heard.why);
    let why = order.map(|order| order.why().to_owned()).or(heard);
    let why = why.or(objection.map(|(_, objection)| objection)).or(chosen.why).unwrap_or_default();
    Some(PhaseRecord {
        until: chosen.until.map(crate::clock::rfc3339),
        paused: is_paused,
        held_back: told.held_back.map(Phase::name),
        dry_run: told.rehearsed.map(Phase::name),
        ..PhaseRecord::new(told.phase.name(), unchanged.phase.name(), by, &why)
    })
}
