//! What can happen next in a run.

use std::time::Duration;

use super::chance::Chance;
use super::thread::Fate;
use super::upstream::Weather;

/// One thing that happens, most of them to some client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, for so long.
    Pass(Duration),
    /// It asks so many things.
    Ask(u64),
    Cancel,
    Notify,
    /// It loses its connection, and the proxy may notice later.
    Drop {
        notices: bool,
    },
    /// A link on the way breaks, and most connections with it.
    DropMany,
    /// It reads nothing for so long.
    Block(Duration),
    /// Another comes.
    Arrive,
    /// Its process ends, and another begins in its place.
    Begin,
    Die,
    /// The server forgets one session or all.
    Lose {
        one: bool,
        fate: Fate,
    },
    /// The server says something on some GET stream.
    Announce,
    AskClient,
    Weather(Weather),
    /// Its token is not good any more.
    Expire,
    /// The server is one of the other era from now on.
    Replace(Fate),
    /// Something changes on a server of 2026-07-28.
    Change,
}

impl Step {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        match chance.below(42) {
            0..16 => Step::Ask(1 + chance.below(4)),
            16 => Step::Cancel,
            17 => Step::Notify,
            18..21 => Step::Drop { notices: true },
            21 => Step::Drop { notices: false },
            22 => Step::DropMany,
            23 => Step::Block(chance.ms(100, 50_000)),
            24 => Step::Arrive,
            25 => Step::Begin,
            26 => Step::Die,
            number @ 27..30 => {
                let fate = if chance.one_in(4) { Fate::Hanging } else { Fate::Broken };
                Step::Lose { one: number == 29, fate }
            }
            30..34 => Step::Announce,
            34 => Step::AskClient,
            35 | 36 => Step::Weather(match chance.below(8) {
                0 => Weather::Down,
                1 => Weather::Stuck,
                rough => Weather::Rough(2 * rough),
            }),
            37 => Step::Expire,
            _ => Step::Weather(Weather::Fine),
        }
    }

    /// The same, with servers of 2026-07-28.
    pub(super) fn draw_of_eras(chance: &mut Chance) -> Self {
        match chance.below(60) {
            0 | 1 => Step::Replace(if chance.one_in(3) { Fate::Hanging } else { Fate::Broken }),
            2..8 => Step::Change,
            8..12 => Step::Cancel,
            _ => Step::draw(chance),
        }
    }

    /// What stands between two steps.
    pub(super) fn pause(chance: &mut Chance) -> Self {
        Step::Pass(match chance.below(16) {
            0..4 => Duration::ZERO,
            4..10 => chance.ms(1, 30),
            10..13 => chance.ms(50, 1_000),
            13 | 14 => chance.ms(1_000, 6_000),
            _ => chance.ms(6_000, 40_000),
        })
    }
}
