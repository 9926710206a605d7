//! Training: the loop, the schedule, the log, and what is kept so that a killed run goes on.

pub mod record;
