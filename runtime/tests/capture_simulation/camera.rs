//! A camera that does what cameras do in months, by a script from a seed, and keeps its own account of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use edge_vit::capture::{Bell, Clock, Open, Options, Payload, Shot, Source, SourceError};

use crate::clock::SimulatedClock;

/// The time between two frames.
pub(crate) const INTERVAL: Duration = Duration::from_micros(33_333);
/// The most by which a frame is late.
pub(crate) const JITTER: Duration = Duration::from_millis(4);
/// How long an opening takes when nothing is wrong.
const ORDINARY_OPENING: Duration = Duration::from_millis(200);
/// Shots between two faults of the camera, at most.
const QUIET: u64 = 2000;

/// Steele, Lea and Flood's SplitMix64: one run of a seed is as the next.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    /// A duration from `shortest` to below `longest`, to the nanosecond: no two moments fall together.
    pub(crate) fn duration(&mut self, shortest: Duration, longest: Duration) -> Duration {
        shortest + Duration::from_nanos(self.below((longest - shortest).as_nanos() as u64))
    }

    pub(crate) fn millis(&mut self, shortest: u64, longest: u64) -> Duration {
        self.duration(Duration::from_millis(shortest), Duration::from_millis(longest))
    }
}

/// What the camera knows to have given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Whole shots in time.
    pub(crate) whole: u64,
    /// Damaged shots in time.
    pub(crate) damaged: u64,
    /// Whole shots by which the shots before were given up already.
    pub(crate) late: u64,
    /// Times that a limit passed without a whole shot.
    pub(crate) stalls: u64,
    /// Openings that succeeded within the limit, but for the first.
    pub(crate) reopened: u64,
    /// Openings that came while a thread hung, once for each such thread.
    pub(crate) abandoned: u64,
    /// Times that shots ceased to come: stalls and losses of a live stream, with what followed until it was live again.
    pub(crate) outages: u64,
    /// Times that it was unplugged.
    pub(crate) unplugged: u64,
    /// Openings that failed.
    pub(crate) refused: u64,
}

struct World {
    dice: Dice,
    account: Account,
    /// Before this moment no opening succeeds.
    absent_until: Duration,
    /// How long the next opening takes.
    next_opening: Duration,
    /// The streams and openings that have not ended: their number, and whether a later opening has counted them.
    alive: Vec<(u64, bool)>,
    opened: u64,
    down: bool,
    /// The last whole shots before stalls that the watcher has not seen yet.
    stalls: Vec<Duration>,
}

impl World {
    /// No more shots come.
    fn ceases(&mut self) {
        self.account.outages += u64::from(!std::mem::replace(&mut self.down, true));
    }
}

/// The camera: opens streams.
pub(crate) struct FakeCamera {
    clock: SimulatedClock,
    options: Options,
    world: Arc<Mutex<World>>,
    /// Rings when a stall begins.
    pub(crate) stalled: Arc<dyn Bell>,
}

impl FakeCamera {
    pub(crate) fn new(clock: &SimulatedClock, options: Options, seed: u64) -> Arc<Self> {
        let world = World {
            dice: Dice::new(seed),
            account: Account::default(),
            absent_until: Duration::ZERO,
            next_opening: ORDINARY_OPENING,
            alive: Vec::new(),
            opened: 0,
            down: false,
            stalls: Vec::new(),
        };
        let world = Arc::new(Mutex::new(world));
        Arc::new(Self { clock: clock.clone(), options, world, stalled: clock.bell() })
    }

    pub(crate) fn account(&self) -> Account {
        lock(&self.world).account.clone()
    }

    /// The moments of the last whole shots before stalls that began since the last call.
    pub(crate) fn stalls(&self) -> Vec<Duration> {
        std::mem::take(&mut lock(&self.world).stalls)
    }

    /// Whether shots come, and no limit has begun to pass.
    pub(crate) fn is_live(&self) -> bool {
        !lock(&self.world).down
    }

    /// When a frame was exposed, and whether its bytes can be decoded.
    pub(crate) fn read(shot: &Shot) -> (Duration, bool) {
        let Payload::Encoded(bytes) = &shot.payload else { panic!("the camera gives encoded frames") };
        let exposed = shot.time.duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch");
        (exposed, bytes[0] == 0)
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open for FakeCamera {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        let began = self.clock.now();
        let (number, takes) = {
            let mut world = lock(&self.world);
            let World { account, alive, .. } = &mut *world;
            for (_, counted) in alive.iter_mut().filter(|(_, counted)| !counted) {
                *counted = true;
                account.abandoned += 1;
            }
            world.opened += 1;
            let number = world.opened;
            world.alive.push((number, false));
            (number, std::mem::replace(&mut world.next_opening, ORDINARY_OPENING))
        };
        let life = Life { number, world: Arc::clone(&self.world) };
        let hangs = takes > self.options.opening_limit;
        if hangs {
            lock(&self.world).account.stalls += 1;
        }
        self.clock.sleep(takes);
        let now = self.clock.now();
        let mut world = lock(&self.world);
        if now < world.absent_until && !hangs {
            world.account.refused += 1;
            drop(world);
            return Err(SourceError::Open("there is no camera 0".to_owned()));
        }
        world.account.reopened += u64::from(began > Duration::ZERO && !hangs);
        let quiet = 1 + world.dice.below(QUIET);
        let interruptible = world.dice.below(2) == 0;
        let bell = self.clock.bell();
        Ok(Box::new(Stream {
            life,
            clock: self.clock.clone(),
            options: self.options,
            stalled: Arc::clone(&self.stalled),
            interrupt: interruptible.then(|| Arc::clone(&bell)),
            bell,
            late: hangs,
            next: now + INTERVAL,
            last_whole: None,
            quiet,
            damaged_until: Duration::ZERO,
            name: "camera 0".into(),
        }))
    }

    fn name(&self) -> Arc<str> {
        "camera 0".into()
    }
}

/// Tells the camera when a thread has let go of it.
struct Life {
    number: u64,
    world: Arc<Mutex<World>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        lock(&self.world).alive.retain(|(number, _)| *number != self.number);
    }
}

struct Stream {
    life: Life,
    clock: SimulatedClock,
    options: Options,
    stalled: Arc<dyn Bell>,
    bell: Arc<dyn Bell>,
    interrupt: Option<Arc<dyn Bell>>,
    /// Whether its shots are not wanted any more: it was left behind.
    late: bool,
    /// When the next frame is exposed. The driver keeps every frame that is not read.
    next: Duration,
    last_whole: Option<Duration>,
    /// Shots until the next fault.
    quiet: u64,
    damaged_until: Duration,
    name: Arc<str>,
}

impl Stream {
    /// Lets something go wrong.
    fn fault(&mut self) -> Result<(), SourceError> {
        let world = Arc::clone(&self.life.world);
        let mut guard = lock(&world);
        let dice = &mut guard.dice;
        self.quiet = 1 + dice.below(QUIET);
        let (absent, opening) = match dice.below(16) {
            0..6 => {
                self.next += dice.millis(100, 8_000);
                return Ok(());
            }
            6..10 => {
                self.damaged_until = self.clock.now() + dice.millis(50, 3_000);
                return Ok(());
            }
            10..14 => (dice.millis(0, 30_000), ORDINARY_OPENING),
            _ => (Duration::ZERO, dice.millis(500, 25_000)),
        };
        drop(guard);
        self.clock.sleep(INTERVAL / 2);
        let mut guard = lock(&world);
        guard.account.unplugged += 1;
        guard.ceases();
        guard.absent_until = self.clock.now() + absent;
        guard.next_opening = opening;
        Err(SourceError::Lost { source_name: self.name.to_string(), reason: "no such device".to_owned() })
    }

    /// Whether the limit for a whole shot passes before `moment`; accounts for it when it does.
    fn gives_up_before(&mut self, moment: Duration, world: &mut World) -> bool {
        let Some(last) = self.last_whole else { return false };
        if moment <= last + self.options.stall_limit {
            return false;
        }
        world.account.stalls += 1;
        world.ceases();
        world.stalls.push(last);
        true
    }
}

impl Source for Stream {
    fn next(&mut self) -> Result<Option<Shot>, SourceError> {
        let world = Arc::clone(&self.life.world);
        if !self.late && self.last_whole.is_some() && self.clock.now() >= self.damaged_until {
            self.quiet -= 1;
            if self.quiet == 0 {
                self.fault()?;
            }
        }
        let mut guard = lock(&world);
        let due = self.next + guard.dice.duration(Duration::ZERO, JITTER);
        let (damaged, undecodable) = (guard.dice.below(500) == 0, guard.dice.below(500) == 0);
        let length = 1 + guard.dice.below(4096) as usize;
        let given_up = !self.late && self.gives_up_before(due, &mut guard);
        drop(guard);
        if given_up {
            self.late = true;
            self.stalled.ring();
        }
        if due > self.clock.now() {
            self.bell.wait(self.bell.rings(), Some(due));
        }
        if self.clock.now() < due {
            // Only an interruption ends a wait before its time.
            return Ok(None);
        }
        self.next += INTERVAL;
        let damaged = damaged || due < self.damaged_until;
        let mut guard = lock(&world);
        let account = &mut guard.account;
        match (damaged, self.late) {
            (true, true) => {}
            (true, false) => account.damaged += 1,
            (false, true) => account.late += 1,
            (false, false) => {
                account.whole += 1;
                guard.down = false;
            }
        }
        drop(guard);
        if damaged {
            return Err(SourceError::Damaged("it stops in the middle".to_owned()));
        }
        self.last_whole = Some(self.clock.now());
        let mut bytes = vec![0; length];
        bytes[0] = u8::from(undecodable);
        let time = SystemTime::UNIX_EPOCH + due;
        Ok(Some(Shot { payload: Payload::Encoded(bytes), name: Arc::clone(&self.name), time }))
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send>> {
        let bell = Arc::clone(self.interrupt.as_ref()?);
        Some(Box::new(move || bell.ring()))
    }
}
