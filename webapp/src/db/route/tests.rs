//! The router's promises, as properties.

use super::strategy::Rotation;
use super::*;
use crate::db::lsn::Lsn;
use crate::db::token::{Consistency, History, Tokens};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

fn after(last: Option<usize>) -> Turn {
    Turn { last, ..Turn::default() }
}

fn live(watermark: u64) -> ReplicaView {
    let standing = Standing { watermark: Lsn(watermark), ..Standing::default() };
    ReplicaView { in_rotation: true, live: true, standing, ..ReplicaView::default() }
}

fn counts(replicas: &[ReplicaView], reads: usize) -> Vec<usize> {
    let rotation = Rotation::new(strategy::Strategy::RoundRobin, 1);
    let mut counts = vec![0; replicas.len()];
    for _ in 0..reads {
        if let Route::Replica(index) = rotation.choose(|turn| route(Preference::Any, replicas, turn, false)) {
            counts[index] += 1;
        }
    }
    counts
}

#[test]
fn a_thousand_reads_are_334_333_333_and_500_500_without_one() {
    assert_eq!(counts(&[live(1); 3], 1000), [334, 333, 333]);
    let down = ReplicaView { in_rotation: false, ..live(1) };
    assert_eq!(counts(&[live(1), down, live(1)], 1000), [500, 0, 500]);
}

fn at_least(lsn: u64) -> Preference {
    Preference::AtLeast(Token::of_read(Lsn(lsn), None))
}

#[test]
fn a_token_goes_to_who_has_it_or_may_then_waits_then_asks_all_then_gives_up() {
    let token = at_least(10);
    let fresh = |view: ReplicaView| ReplicaView { is_fresh: true, ..view };
    let asked = |view: ReplicaView| ReplicaView { asked: true, ..view };
    let behind = fresh(live(9));
    let of = |views: &[ReplicaView], last, may_wait| route(token, views, &after(last), may_wait);
    assert_eq!(of(&[behind, live(10), behind], Some(1), true), Route::Replica(1), "known to have it");
    assert_eq!(of(&[live(9), live(10), behind], Some(1), true), Route::Replica(0), "it may by now");
    assert_eq!(of(&[asked(live(9)), behind, behind], Some(0), true), Route::Wait);
    assert_eq!(of(&[asked(live(9)), behind, behind], Some(0), false), Route::Replica(1), "to be sure");
    assert_eq!(of(&[asked(behind); 3], Some(0), false), Route::Leader(FallbackReason::Behind));
    let moved = asked(live(11));
    assert_eq!(of(&[asked(behind), moved, asked(behind)], Some(1), true), Route::Replica(1));
}

#[test]
fn a_replica_of_another_history_is_not_even_asked() {
    let history = |timeline| Some(History { system: 5, timeline });
    let of = |timeline| {
        let standing = Standing { watermark: Lsn(99), xid: None, history: history(timeline) };
        ReplicaView { standing, ..live(0) }
    };
    let token = Preference::AtLeast(Token::of_read(Lsn(10), history(2)));
    assert_eq!(route(token, &[of(1), of(2)], &after(Some(1)), true), Route::Replica(1));
    assert_eq!(route(token, &[of(1); 2], &after(None), true), Route::Leader(FallbackReason::History));
    assert_eq!(route(Preference::Any, &[of(1)], &after(None), true), Route::Replica(0));
}

#[test]
fn without_a_replica_the_leader_answers_and_says_why() {
    let of = |replica: ReplicaView| route(Preference::Any, &[replica], &after(None), true);
    assert_eq!(of(ReplicaView::default()), Route::Leader(FallbackReason::AllDown));
    assert_eq!(of(ReplicaView { live: false, ..live(1) }), Route::Leader(FallbackReason::Copying));
    assert_eq!(of(ReplicaView { failed: true, ..live(1) }), Route::Leader(FallbackReason::AllDown));
    assert_eq!(route(Preference::Any, &[], &after(None), true), Route::Leader(FallbackReason::AllDown));
    let drained = ReplicaView { drained: true, ..live(1) };
    assert_eq!(of(drained), Route::Leader(FallbackReason::Drained));
    let one_left = [drained, ReplicaView { live: false, ..live(1) }];
    assert_eq!(route(Preference::Any, &one_left, &after(None), true), Route::Leader(FallbackReason::Copying));
    assert_eq!(of(ReplicaView { lagging: true, ..live(1) }), Route::Leader(FallbackReason::Lagging));
    let failed = ReplicaView { failed: true, ..live(1) };
    let two_failed = [failed, failed, live(1)];
    assert_eq!(
        route(Preference::Any, &two_failed, &after(None), true),
        Route::Leader(FallbackReason::Failed)
    );
}

fn views() -> impl Strategy<Value = Vec<ReplicaView>> {
    let history = prop::option::of((1u32..3).prop_map(|timeline| History { system: 1, timeline }));
    let standing = (0u64..4, history).prop_map(|(watermark, history)| Standing {
        watermark: Lsn(watermark),
        xid: None,
        history,
    });
    let view = (any::<[bool; 7]>(), standing, 0usize..3).prop_map(|(flags, standing, in_flight)| {
        let [in_rotation, drained, lagging, live, asked, failed, is_fresh] = flags;
        ReplicaView { in_rotation, drained, lagging, live, asked, failed, standing, is_fresh, in_flight }
    });
    prop::collection::vec(view, 0..6)
}

fn preferences() -> impl Strategy<Value = Preference> {
    let history = prop::option::of((1u32..3).prop_map(|timeline| History { system: 1, timeline }));
    let token = (0u64..5, history).prop_map(|(lsn, history)| Token::of_read(Lsn(lsn), history));
    prop_oneof![Just(Preference::Any), token.prop_map(Preference::AtLeast)]
}

proptest! {
    #[test]
    fn a_chosen_replica_is_usable_and_can_help(
        preference in preferences(), views in views(), last in prop::option::of(0usize..6), may_wait: bool,
        strategy in prop::sample::select(strategy::Strategy::ALL.to_vec()), random: u64,
    ) {
        match route(preference, &views, &Turn { strategy, last, random }, may_wait) {
            Route::Replica(index) => {
                let chosen = views[index];
                prop_assert!(chosen.in_rotation && !chosen.drained && chosen.live);
                prop_assert!(!chosen.lagging && !chosen.failed);
                let Preference::AtLeast(token) = preference else {
                    prop_assert!(!chosen.asked);
                    return Ok(());
                };
                prop_assert!(!token.is_foreign_to(chosen.standing.history));
                let has_it = |r: &ReplicaView| token.is_met_by(&r.standing);
                prop_assert!(has_it(&chosen) || !chosen.asked);
                // One known to be behind only when there is none better, and no patience left.
                let known_to_be_behind = chosen.is_fresh && !has_it(&chosen);
                let better = |r: &ReplicaView| r.is_usable() && has_it(r);
                prop_assert!(!known_to_be_behind || !may_wait && !views.iter().any(better));
            }
            Route::Wait => prop_assert!(may_wait && preference != Preference::Any),
            Route::Leader(_) => {
                let wanted = |r: &&ReplicaView| r.may_serve(preference) && !r.asked;
                let two_failed = views.iter().filter(|r| r.failed).count() >= MAX_FAILURES;
                prop_assert!(two_failed || views.iter().find(wanted).is_none(), "one was not asked");
            }
        }
    }

    #[test]
    fn shares_of_a_steady_set_differ_by_at_most_one(views in views(), reads in 0usize..200) {
        let fresh: Vec<_> = views.iter().map(|v| ReplicaView { asked: false, failed: false, ..*v }).collect();
        let counts = counts(&fresh, reads);
        let shares = || fresh.iter().zip(&counts).filter(|(v, _)| v.is_usable()).map(|(_, c)| *c);
        if let (Some(least), Some(most)) = (shares().min(), shares().max()) {
            prop_assert!(most - least <= 1);
            prop_assert_eq!(shares().sum::<usize>(), reads);
        }
    }
}

/// What happens to a system while one caller writes and reads. Replicas are numbers from 0 to 2.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The caller writes; other writers' records may stand between the commit and the position.
    Write { beyond: u64 },
    /// Somebody else commits.
    Commit,
    /// A replica applies so many commits.
    Apply { replica: usize, commits: usize },
    /// A replica is killed and loses what it had not flushed; its rows and its watermark go together.
    Crash { replica: usize, lost: usize },
    /// Another one that has nothing stands in a replica's place.
    Swap { replica: usize },
    /// What is known of a replica is made up: an old push, or one of another daemon.
    Rumour { replica: usize, watermark: u64 },
    /// The router hears how a replica is.
    Probe { replica: usize },
    /// An operator drains a replica or returns it.
    Drain { replica: usize, drained: bool },
    /// A replica can't be reached, or can be again.
    Cut { replica: usize, cut: bool },
    /// The caller reads.
    Read,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let replica = || 0usize..3;
    let event = prop_oneof![
        2 => (0u64..25).prop_map(|beyond| Event::Write { beyond }),
        2 => Just(Event::Commit),
        6 => (replica(), 1usize..4).prop_map(|(replica, commits)| Event::Apply { replica, commits }),
        1 => (replica(), 1usize..4).prop_map(|(replica, lost)| Event::Crash { replica, lost }),
        1 => replica().prop_map(|replica| Event::Swap { replica }),
        1 => (replica(), 0u64..400).prop_map(|(replica, watermark)| Event::Rumour { replica, watermark }),
        3 => replica().prop_map(|replica| Event::Probe { replica }),
        1 => (replica(), any::<bool>()).prop_map(|(replica, drained)| Event::Drain { replica, drained }),
        1 => (replica(), any::<bool>()).prop_map(|(replica, cut)| Event::Cut { replica, cut }),
        8 => Just(Event::Read),
    ];
    prop::collection::vec(event, 1..80)
}

/// A leader whose commit number n stands at 10 n in its log, and three replicas that have the first commits.
struct Model {
    commits: usize,
    log_end: u64,
    applied: [usize; 3],
    reachable: [bool; 3],
    views: [ReplicaView; 3],
    tokens: Tokens,
    rotation: Rotation,
    /// The caller's newest own commit, and the newest state that the caller was shown.
    own: usize,
    shown: usize,
    reads: usize,
}

impl Model {
    fn new(strategy: strategy::Strategy) -> Self {
        Self {
            commits: 0,
            log_end: 0,
            applied: [0; 3],
            reachable: [true; 3],
            views: [live(0); 3],
            tokens: Tokens::default(),
            rotation: Rotation::new(strategy, 1),
            own: 0,
            shown: 0,
            reads: 0,
        }
    }

    fn standing(&self, replica: usize) -> Standing {
        let commits = self.applied[replica];
        let xid = u32::try_from(commits).ok().filter(|xid| *xid > 0);
        Standing { watermark: Lsn(commits as u64 * 10), xid, history: None }
    }

    fn commit(&mut self) {
        // A commit record stands behind everything that was written before.
        self.commits = usize::try_from(self.log_end / 10).unwrap() + 1;
        self.log_end = self.commits as u64 * 10;
    }

    fn happen(&mut self, event: Event, consistency: Consistency) {
        match event {
            Event::Commit => self.commit(),
            Event::Write { beyond } => {
                self.commit();
                self.own = self.commits;
                let xid = u32::try_from(self.own).ok();
                self.log_end += beyond;
                self.tokens.wrote(Token::of_write(Lsn(self.log_end), xid, None));
            }
            Event::Apply { replica, commits } => {
                self.applied[replica] = (self.applied[replica] + commits).min(self.commits);
            }
            Event::Crash { replica, lost } => {
                self.applied[replica] = self.applied[replica].saturating_sub(lost);
            }
            Event::Swap { replica } => self.applied[replica] = 0,
            Event::Rumour { replica, watermark } => {
                self.views[replica].standing.watermark = Lsn(watermark);
                self.views[replica].is_fresh = true;
            }
            Event::Probe { replica } => {
                self.views[replica].in_rotation = self.reachable[replica];
                self.views[replica].standing = self.standing(replica);
            }
            Event::Drain { replica, drained } => self.views[replica].drained = drained,
            Event::Cut { replica, cut } => self.reachable[replica] = !cut,
            Event::Read => self.read(consistency),
        }
    }

    /// One read as the database edge makes it: ask, judge by what came with the answer, ask elsewhere.
    fn read(&mut self, consistency: Consistency) {
        let preference = Preference::from(self.tokens.demand(consistency));
        self.views.iter_mut().for_each(|view| (view.asked, view.failed) = (false, false));
        let mut may_wait = true;
        let served = loop {
            match self.rotation.choose(|turn| route(preference, &self.views, turn, may_wait)) {
                Route::Replica(replica) if !self.reachable[replica] => {
                    (self.views[replica].failed, self.views[replica].in_rotation) = (true, false);
                }
                Route::Replica(replica) => {
                    let standing = self.standing(replica);
                    (self.views[replica].standing, self.views[replica].asked) = (standing, true);
                    let is_enough = |token: Token| token.is_met_by(&standing);
                    if matches!(preference, Preference::Any)
                        || self.tokens.demand(consistency).is_some_and(is_enough)
                    {
                        self.tokens.saw(Token::of_read(standing.watermark, None));
                        break self.applied[replica];
                    }
                }
                Route::Wait => may_wait = false,
                Route::Leader(_) => {
                    self.tokens.saw(Token::of_read(Lsn(self.log_end), None));
                    break self.commits;
                }
            }
        };
        self.reads += 1;
        match consistency {
            Consistency::None => {}
            Consistency::ReadYourWrites => assert!(served >= self.own, "{served} lacks {}", self.own),
            Consistency::Monotonic => {
                assert!(served >= self.own, "{served} lacks the own write {}", self.own);
                assert!(served >= self.shown, "{served} is older than {}", self.shown);
            }
        }
        self.shown = self.shown.max(served);
    }
}

proptest! {
    /// Whatever happens to the replicas and to what is known of them: a caller with tokens never misses an own write, and
    /// never travels back.
    #[test]
    fn nobody_loses_a_write_or_travels_back(
        events in events(), strategy in prop::sample::select(strategy::Strategy::ALL.to_vec()), monotonic: bool,
    ) {
        let consistency = if monotonic { Consistency::Monotonic } else { Consistency::ReadYourWrites };
        let mut model = Model::new(strategy);
        events.into_iter().for_each(|event| model.happen(event, consistency));
    }
}

#[test]
fn without_tokens_the_same_model_shows_a_stale_read() {
    let mut model = Model::new(strategy::Strategy::RoundRobin);
    let events =
        [Event::Write { beyond: 0 }, Event::Apply { replica: 0, commits: 1 }, Event::Read, Event::Read];
    events.into_iter().for_each(|event| model.happen(event, Consistency::None));
    // The second read came from a replica that has nothing yet.
    assert_eq!((model.own, model.shown, model.reads), (1, 1, 2));
    assert_eq!(model.tokens.seen, Some(Token::of_read(Lsn(10), None)));
    let stale = model.views[1];
    assert!(stale.asked && stale.standing.watermark < Lsn(10));
}
