//! The threads of a model.

/// Where a model runs: on the thread that calls it, or on several of its own, which all clones share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads {
    #[cfg(feature = "threads")]
    pool: Option<std::sync::Arc<rayon::ThreadPool>>,
}

impl Threads {
    /// `count` threads; with 1, the one that calls.
    #[cfg(feature = "threads")]
    pub(crate) fn new(count: usize) -> Result<Self, crate::Error> {
        if count <= 1 {
            return Ok(Self::default());
        }
        let cores = cores();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("edge-vit-model-{index}"))
            .start_handler(move |index| {
                if cores.len() == count {
                    stay_on(cores[index]);
                }
            })
            .build()
            .map_err(|error| crate::Error::Threads { count, reason: error.to_string() })?;
        Ok(Self { pool: Some(pool.into()) })
    }

    /// Does `work` on one of them, where kernels find the others.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        #[cfg(feature = "threads")]
        if let Some(pool) = &self.pool {
            return pool.install(work);
        }
        work()
    }
}

/// The cores that this process may run on; none where that is not known.
#[cfg(all(feature = "threads", any(target_os = "android", target_os = "linux")))]
fn cores() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::Pid;

    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

/// Keeps this thread on `core`.
///
/// Threads of a model wait for one another many times in a picture. A kernel that wakes them after a rest may put two on one core,
/// the other ones being asleep, and leave them there for as long as a picture takes.
#[cfg(all(feature = "threads", any(target_os = "android", target_os = "linux")))]
fn stay_on(core: usize) {
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;

    let mut set = CpuSet::new();
    let kept = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    if let Err(error) = kept {
        log::debug!("a thread of the model is not kept on core {core}: {error}");
    }
}

#[cfg(all(feature = "threads", not(any(target_os = "android", target_os = "linux"))))]
fn cores() -> Vec<usize> {
    Vec::new()
}

#[cfg(all(feature = "threads", not(any(target_os = "android", target_os = "linux"))))]
fn stay_on(_: usize) {}

#[cfg(all(test, feature = "threads", target_os = "linux"))]
mod tests {
    use nix::sched::sched_getaffinity;
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn as_many_threads_as_cores_have_one_each() {
        let cores = cores();
        let threads = Threads::new(cores.len()).unwrap();
        let Some(pool) = &threads.pool else { return eprintln!("skipped: there is one core") };
        let mut kept: Vec<usize> = pool
            .broadcast(|_| {
                let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
                let own: Vec<usize> = cores.iter().copied().filter(|core| set.is_set(*core).unwrap()).collect();
                assert_eq!(own.len(), 1, "{own:?}");
                own[0]
            })
            .into_iter()
            .collect();
        kept.sort_unstable();
        assert_eq!(kept, cores);
    }

    #[test]
    fn other_numbers_of_threads_go_where_there_is_room() {
        let cores = cores();
        let threads = Threads::new(cores.len() + 1).unwrap();
        let free = threads.run(|| sched_getaffinity(Pid::from_raw(0)).unwrap());
        assert!(cores.iter().all(|core| free.is_set(*core).unwrap()));
    }
}
