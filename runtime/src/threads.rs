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
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("edge-vit-model-{index}"))
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
