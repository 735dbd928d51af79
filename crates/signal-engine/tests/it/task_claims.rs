//! Two engines of one deployment: the channel is on one, the claim of its task is kept by the other.

use std::collections::BTreeMap;

use lianmai_protocol::{MonoTime, Now, WallTime};
use lianmai_signal_engine::task::{Address, Claim, Claimed, Holder};
use lianmai_signal_engine::{
    Answer, AskId, Engine, EngineConfig, Input, Output, QueryId, Question, Record, Restored,
    RowKey, RowOp, TaskPolicy,
};

/// An engine that keeps claims, and its rows.
struct Keeper {
    engine: Engine,
    now: Now,
    rows: BTreeMap<RowKey, Record>,
    held: Vec<(AskId, Vec<RowOp>)>,
    last_query: u64,
}

fn engine() -> Engine {
    let config = EngineConfig { tasks: Some(TaskPolicy::default()), ..EngineConfig::default() };
    Engine::new(config, [1; 32])
}

fn claim(channel: &str, life: u64, url: &str) -> Claim {
    let holder = Holder {
        appkey: "demo".parse().expect("valid"),
        channel: channel.parse().expect("valid"),
        task: "a".parse().expect("valid"),
        life,
    };
    Claim { key: Address::parse(url).expect("valid").key(), holder }
}

impl Keeper {
    fn new() -> Keeper {
        Keeper {
            engine: engine(),
            now: Now { mono: MonoTime(86_400_000), wall: WallTime(1_800_000_000_000) },
            rows: BTreeMap::new(),
            held: Vec::new(),
            last_query: 0,
        }
    }

    fn apply(&mut self, ops: Vec<RowOp>) {
        for op in ops {
            match op {
                RowOp::Put(key, record) => {
                    let record = Record::read(&key.row, &record.text()).expect("readable");
                    self.rows.insert(key, record);
                }
                RowOp::Drop(key) => _ = self.rows.remove(&key),
                RowOp::DropChannel(_) | RowOp::AppendEvent(..) | RowOp::AppendHistory(..) => {}
            }
        }
    }

    /// The answer that comes at once, if there is one.
    fn input(&mut self, input: Input) -> Option<Claimed> {
        self.engine.handle(self.now, input);
        let mut said = None;
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Ask { id, question: Question::Store(ops) } => self.held.push((id, ops)),
                Output::Store(ops) => self.apply(ops),
                Output::Claimed { claimed, .. } => said = Some(claimed),
                other => panic!("{other:?}"),
            }
        }
        said
    }

    fn ask(&mut self, claim: &Claim) -> Option<Claimed> {
        self.last_query += 1;
        self.input(Input::Claim { query: QueryId(self.last_query), claim: claim.clone() })
    }

    fn store(&mut self, stored: bool) -> Option<Claimed> {
        let (id, ops) = self.held.remove(0);
        if stored {
            self.apply(ops);
        }
        self.input(Input::Answer { id, answer: Answer::Stored(stored) })
    }

    fn advance(&mut self, ms: u64) {
        self.now.mono = self.now.mono + ms;
        self.now.wall.0 += ms;
        assert_eq!(self.input(Input::Tick), None);
    }

    fn crash(&mut self) {
        self.engine = engine();
        self.held.clear();
        self.now.mono.0 = 86_400_000;
        let restored = Restored::of(self.rows.clone(), false);
        assert!(restored.invalid_rows.is_empty());
        assert_eq!(self.input(Input::Restore(Box::new(restored))), None);
    }
}

const BUSY: Claimed = Claimed::Busy { retry_after_ms: None };

fn busy(ms: u64) -> Option<Claimed> {
    Some(Claimed::Busy { retry_after_ms: Some(ms) })
}

/// Proves TSK-7.
#[test]
fn tsk_7_a_claim_is_granted_to_one_task_after_its_write() {
    let mut keeper = Keeper::new();
    let (one, two) = (claim("one", 1, "rtmp://h/a/b"), claim("two", 2, "rtmp://h/a/b?x"));
    assert_eq!(keeper.ask(&one), None, "not before it is written down");
    assert_eq!(keeper.ask(&two), Some(BUSY));
    assert_eq!(keeper.store(true), Some(Claimed::Granted));
    assert_eq!(keeper.ask(&one), Some(Claimed::Granted), "asked again");
    // A release by another task has no effect, and another life of the task is another holder.
    keeper.input(Input::Release { claim: two.clone(), rest: false });
    let younger = claim("one", 9, "rtmp://h/a/b");
    keeper.input(Input::Release { claim: younger.clone(), rest: false });
    assert_eq!((keeper.ask(&two), keeper.ask(&younger)), (Some(BUSY), Some(BUSY)));
    keeper.input(Input::Release { claim: one.clone(), rest: true });
    assert_eq!((keeper.ask(&two), keeper.ask(&one)), (busy(10_000), busy(10_000)));
    keeper.advance(10_000);
    assert_eq!(keeper.ask(&two), None);
    assert_eq!(keeper.store(false), Some(Claimed::Unavailable), "it has no effect");
    assert_eq!(keeper.ask(&one), None);
    assert_eq!(keeper.store(true), Some(Claimed::Granted));
    // An address that was never pushed to does not rest.
    keeper.input(Input::Release { claim: one, rest: false });
    assert_eq!(keeper.ask(&two), None);
    assert_eq!(keeper.store(true), Some(Claimed::Granted));
    assert_eq!(keeper.rows.len(), 1);
}

/// Proves TSK-7, TSK-12.
#[test]
fn tsk_12_after_a_crash_a_claim_waits_for_its_holder_as_long_as_it_would_rest() {
    let mut keeper = Keeper::new();
    let (one, two) = (claim("one", 1, "rtmp://h/a/b"), claim("two", 2, "rtmp://h/a/b"));
    assert_eq!(keeper.ask(&one), None);
    assert_eq!(keeper.store(true), Some(Claimed::Granted));
    keeper.crash();
    assert_eq!(keeper.ask(&two), busy(10_000));
    keeper.advance(4_000);
    assert_eq!(keeper.ask(&one), Some(Claimed::Granted), "it lives on");
    keeper.advance(60_000);
    assert_eq!(keeper.ask(&two), Some(BUSY));
    keeper.crash();
    keeper.advance(9_999);
    assert_eq!(keeper.ask(&two), busy(1));
    keeper.advance(1);
    assert_eq!(keeper.ask(&two), None, "no task claims it");
    assert_eq!(keeper.store(true), Some(Claimed::Granted));
    assert_eq!(keeper.ask(&one), Some(BUSY), "too late");
    keeper.input(Input::Release { claim: two, rest: true });
    // A claim whose rest is over is forgotten.
    keeper.advance(70_000);
    assert!(keeper.rows.is_empty());
}

/// Proves TSK-7.
#[test]
fn tsk_7_a_late_answer_releases_the_claim() {
    let mut keeper = Keeper::new();
    let one = claim("one", 1, "rtmp://h/a/b");
    assert_eq!(keeper.ask(&one), None);
    // The task that asked has given up meanwhile.
    keeper.input(Input::Release { claim: one.clone(), rest: false });
    assert_eq!(keeper.store(true), Some(Claimed::Unavailable));
    let two = claim("two", 2, "rtmp://h/a/b");
    assert_eq!(keeper.ask(&two), None, "it is free");
}
