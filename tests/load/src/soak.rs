//! The same for long: sessions that work, leave in order, vanish in the middle of a call, or sit there; others that stay
//! and lose their streams and the server behind again and again; and a proxy that must be the same afterwards.
//!
//! What grows without bound grows in steps too small to see in a minute: hence minutes or hours, and a level that is
//! taken after the first fifth, when pools and caches are full.
//!
//! The trap: a level holds only while nobody works and nobody lingers. So those who stay work in rounds, between which all
//! of them are answered and idle, and a level waits until the stub has no other session than theirs.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

use crate::accounts::{self, Account, Deeds, Survival};
use crate::client::{Call, Client, Target, counts};
use crate::measure::Cost;
use crate::plan;
use crate::roles::Role;
use crate::staying::{Cut, Habit, Round, Stayer, Tide};

/// How long sessions of the soak linger: less than by default, so that they are over when a level is taken, and more
/// than clients are away.
const LINGER: &str = "2s";
/// The part of the drain in which everything is served.
const DRAIN_DELAY: &str = "1s";
/// Well within what the proxy gives itself for a drain in which calls of `LAST_CALL` are to be answered.
const DRAIN: Duration = Duration::from_secs(10);
const LAST_CALL: Duration = Duration::from_secs(2);
/// Sessions at work in each turn.
const SESSIONS: usize = 40;
/// Turns between two disturbances.
const TURNS: usize = 5;
/// Clients that stay, of each habit.
const STAYING: usize = 6;
/// Sessions that come while the upstream goes and comes back.
const PASSING: u64 = 10;
/// Cycles before the first level: by then malloc has seen what may be there at once.
const WARM: u64 = 3;
/// What memory may grow by, in bytes, beside a tenth of its level: one outbox and what malloc keeps.
const SLACK: u64 = 4 << 20;

/// How long calls take in whose midst something happens.
const CALLS: Duration = Duration::from_millis(1_200);
const SHORT_CALLS: Duration = Duration::from_millis(20);
/// Until when streams are cut, and for how long at least those are away who wait.
const CUT: Duration = Duration::from_millis(300);
/// When the upstream is killed, at the earliest: not before those are away who cannot say what they missed.
const KILL: Duration = Duration::from_millis(600);
/// For how long it is gone.
const DOWN: Duration = Duration::from_millis(200);

/// How long it goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    /// Everything that may happen, once, and without a look at memory.
    Once,
    Time(Duration),
}

/// What happens while those who stay have calls running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    None,
    /// All their streams are cut.
    Cut,
    /// The upstream is killed and started again.
    Restart,
    /// The upstream is killed while all of them are away.
    CutAndRestart,
}

/// The soak under way.
struct Soak {
    upstream: Upstream,
    proxy: Role,
    target: Target,
    staying: Vec<Stayer>,
    /// Accounts of those who came in a restart and have left.
    passed: Vec<Account>,
    log: PathBuf,
    /// Sessions opened, but for those of streams that came back.
    sessions: u64,
    turns: u64,
}

/// The stub, which is killed now and then.
struct Upstream {
    stub: Option<Role>,
    address: String,
    ledger: PathBuf,
    restarts: u64,
    tide: Tide,
}

/// Runs for `length`, and fails when memory, descriptors or threads are not flat, a session or task is left, or a client
/// that stays was not answered once and truly. Gives the figures in words.
pub(crate) async fn run(length: Length) -> Result<String> {
    let folder = std::env::temp_dir().join(format!("sse-sunset-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = run_in(&folder, length).await;
    let _ = std::fs::remove_dir_all(folder);
    outcome
}

async fn run_in(folder: &Path, length: Length) -> Result<String> {
    let (start, mut soak) = (Instant::now(), Soak::start(folder).await?);
    let (mut level, mut cycles) = (None, 0);
    loop {
        soak.cycle().await?;
        cycles += 1;
        match length {
            Length::Once => break,
            Length::Time(time) if level.is_none() => {
                if start.elapsed() > time / 5 && cycles >= WARM {
                    level = Some(soak.level().await?);
                }
            }
            Length::Time(time) if start.elapsed() >= time => break,
            Length::Time(_) => {}
        }
    }
    let end = match length {
        Length::Once => None,
        Length::Time(_) => Some((level.context("a level")?, soak.level().await?)),
    };
    let (staying, restarts) = (soak.staying.len(), soak.upstream.restarts);
    let (sessions, turns) = (soak.sessions, soak.turns);
    let Survival { resumed, adopted, revived, replayed, .. } = soak.finish().await?;
    let words = format!(
        "{sessions} sessions in {turns} turns, {staying} that stayed, {restarts} restarts, {} s: {resumed} streams resumed, \
         {adopted} adopted, {revived} sessions opened again upstream, {replayed} calls sent again",
        start.elapsed().as_secs(),
    );
    Ok(if let Some((level, end)) = end { format!("{words}; {}", flat(&level, &end)?) } else { words })
}

/// Whether nothing has grown; in words.
fn flat(level: &Cost, end: &Cost) -> Result<String> {
    let words = format!(
        "RSS {} -> {} KiB, descriptors {} -> {}, threads {} -> {}",
        level.rss >> 10,
        end.rss >> 10,
        level.descriptors,
        end.descriptors,
        level.threads,
        end.threads
    );
    ensure!(end.rss <= level.rss + level.rss / 10 + SLACK, "memory grows: {words}");
    ensure!(end.descriptors <= level.descriptors + 4, "descriptors stay behind: {words}");
    ensure!(end.threads <= level.threads, "threads stay behind: {words}");
    Ok(words)
}

impl Soak {
    async fn start(folder: &Path) -> Result<Soak> {
        let ledger = folder.join("ledger");
        let stub = Role::start("stub", plan::LOAD_CORE, &["json", "0", &ledger.display().to_string()])?;
        let log = folder.join("traffic.log");
        let options = ["--linger", LINGER, "--drain-delay", DRAIN_DELAY, "--log-level", "error"];
        let proxy = plan::proxy_with(&stub, &log, &options)?;
        let tide = Tide::default();
        let address = stub.address.clone();
        let upstream = Upstream { stub: Some(stub), address, ledger, restarts: 0, tide: tide.clone() };
        let mut staying = Vec::new();
        for (habit, number) in [Habit::LastEventId, Habit::Version]
            .into_iter()
            .flat_map(|habit| (0..STAYING).map(move |number| (habit, number)))
        {
            let name = format!("staying-{habit:?}-{number}");
            let (stayer, is_open) = Stayer::open(&proxy.address, name, habit, tide.clone()).await?;
            ensure!(is_open, "the upstream is not there");
            staying.push(stayer);
        }
        let sessions = staying.len() as u64;
        let target = plan::legacy(&proxy.address);
        Ok(Soak { upstream, proxy, target, staying, passed: Vec::new(), log, sessions, turns: 0 })
    }

    /// Everything that may happen, once, and quiet in between, in which everything must be well.
    async fn cycle(&mut self) -> Result<()> {
        for disturbance in [Disturbance::Cut, Disturbance::Restart, Disturbance::CutAndRestart] {
            self.step(Disturbance::None).await?;
            self.step(disturbance).await.with_context(|| format!("{disturbance:?}"))?;
        }
        self.step(Disturbance::None).await
    }

    /// A round of those who stay, and what comes and goes meanwhile.
    async fn step(&mut self, disturbance: Disturbance) -> Result<()> {
        let takes = if disturbance == Disturbance::None { SHORT_CALLS } else { CALLS };
        let cuts =
            self.staying.iter().zip(self.turns..).map(|(stayer, number)| cut(disturbance, stayer.habit(), number));
        let rounds: Vec<Round> = cuts.map(|cut| Round { takes, cut }).collect();
        let waiting = rounds.iter().filter(|round| round.cut.is_some_and(|cut| cut.waits)).count();
        let staying = self.staying.iter_mut().zip(rounds).map(|(stayer, round)| stayer.round(round));
        let staying = try_join_all(staying);
        let (address, target, turns) = (&self.proxy.address, &self.target, &mut self.turns);
        if matches!(disturbance, Disturbance::None | Disturbance::Cut) {
            let turning = async {
                for _ in 0..TURNS {
                    turn(target).await?;
                    *turns += 1;
                }
                Ok(())
            };
            tokio::try_join!(staying, turning)?;
            self.sessions += (TURNS * SESSIONS) as u64;
        } else {
            let (tide, first) = (self.upstream.tide.clone(), self.passed.len() as u64);
            let passing = try_join_all((first..first + PASSING).map(|number| pass(address, number, tide.clone())));
            let (_, passed, ()) = tokio::try_join!(staying, passing, self.upstream.restart(waiting))?;
            self.passed.extend(passed);
            self.sessions += PASSING;
        }
        Ok(())
    }

    /// What the proxy costs while nobody works or lingers, and the connections are closed that it keeps for the next request.
    async fn level(&mut self) -> Result<Cost> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while counts(&self.upstream.address).await?.open != self.staying.len() {
            ensure!(Instant::now() < deadline, "sessions that have left are open upstream");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(plan::POOLS_EMPTY).await;
        self.proxy.cost()
    }

    /// Stops the proxy while those who stay have calls running, and compares all accounts.
    async fn finish(self) -> Result<Survival> {
        let Soak { upstream, proxy, mut staying, passed, log, sessions, .. } = self;
        let ends = try_join_all(staying.iter_mut().map(|stayer| stayer.stay_to_the_end(LAST_CALL)));
        // A task that never ends would outlast the drain, and a session that never ends would have no `legacy.end`.
        let stopping = Instant::now();
        let stopped = async {
            // Their calls are with the proxy by then.
            tokio::time::sleep(LAST_CALL / 10).await;
            tokio::task::spawn_blocking(move || proxy.stop()).await?
        };
        tokio::try_join!(ends, stopped)?;
        ensure!(stopping.elapsed() < DRAIN, "tasks were still there at the end of the drain");
        let open = counts(&upstream.address).await?.open;
        ensure!(open == 0, "{open} sessions are still open upstream");
        let returns = |habit| {
            staying.iter().filter(|stayer| stayer.habit() == habit).map(|stayer| stayer.account.returns).sum::<u64>()
        };
        let (resumed, adopted) = (returns(Habit::LastEventId), returns(Habit::Version));
        // A stream that comes back without a word is a session of its own until it is known whose it is.
        let deeds = Deeds { sessions: sessions + adopted, resumed, adopted, restarts: upstream.restarts };
        let staying: Vec<Account> = staying.into_iter().map(|stayer| stayer.account).collect();
        let read = |path| anyhow::Ok(BufReader::new(File::open(path)?));
        let survival = accounts::compare_with_log(read(&log)?, &staying, deeds)?;
        accounts::compare_with_ledger(read(&upstream.ledger)?, &[staying, passed].concat())?;
        Ok(survival)
    }
}

/// How the stream of client `number` is cut: everybody differently, and differently each time.
fn cut(disturbance: Disturbance, habit: Habit, number: u64) -> Option<Cut> {
    let share = |of: Duration, number: u64| of / 10 * u32::try_from(number % 10).unwrap_or_default();
    // A client that does not say whose it is waits: until the end of its old stream is known its session is not without one.
    let least = if habit == Habit::Version { CUT } else { Duration::ZERO };
    let cut = Cut {
        after: share(CUT, number),
        away: least + share(CUT, number / 3),
        waits: false,
        resets: number.is_multiple_of(2),
    };
    match disturbance {
        Disturbance::None | Disturbance::Restart => None,
        Disturbance::Cut => Some(cut),
        // One that says what it got may as well be there, or be cut while errors are on their way to it.
        Disturbance::CutAndRestart if habit == Habit::LastEventId => match number % 3 {
            0 => Some(Cut { after: KILL + DOWN / 10, ..cut }),
            1 => Some(Cut { after: KILL, away: DOWN, ..cut }),
            _ => Some(Cut { waits: true, ..cut }),
        },
        Disturbance::CutAndRestart => Some(Cut { waits: true, away: share(DOWN * 2, number / 3), ..cut }),
    }
}

impl Upstream {
    /// Kills the stub once so many clients are `away`, and starts it again on the same port.
    async fn restart(&mut self, away: usize) -> Result<()> {
        tokio::time::sleep(KILL).await;
        while self.tide.away() < away {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.tide.turn();
        self.stub = None;
        tokio::time::sleep(DOWN).await;
        let port = self.address.rsplit(':').next().context("a port")?;
        let ledger = self.ledger.display().to_string();
        let start = || Role::start("stub", plan::LOAD_CORE, &["json", port, &ledger]);
        let mut started = start();
        // Somebody's outgoing connection may have the port for a moment.
        for _ in 0..20 {
            if started.is_ok() {
                break;
            }
            tokio::time::sleep(DOWN).await;
            started = start();
        }
        self.stub = Some(started?);
        self.tide.turn();
        self.restarts += 1;
        Ok(())
    }
}

/// A session that comes while the upstream goes, and leaves; gives its account.
async fn pass(address: &str, number: u64, tide: Tide) -> Result<Account> {
    let wait = (KILL + DOWN) / 10 * u32::try_from(number % PASSING)?;
    tokio::time::sleep(wait).await;
    let name = format!("passing-{number}");
    let (mut passing, is_open) = Stayer::open(address, name, Habit::LastEventId, tide).await?;
    if is_open {
        passing.round(Round { takes: CALLS / 4, cut: None }).await?;
    }
    Ok(passing.account)
}

/// One turn of `SESSIONS` that come and go.
async fn turn(target: &Target) -> Result<()> {
    try_join_all((0..SESSIONS).map(async |number| {
        let mut client = Client::open(target).await?;
        for call in 0..5 {
            let text = format!("\"{number}/{call}\"");
            client.call(Call::echo(&text)).await?;
        }
        client.call(Call { tool: "progress", text: "\"done\"", count: 50, megabytes: 0 }).await?;
        match number % 4 {
            // Vanishes in the middle of a call, with more on the way than it will ever read. Few of them only: its session
            // waits with a full outbox, and what malloc keeps of many such would hide what grows.
            0 if number == 0 => {
                client.begin(Call { tool: "flood", text: "\"never read\"", count: 0, megabytes: 4 }).await?;
            }
            0 | 1 => {
                client.begin(Call { tool: "progress", text: "\"never read\"", count: 100, megabytes: 0 }).await?;
            }
            2 => client.pipelined(16).await?,
            _ => {}
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(())
}
